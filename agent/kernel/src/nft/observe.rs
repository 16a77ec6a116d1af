//! Reads what is there.

use std::collections::BTreeMap;

use super::{
    attributes::Malformed,
    codec::{
        decode::{self, In},
        encode, kind,
    },
    model::{Chain, Elements, Family, Hook, Ruleset, Set, Table, TableId},
    node::{pod_chain, pod_ruleset},
    owner,
};
use crate::{
    client::{Client, ClientError, Reply, Request},
    model::{Pod, Settings},
};

const NLM_F_ACK: u16 = 4;

/// The tables of ours in the client's namespace.
///
/// Read object by object: while somebody changes them it may see some before
/// and some after the change. What is equal was so when it was read.
pub(crate) fn observe(client: &mut Client, settings: &Settings) -> Result<Ruleset, ClientError> {
    let mut ruleset = Ruleset::default();
    for (id, table) in tables(client)? {
        if id.1 == settings.nft_table && table.comment == Some(owner(settings)) {
            let table = contents(client, &id, table)?;
            ruleset.tables.insert(id, table);
        }
    }
    Ok(ruleset)
}

/// All tables of the namespace, without what is in them.
pub(super) fn tables(client: &mut Client) -> Result<Vec<(TableId, Table)>, ClientError> {
    let all = encode::all(kind::GET_TABLE, Family::Other(0));
    read_all(&client.dump(&all)?, decode::table)
}

/// A table with everything in it.
fn contents(client: &mut Client, id: &TableId, mut table: Table) -> Result<Table, ClientError> {
    let (family, name) = (id.0, id.1.as_str());
    table.chains = chains(client, id)?;
    let sets = encode::set(kind::GET_SET, family, name, None);
    for set in listing(client, &sets, decode::set)?.into_iter().flatten() {
        if set.table == *id {
            let elements = elements(client, id, &set.name)?;
            let set_value = Set {
                elements,
                ..set.value
            };
            table.sets.insert(set.name, set_value);
        }
    }
    Ok(table)
}

/// A table's chains with their rules.
pub(super) fn chains(
    client: &mut Client,
    id: &TableId,
) -> Result<BTreeMap<String, Chain>, ClientError> {
    let (family, name) = (id.0, id.1.as_str());
    let mut chains = BTreeMap::new();
    for chain in hooks(client, family)? {
        if chain.table == *id {
            let hook = chain.value;
            let rules = Vec::new();
            chains.insert(chain.name, Chain { hook, rules });
        }
    }
    let request = encode::rules(kind::GET_RULE, family, name, None);
    for rule in listing(client, &request, decode::rule)? {
        let In { table, name, value } = rule;
        if let Some(chain) = chains.get_mut(&name).filter(|_| table == *id) {
            chain.rules.push(value);
        }
    }
    Ok(chains)
}

/// All chains of a family, without their rules.
pub(super) fn hooks(
    client: &mut Client,
    family: Family,
) -> Result<Vec<In<Option<Hook>>>, ClientError> {
    let request = encode::all(kind::GET_CHAIN, family);
    let chains = listing(client, &request, decode::chain)?;
    Ok(chains.into_iter().flatten().collect())
}

fn elements(
    client: &mut Client,
    (family, table): &TableId,
    set: &str,
) -> Result<Elements, ClientError> {
    let all = encode::element(kind::GET_ELEMENT, (*family, table), set, None);
    let messages = listing(client, &all, decode::elements)?;
    Ok(messages
        .into_iter()
        .flat_map(|message| message.value)
        .collect())
}

/// The part of the node's rules that is this pod's alone. Sets are those that
/// should be there; the pod's elements are those that are.
pub(crate) fn observe_pod(
    client: &mut Client,
    settings: &Settings,
    pod: &Pod,
    ipv6: bool,
) -> Result<Ruleset, ClientError> {
    let mut expected = pod_ruleset(settings, pod, ipv6);
    let chain_name = pod_chain(&pod.link.name);
    let mut ruleset = Ruleset::default();
    for (id, table) in &mut expected.tables {
        let (family, name) = (id.0, id.1.as_str());
        let mut requests = vec![
            encode::table(kind::GET_TABLE, family, name),
            encode::chain(kind::GET_CHAIN, family, name, &chain_name),
        ];
        for (set_name, set) in &mut table.sets {
            for key in std::mem::take(&mut set.elements).keys() {
                let of = (family, name);
                let element = Some((key.as_slice(), None));
                requests.push(encode::element(kind::GET_ELEMENT, of, set_name, element));
            }
        }
        for request in &mut requests {
            request.flags |= NLM_F_ACK;
        }
        let replies = ask(client, &requests)?;
        if let Some(found) = put_together(&replies, settings, &table.sets)? {
            ruleset.tables.insert(id.clone(), found);
        }
        let rules = encode::rules(kind::GET_RULE, family, name, Some(&chain_name));
        let found = ruleset.tables.get_mut(id);
        if let Some(chain) = found.and_then(|table| table.chains.get_mut(&chain_name)) {
            let rules = listing(client, &rules, decode::rule)?;
            chain.rules = rules.into_iter().map(|rule| rule.value).collect();
        }
    }
    Ok(ruleset)
}

/// Answers to questions after single objects; what is not there is left out.
fn ask(client: &mut Client, requests: &[Request]) -> Result<Vec<Reply>, ClientError> {
    let (replies, refusals) = client.query(requests)?;
    match refusals
        .into_iter()
        .find(|refused| refused.errno != nix::errno::Errno::ENOENT)
    {
        Some(refused) => Err(refused.into()),
        None => Ok(replies),
    }
}

/// The table of ours among the replies with its chain and elements.
fn put_together(
    replies: &[Reply],
    settings: &Settings,
    sets: &BTreeMap<String, Set>,
) -> Result<Option<Table>, ClientError> {
    let mut found = None;
    for reply in replies {
        match (reply.kind, &mut found) {
            (kind::NEW_TABLE, _) => {
                let (_, table) = decode::table(&reply.payload).map_err(malformed)?;
                let sets = sets.clone();
                let ours = table.comment == Some(owner(settings));
                found = ours.then_some(Table { sets, ..table });
            }
            (kind::NEW_CHAIN, Some(table)) => {
                if let Some(chain) = decode::chain(&reply.payload).map_err(malformed)? {
                    let hook = chain.value;
                    table.chains.insert(
                        chain.name,
                        Chain {
                            hook,
                            rules: vec![],
                        },
                    );
                }
            }
            (kind::NEW_ELEMENT, Some(table)) => {
                let elements = decode::elements(&reply.payload).map_err(malformed)?;
                if let Some(set) = table.sets.get_mut(&elements.name) {
                    set.elements.extend(elements.value);
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// A listing of things in a table that may be gone by now.
fn listing<T>(
    client: &mut Client,
    request: &Request,
    read: fn(&[u8]) -> Result<T, Malformed>,
) -> Result<Vec<T>, ClientError> {
    match client.dump(request) {
        Err(ClientError::Refused(refused)) if refused.errno == nix::errno::Errno::ENOENT => {
            Ok(Vec::new())
        }
        replies => read_all(&replies?, read),
    }
}

fn read_all<T>(
    replies: &[Reply],
    read: fn(&[u8]) -> Result<T, Malformed>,
) -> Result<Vec<T>, ClientError> {
    let values = replies.iter().map(|reply| read(&reply.payload));
    values.collect::<Result<_, _>>().map_err(malformed)
}

fn malformed(error: Malformed) -> ClientError {
    ClientError::Malformed {
        what: error.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::decode;

    /// Reads bytes as every kind of answer.
    pub(in crate::nft) fn read_everything(bytes: &[u8]) {
        let _ = decode::table(bytes);
        let _ = decode::chain(bytes);
        let _ = decode::rule(bytes);
        let _ = decode::set(bytes);
        let _ = decode::elements(bytes);
    }
}
