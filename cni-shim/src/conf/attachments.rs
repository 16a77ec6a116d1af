//! `cni.dev/valid-attachments`: what GC is to leave alone.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{invalid, typed};
use crate::{
    env,
    error::{CniError, Code},
};

/// Not `cni.dev/attachments`, which libcni sends too, and which the
/// specification does not know.
pub(super) const KEY: &str = "cni.dev/valid-attachments";

/// A sandbox's interface.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(crate) struct Attachment {
    #[serde(rename = "containerID")]
    pub(crate) container_id: String,
    pub(crate) ifname: String,
}

/// The list. A runtime that gives none, or `null`, has not said that nothing
/// is valid: that would take the capture of every running pod away.
pub(super) fn parse(raw: Option<&RawValue>) -> Result<Vec<Attachment>, CniError> {
    let list: Option<Vec<Attachment>> = typed(KEY, raw)?;
    let list = list.ok_or_else(|| {
        CniError::new(
            Code::Config,
            format!("{KEY} is missing in the network configuration, so nothing is removed"),
        )
        .details("a container runtime that calls GC must list every attachment that is valid")
    })?;
    for attachment in &list {
        judge(attachment)?;
    }
    Ok(list)
}

fn judge(attachment: &Attachment) -> Result<(), CniError> {
    let Attachment {
        container_id,
        ifname,
    } = attachment;
    let judged = if container_id.is_empty() || ifname.is_empty() {
        Err("is empty")
    } else {
        env::container_id(container_id).and_then(|()| env::ifname(ifname))
    };
    let shown = || format!("{container_id:?} {ifname:?}");
    judged.map_err(|why| invalid(KEY, &shown(), why))
}
