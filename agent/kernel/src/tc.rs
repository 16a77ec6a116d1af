//! What takes a link's packets away before the packet filter sees them.

use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{
        TcAction, TcActionAttribute, TcActionMirrorOption, TcActionOption, TcAttribute,
        TcFilterMatchAllOption, TcFilterU32Option, TcHandle, TcMessage, TcMirrorActionType,
        TcOption,
    },
};

use crate::client::{Client, ClientError};

/// Of `ingress` and `clsact` alike: what is entered.
const INGRESS: u32 = 0xffff_fff2;

/// Index of the link that packets which enter link `index` are sent on to. Such
/// packets pass by the packet filter's ingress hook, also when they come back:
/// the `bandwidth` plugin limits so what a pod sends.
pub(crate) fn redirect(client: &mut Client, index: u32) -> Result<Option<u32>, ClientError> {
    let mut message = TcMessage::default();
    // Indexes are positive in the kernel too.
    message.header.index = index.cast_signed();
    message.header.parent = TcHandle::from(INGRESS);
    let filters = client.dump_of(&RouteNetlinkMessage::GetTrafficFilter(message))?;
    Ok(filters.iter().find_map(|filter| match filter {
        RouteNetlinkMessage::NewTrafficFilter(filter) => {
            filter.attributes.iter().find_map(of_filter)
        }
        _ => None,
    }))
}

fn of_filter(attribute: &TcAttribute) -> Option<u32> {
    let TcAttribute::Options(options) = attribute else {
        return None;
    };
    options.iter().find_map(|option| match option {
        TcOption::U32(TcFilterU32Option::Action(actions))
        | TcOption::MatchAll(TcFilterMatchAllOption::Action(actions)) => {
            actions.iter().find_map(of_action)
        }
        _ => None,
    })
}

fn of_action(action: &TcAction) -> Option<u32> {
    action.attributes.iter().find_map(|attribute| {
        let TcActionAttribute::Options(options) = attribute else {
            return None;
        };
        options.iter().find_map(|option| match option {
            TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))
                if matches!(
                    mirror.eaction,
                    TcMirrorActionType::EgressRedir | TcMirrorActionType::IngressRedir
                ) =>
            {
                Some(mirror.ifindex)
            }
            _ => None,
        })
    })
}
