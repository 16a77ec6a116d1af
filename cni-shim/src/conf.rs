//! The network configuration on standard input.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    env::is_identifier,
    error::{CniError, Code, shown},
    result::Version,
};

mod attachments;

pub(crate) use attachments::Attachment;

/// Namespaces that are never enrolled: the cluster's own, ours, the proxy's.
const EXCLUDED: [&str; 3] = ["kube-system", "sluice-system", "istio-system"];
/// A longer name could not be a file's either, and runtimes make files of it.
const LONGEST_NETWORK: usize = 255;
const SECONDS: std::ops::RangeInclusive<f64> = 0.1..=600.0;

/// What the plugin's entry says, with defaults filled in.
#[derive(Debug)]
pub(crate) struct Conf<'a> {
    pub(crate) version: Version,
    pub(crate) network: String,
    pub(crate) prev_result: Option<&'a RawValue>,
    /// No plugin comes before this one: Multus calls it by itself.
    pub(crate) standalone: bool,
    pub(crate) socket: PathBuf,
    pub(crate) exclude_namespaces: Vec<String>,
    pub(crate) on_agent_down: OnAgentDown,
    pub(crate) timeout: Duration,
    pub(crate) namespaces_file: PathBuf,
    pub(crate) notes_file: PathBuf,
    valid_attachments: Option<&'a RawValue>,
}

/// What to do with a pod that is not known to be enrolled while nobody can say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OnAgentDown {
    /// Let it pass if its namespace had no enrolled pods when last heard of.
    Known,
    /// Let nothing pass but excluded namespaces.
    Deny,
}

/// Keys of others are not ours to judge, so nothing is refused for being there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(borrow)]
    cni_version: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    prev_result: Option<&'a RawValue>,
    standalone: Option<&'a RawValue>,
    socket: Option<&'a RawValue>,
    exclude_namespaces: Option<&'a RawValue>,
    on_agent_down: Option<&'a RawValue>,
    timeout_seconds: Option<&'a RawValue>,
    namespaces_file: Option<&'a RawValue>,
    notes_file: Option<&'a RawValue>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<&'a RawValue>,
}

impl<'a> Conf<'a> {
    pub(crate) fn parse(stdin: &'a [u8]) -> Result<Self, CniError> {
        let document: Document<'a> = serde_json::from_slice(stdin).map_err(|error| {
            CniError::new(
                Code::Decode,
                format!("the network configuration on standard input does not parse: {error}"),
            )
        })?;
        let version = version(document.cni_version)?;
        let network = network(document.name)?;
        let exclude_namespaces = typed("excludeNamespaces", document.exclude_namespaces)?
            .unwrap_or_else(|| EXCLUDED.map(str::to_owned).into());
        Ok(Self {
            version,
            network,
            prev_result: document.prev_result,
            standalone: typed("standalone", document.standalone)?.unwrap_or(false),
            socket: path("socket", document.socket, "/run/sluice/agent.sock")?,
            exclude_namespaces,
            on_agent_down: on_agent_down(document.on_agent_down)?,
            timeout: timeout(document.timeout_seconds)?,
            namespaces_file: path(
                "namespacesFile",
                document.namespaces_file,
                "/run/sluice/namespaces.json",
            )?,
            notes_file: path(
                "notesFile",
                document.notes_file,
                "/var/lib/sluice/cni-notes.jsonl",
            )?,
            valid_attachments: document.valid_attachments,
        })
    }

    /// Of GC: what is not to be removed.
    pub(crate) fn valid_attachments(&self) -> Result<Vec<Attachment>, CniError> {
        attachments::parse(self.valid_attachments)
    }
}

/// The version that a configuration asks for, however broken the rest of it
/// is: answers repeat it.
pub(crate) fn asked_version(stdin: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Asked {
        #[serde(rename = "cniVersion")]
        version: Option<String>,
    }
    let asked: Asked = serde_json::from_slice(stdin).ok()?;
    let version = asked.version?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".+-".contains(&byte);
    let short = !version.is_empty() && version.len() <= 64;
    (short && version.bytes().all(plain)).then_some(version)
}

fn version(raw: Option<&RawValue>) -> Result<Version, CniError> {
    let asked = match raw.map(|raw| serde_json::from_str::<String>(raw.get())) {
        None => String::new(),
        Some(Ok(asked)) => asked,
        Some(Err(error)) => {
            return Err(CniError::new(
                Code::Decode,
                format!("cniVersion in the network configuration is not text: {error}"),
            ));
        }
    };
    // The first version had no such key.
    let asked = if asked.is_empty() { "0.1.0" } else { &asked };
    Version::parse(asked).ok_or_else(|| unsupported("the network configuration", asked))
}

/// The error for a version that is not spoken.
pub(crate) fn unsupported(whose: &str, asked: &str) -> CniError {
    CniError::new(
        Code::Version,
        format!("CNI version {:?} of {whose} is not supported", shown(asked)),
    )
    .details(format!(
        "supported are {}; set cniVersion in the network configuration to one of them",
        Version::ALL.map(Version::as_str).join(", ")
    ))
}

fn network(raw: Option<&RawValue>) -> Result<String, CniError> {
    let name: String = typed("name", raw)?.unwrap_or_default();
    if name.is_empty() {
        return Err(CniError::new(
            Code::Config,
            "name is missing in the network configuration",
        ));
    }
    if !is_identifier(&name) || name.len() > LONGEST_NETWORK {
        return Err(CniError::new(
            Code::Config,
            format!(
                "name {:?} in the network configuration must begin with a letter or digit \
                 and go on with those, '_', '.' and '-', {LONGEST_NETWORK} at most",
                shown(&name)
            ),
        ));
    }
    Ok(name)
}

fn on_agent_down(raw: Option<&RawValue>) -> Result<OnAgentDown, CniError> {
    match typed::<String>("onAgentDown", raw)?.as_deref() {
        None | Some("known") => Ok(OnAgentDown::Known),
        Some("deny") => Ok(OnAgentDown::Deny),
        Some(other) => Err(CniError::new(
            Code::UnsupportedField,
            format!(
                "onAgentDown {:?} in the network configuration is not supported",
                shown(other)
            ),
        )
        .details("supported are \"known\" and \"deny\"")),
    }
}

fn timeout(raw: Option<&RawValue>) -> Result<Duration, CniError> {
    let seconds = typed("timeoutSeconds", raw)?.unwrap_or(10.0);
    if SECONDS.contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(invalid(
            "timeoutSeconds",
            &seconds.to_string(),
            "it must be 0.1 to 600",
        ))
    }
}

fn path(key: &str, raw: Option<&RawValue>, default: &str) -> Result<PathBuf, CniError> {
    let path: String = typed(key, raw)?.unwrap_or_else(|| default.to_owned());
    if Path::new(&path).is_absolute() && !path.contains('\0') {
        Ok(path.into())
    } else {
        Err(invalid(key, &path, "it must be an absolute path"))
    }
}

fn typed<T: DeserializeOwned>(key: &str, raw: Option<&RawValue>) -> Result<Option<T>, CniError> {
    raw.map(|raw| {
        serde_json::from_str(raw.get()).map_err(|error| invalid(key, raw.get(), &error.to_string()))
    })
    .transpose()
}

fn invalid(key: &str, value: &str, why: &str) -> CniError {
    CniError::new(
        Code::Config,
        format!(
            "{key} {} in the network configuration is wrong: {why}",
            shown(value)
        ),
    )
}

#[cfg(test)]
mod tests;
