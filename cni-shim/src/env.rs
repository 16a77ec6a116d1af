//! The environment of a CNI call.

use std::ffi::OsString;

use crate::error::{CniError, Code, shown};

mod args;

pub(crate) use args::Pod;

/// A container id is 64 characters with every known runtime.
const LONGEST_ID: usize = 512;
/// What Linux allows (`IFNAMSIZ`, less the zero).
const LONGEST_IFNAME: usize = 15;

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verb {
    /// No command: somebody ran the program by hand.
    About,
    Version,
    Add,
    Del,
    Check,
    Status,
    Gc,
}

/// The variables, checked. Those that a verb does not need may be empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Env {
    pub(crate) container_id: String,
    pub(crate) netns: String,
    pub(crate) ifname: String,
    /// The pod is allowed to share our own network namespace.
    pub(crate) netns_override: bool,
    pub(crate) pod: Pod,
    /// For the call to the agent: names of gRPC metadata and their values.
    pub(crate) trace: Vec<(&'static str, String)>,
}

/// Looks a variable up.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Verb {
    pub(crate) fn read(lookup: Lookup<'_>) -> Result<Self, CniError> {
        let command = lookup("CNI_COMMAND").unwrap_or_default();
        match command.to_str() {
            Some("") => Ok(Self::About),
            Some("VERSION") => Ok(Self::Version),
            Some("ADD") => Ok(Self::Add),
            Some("DEL") => Ok(Self::Del),
            Some("CHECK") => Ok(Self::Check),
            Some("STATUS") => Ok(Self::Status),
            Some("GC") => Ok(Self::Gc),
            _ => {
                let command = shown(&command.to_string_lossy());
                Err(CniError::new(
                    Code::Environment,
                    format!("unknown CNI_COMMAND {command:?}"),
                )
                .details("known are ADD, DEL, CHECK, STATUS, GC and VERSION"))
            }
        }
    }

    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::About | Self::Version => &[],
            Self::Status | Self::Gc => &["CNI_PATH"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
        }
    }
}

impl Env {
    /// The variables that `verb` needs, or an error that names all that are
    /// missing, or else all that are wrong.
    pub(crate) fn read(verb: Verb, lookup: Lookup<'_>) -> Result<Self, CniError> {
        let get = |name: &str| lookup(name).unwrap_or_default();
        let missing: Vec<&str> = verb
            .needs()
            .iter()
            .copied()
            .filter(|name| get(name).is_empty())
            .collect();
        if !missing.is_empty() {
            return Err(CniError::new(
                Code::Environment,
                format!(
                    "required environment variables are missing: {}",
                    missing.join(", ")
                ),
            ));
        }
        if matches!(verb, Verb::Status | Verb::Gc) {
            // About no sandbox: what is said of one is not looked at.
            return Ok(Self {
                trace: trace(lookup),
                ..Self::default()
            });
        }
        let mut wrong = Vec::new();
        let mut text = |name: &'static str, judge: fn(&str) -> Result<(), &'static str>| {
            let value = get(name).into_string();
            let judged = match &value {
                Ok(value) if value.is_empty() => Ok(()),
                Ok(value) => judge(value),
                Err(_) => Err("is not UTF-8"),
            };
            let value = value.unwrap_or_else(|raw| raw.to_string_lossy().into_owned());
            if let Err(why) = judged {
                wrong.push(format!("{name} {:?} {why}", shown(&value)));
            }
            value
        };
        let container_id = text("CNI_CONTAINERID", container_id);
        let ifname = text("CNI_IFNAME", ifname);
        let netns = text("CNI_NETNS", netns);
        let arguments = text("CNI_ARGS", |_| Ok(()));
        let pod = Pod::parse(&arguments).unwrap_or_else(|why| {
            wrong.push(format!("CNI_ARGS {:?} {why}", shown(&arguments)));
            Pod::default()
        });
        if !wrong.is_empty() {
            return Err(CniError::new(
                Code::Environment,
                format!("invalid environment variables: {}", wrong.join("; ")),
            ));
        }
        let allowed = get("CNI_NETNS_OVERRIDE").to_string_lossy().to_uppercase();
        Ok(Self {
            container_id,
            netns,
            ifname,
            netns_override: matches!(allowed.as_str(), "1" | "TRUE"),
            pod,
            trace: trace(lookup),
        })
    }
}

/// The caller's trace, if it is passed on at all; the agent's spans join it.
fn trace(lookup: Lookup<'_>) -> Vec<(&'static str, String)> {
    [("TRACEPARENT", "traceparent"), ("BAGGAGE", "baggage")]
        .into_iter()
        .filter_map(|(variable, key)| {
            let value = lookup(variable)?.into_string().ok()?;
            // W3C allows 8192 bytes of baggage.
            let fits = !value.is_empty() && value.len() <= 8192;
            fits.then_some((key, value))
        })
        .collect()
}

pub(crate) fn container_id(id: &str) -> Result<(), &'static str> {
    if id.len() > LONGEST_ID {
        return Err("is longer than 512 bytes");
    }
    if !is_identifier(id) {
        return Err("must begin with a letter or digit and go on with those, '_', '.' and '-'");
    }
    Ok(())
}

/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`: container ids and network names.
pub(crate) fn is_identifier(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte))
}

pub(crate) fn ifname(name: &str) -> Result<(), &'static str> {
    if name.len() > LONGEST_IFNAME {
        return Err("is longer than 15 bytes");
    }
    if matches!(name, "." | "..") {
        return Err("is no name for an interface");
    }
    let bad = |c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
    if name.contains(bad) {
        return Err("must not contain '/', ':' or whitespace");
    }
    Ok(())
}

fn netns(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("must be an absolute path");
    }
    if path.len() >= 4096 {
        return Err("is longer than a path can be");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
