//! What becomes of a pod when the agent does not answer.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use nix::fcntl::OFlag;
use serde::Deserialize;

use crate::{
    conf::{Conf, OnAgentDown},
    env::Pod,
    error::{CniError, Code},
};

/// 10,000 namespaces with the longest of names are smaller.
const LARGEST_FILE: u64 = 1 << 20;

/// What a person is told to do.
pub(crate) const SEE_TO: &str =
    "see to the sluice-agent pod of this node (kubectl -n sluice-system get pods -o wide)";

/// What the agent's list says of a namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Known {
    Enrolled,
    NotEnrolled,
    /// The list does not name it, or there is no list that can be read.
    Unknown,
}

/// What to do about ADD or CHECK.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Decision {
    /// Not a pod.
    Pass,
    /// Excluded (it may be the proxy, of which the agent wants to know), or not
    /// enrolled when the agent was last heard of: it looks again later.
    PassAndNote,
    Fail(CniError),
}

/// Decides without the agent. `why` says how it was found to be away; the list
/// is only read where it matters.
pub(crate) fn decide(
    conf: &Conf<'_>,
    pod: &Pod,
    why: &str,
    known: impl FnOnce(&str) -> Known,
) -> Decision {
    if pod.is_none() {
        return Decision::Pass;
    }
    if is_excluded(conf, pod) {
        return Decision::PassAndNote;
    }
    let reason = match conf.on_agent_down {
        OnAgentDown::Deny => "onAgentDown is \"deny\"".to_owned(),
        OnAgentDown::Known => match known(&pod.namespace) {
            Known::NotEnrolled => return Decision::PassAndNote,
            Known::Enrolled => format!("namespace {:?} has pods in the mesh", pod.namespace),
            Known::Unknown => format!(
                "it is not known whether namespace {:?} has pods in the mesh",
                pod.namespace
            ),
        },
    };
    let pod = format!("{}/{}", pod.namespace, pod.name);
    Decision::Fail(
        CniError::new(
            Code::TryLater,
            format!(
                "pod {pod} cannot start now: the Sluice agent of this node does not answer, \
                 and {reason}"
            ),
        )
        .details(format!(
            "{why}; {SEE_TO}; the pod starts by itself once the agent is back"
        )),
    )
}

/// Whether the configuration keeps the pod's namespace out of the mesh.
pub(crate) fn is_excluded(conf: &Conf<'_>, pod: &Pod) -> bool {
    !pod.namespace.is_empty() && conf.exclude_namespaces.contains(&pod.namespace)
}

/// What the agent's list says of a namespace. A list that is missing, too large
/// or garbage says nothing.
pub(crate) fn look_up(file: &Path, namespace: &str) -> Known {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct List {
        enrolled: Vec<String>,
        not_enrolled: Vec<String>,
    }
    let Ok(text) = read(file) else {
        return Known::Unknown;
    };
    let Ok(list) = serde_json::from_slice::<List>(&text) else {
        return Known::Unknown;
    };
    let has = |names: &[String]| names.iter().any(|name| name == namespace);
    if has(&list.enrolled) {
        Known::Enrolled
    } else if has(&list.not_enrolled) {
        Known::NotEnrolled
    } else {
        Known::Unknown
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Not to be held up by a pipe, nor led elsewhere by a link.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    let mut text = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
