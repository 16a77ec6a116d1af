//! What the installer tells people. Pure but for the clock.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    error::chain,
    files::FileError,
    install::{
        conf::Invalid,
        places::Places,
        survey::{Before, Survey},
    },
};

/// What Cilium did this long ago is not told any more.
const RECENT: Duration = Duration::from_secs(600);
const CILIUM: &str = "Cilium (cni.exclusive=true) renames every other configuration; set its \
                      cni.exclusive=false";

/// Why ours is not in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{}", file(.0))]
    File(FileError),
    #[error("cannot write the configuration")]
    Encode(#[from] serde_json::Error),
    #[error("cannot change the configuration")]
    List(#[from] Invalid),
    #[error("{0}")]
    Told(String),
    #[error(
        "something else changes {path} again and again ({times} times within a minute); it is \
         mended again in {} s; find what writes to the directory (with Cilium, set \
         cni.exclusive=false){hint}",
        wait.as_secs() + 1
    )]
    Fight {
        path: String,
        times: usize,
        wait: Duration,
        hint: String,
    },
}

impl From<FileError> for Trouble {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// What happened to a file, and what to do.
pub(super) fn file(error: &FileError) -> String {
    let remedy = match error.source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room on that file system"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; mount it writable, on the node and in the agent's pod, or give another folder \
             (--cni-conf-dir, --cni-bin-dir)"
        }
        io::ErrorKind::PermissionDenied => {
            "; let the agent write there (root, and the node's SELinux or AppArmor rules)"
        }
        _ => "",
    };
    format!("{}{remedy}", chain(error))
}

/// The runtime takes, or may take, this one instead.
pub(super) fn before(before: &Before, ours: &str) -> String {
    let name = &before.name;
    match &before.doubt {
        None => format!(
            "{name} sorts before {ours} and the runtime takes it instead, so pods start without \
             the shim; remove it, or choose names so that the shim's comes first \
             (--cni-conf-name, --cni-conf-primary)"
        ),
        Some(why) => format!(
            "{name} sorts before {ours} and is not usable ({why}): containerd may take it \
             instead, or use no configuration at all; remove it"
        ),
    }
}

pub(super) fn waiting(places: &Places, survey: &Survey) -> String {
    let wanted = match &places.primary {
        Some(name) => format!("no usable network configuration {name} (--cni-conf-primary)"),
        None => "no network configuration".into(),
    };
    format!(
        "{} has {wanted} yet to put the shim behind; it is waited for{}",
        places.conf_dir.display(),
        skipped(survey)
    )
}

pub(super) fn broken(origin: &str, why: &str) -> String {
    format!(
        "{origin}, which ours is a copy of, is not usable any more ({why}); the copy stays in use"
    )
}

pub(super) fn gone(origin: &str, places: &Places, survey: &Survey) -> String {
    let renamed = survey.renamed.iter().any(|(name, _)| name == origin);
    let by = if renamed {
        format!(" (it is {origin}.cilium_bak now: {CILIUM})")
    } else {
        String::new()
    };
    format!(
        "{origin}, which ours is a copy of, is not in {} any more{by}; the copy stays in use{}",
        places.conf_dir.display(),
        skipped(survey)
    )
}

/// Whether Cilium has just renamed this file of ours.
pub(super) fn renamed(survey: &Survey, ours: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let is_recent = |at: i64| {
        let at = Duration::from_secs(u64::try_from(at).unwrap_or_default());
        now.saturating_sub(at) < RECENT
    };
    let found = survey
        .renamed
        .iter()
        .any(|(name, at)| name == ours && is_recent(*at));
    if found {
        return format!("; {ours}.cilium_bak is there: {CILIUM}");
    }
    String::new()
}

/// What is worth knowing though ours is in place.
pub(super) fn odd(survey: &Survey, places: &Places) -> String {
    let primary = survey.primary.as_ref();
    let name = match primary {
        Some(primary) if places.mode == super::Mode::Chained => &primary.name,
        _ => &places.conf_name,
    };
    let mut said = vec![renamed(survey, name).trim_start_matches("; ").to_owned()];
    if let Some(primary) = primary.filter(|primary| primary.folder) {
        said.push(format!(
            "{}/{} holds plugins, which runtimes with CNI 1.1 run after the list, and so after \
             the shim; to have it last, put them into \"plugins\" of {} and set \
             \"loadOnlyInlinedPlugins\": true",
            places.conf_dir.display(),
            primary.list.name(),
            primary.name
        ));
    }
    said.retain(|words| !words.is_empty());
    said.join("; ")
}

pub(super) fn several(places: &Places) -> String {
    format!(
        "the runtime attaches each pod to every network in {} (max_conf_num of {}), so a copy of \
         one would attach it twice; use --cni-mode chained, or set max_conf_num to 1",
        places.conf_dir.display(),
        places.from
    )
}

fn skipped(survey: &Survey) -> String {
    let skipped = survey.skipped.iter().take(4);
    let words: Vec<_> = skipped
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    if words.is_empty() {
        return String::new();
    }
    format!("; not usable: {}", words.join(", "))
}
