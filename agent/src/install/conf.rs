//! Network configurations: reading other people's, and writing ours as a copy
//! of one with the shim behind it. Pure.
//!
//! What is not ours to understand is carried over as it is written, character
//! by character.

use std::{fmt::Write as _, path::PathBuf};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Name of the shim: its file, and its type in a configuration.
pub const SHIM: &str = "sluice-cni";
/// Largest file that is read; real ones have a few kilobytes.
pub const LARGEST: u64 = 256 * 1024;
/// Most keys around a list of plugins; the specification has five.
const MOST_KEYS: usize = 256;
/// What the shim speaks. Asked for anything else it fails every pod.
const VERSIONS: [&str; 4] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// Our entry in the list of plugins. The keys are those of the shim, but for
/// `copyOf`, which says that the file is ours and what it is made from.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub socket: PathBuf,
    pub namespaces_file: PathBuf,
    pub notes_file: PathBuf,
    pub exclude_namespaces: Vec<String>,
    pub on_agent_down: &'static str,
    pub timeout_seconds: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    r#type: &'static str,
    copy_of: &'a str,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// A network configuration, whole: a list of plugins and what is said around it.
#[derive(Clone, Debug)]
pub struct List {
    /// Every key but `plugins`, in its order.
    keys: Vec<(String, Box<RawValue>)>,
    plugins: Vec<Plugin>,
}

#[derive(Clone, Debug)]
struct Plugin {
    kind: String,
    /// Of an entry of ours: the file it was copied from.
    copy_of: Option<String>,
    text: Box<RawValue>,
}

/// Why no runtime can use a file.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum Invalid {
    #[error("it is no JSON object: {0}")]
    Json(String),
    #[error("{0} is missing or empty")]
    Missing(&'static str),
    #[error("{key} is wrong: {why}")]
    Key { key: &'static str, why: String },
    #[error("its plugin {0} has no type")]
    NoType(usize),
}

impl List {
    /// Reads the file of this name: a list, or a single plugin, which becomes a
    /// list of one that keeps its name and version.
    pub fn parse(file: &str, contents: &[u8]) -> Result<Self, Invalid> {
        let whole: Box<RawValue> = parsed(contents)?;
        // Nested deeper than anybody can read, it is not handed on.
        serde_json::from_str::<serde_json::Value>(whole.get()).map_err(json)?;
        let object: Object = parsed(whole.get().as_bytes())?;
        let list = if file.ends_with(".conflist") {
            Self::of_list(object)?
        } else {
            Self::of_plugin(&object, whole)?
        };
        list.named()?;
        Ok(list)
    }

    fn of_list(object: Object) -> Result<Self, Invalid> {
        let is_plugins = |(key, _): &(String, Box<RawValue>)| key == "plugins";
        let (plugins, keys): (Vec<_>, Vec<_>) = object.0.into_iter().partition(is_plugins);
        let plugins: Vec<Box<RawValue>> = match plugins.first() {
            Some((_, plugins)) => {
                let read = serde_json::from_str::<Option<_>>(plugins.get());
                read.map_err(|error| wrong("plugins", &error))?
                    .unwrap_or_default()
            }
            None => Vec::new(),
        };
        if plugins.is_empty() {
            return Err(Invalid::Missing("plugins"));
        }
        let plugins = plugins.into_iter().enumerate();
        let plugins = plugins.map(|(index, text)| Plugin::of(text).ok_or(Invalid::NoType(index)));
        Ok(Self {
            keys,
            plugins: plugins.collect::<Result<_, _>>()?,
        })
    }

    fn of_plugin(object: &Object, whole: Box<RawValue>) -> Result<Self, Invalid> {
        let kept = |(key, _): &&(String, Box<RawValue>)| key == "cniVersion" || key == "name";
        let plugin = Plugin::of(whole).ok_or(Invalid::Missing("type"))?;
        Ok(Self {
            keys: object.0.iter().filter(kept).cloned().collect(),
            plugins: vec![plugin],
        })
    }

    fn named(&self) -> Result<(), Invalid> {
        match self.text("name")? {
            Some(name) if !name.is_empty() => {}
            _ => return Err(Invalid::Missing("name")),
        }
        self.text("cniVersion").map(|_| ())
    }

    fn text(&self, key: &'static str) -> Result<Option<String>, Invalid> {
        let Some((_, value)) = self.keys.iter().find(|(name, _)| name == key) else {
            return Ok(None);
        };
        serde_json::from_str(value.get()).map_err(|error| wrong(key, &error))
    }

    /// Whether this file is one that we made.
    pub fn is_ours(&self) -> bool {
        self.plugins.iter().any(|plugin| plugin.copy_of.is_some())
    }

    /// Whether the shim is called.
    pub fn has_shim(&self) -> bool {
        self.plugins.iter().any(|plugin| plugin.kind == SHIM)
    }

    /// The file that this copy of ours was made from.
    pub fn copy_of(&self) -> Option<&str> {
        let plugin = self.plugins.iter().find_map(|one| one.copy_of.as_deref());
        plugin.filter(|_| self.has_shim())
    }

    /// Why the shim cannot be chained to this one.
    pub fn refusal(&self) -> Option<String> {
        // A list without it is of the first version, which had no such key.
        let version = self.text("cniVersion").ok().flatten().unwrap_or_default();
        if VERSIONS.contains(&version.as_str()) {
            return None;
        }
        Some(format!(
            "its cniVersion {version:?} is none that {SHIM} speaks; set it to one of {}",
            VERSIONS.join(", ")
        ))
    }

    /// A copy with our entry at the end, and nowhere else. `file`: where the
    /// original is.
    pub fn with(&self, entry: &Entry, file: &str) -> Result<Vec<u8>, serde_json::Error> {
        let ours = Written {
            r#type: SHIM,
            copy_of: file,
            entry,
        };
        let others = self.plugins.iter().filter(|plugin| plugin.kind != SHIM);
        let mut plugins: Vec<String> = others.map(|plugin| plugin.text.get().into()).collect();
        plugins.push(serde_json::to_string(&ours)?);
        let mut text = String::from("{\n");
        for (key, value) in &self.keys {
            let key = serde_json::to_string(key)?;
            let _ = writeln!(text, "  {key}: {},", value.get());
        }
        let _ = writeln!(text, "  \"plugins\": [\n    {}", plugins.join(",\n    "));
        text.push_str("  ]\n}\n");
        Ok(text.into_bytes())
    }
}

impl Plugin {
    fn of(text: Box<RawValue>) -> Option<Self> {
        let keys: serde_json::Value = serde_json::from_str(text.get()).ok()?;
        let text_of = |key: &str| keys.get(key)?.as_str().map(str::to_owned);
        let kind = text_of("type").filter(|kind| !kind.is_empty())?;
        Some(Self {
            copy_of: text_of("copyOf").filter(|_| kind == SHIM),
            kind,
            text,
        })
    }
}

/// The keys of an object as they are written. Of a key that comes twice the
/// last one counts, as for every runtime.
struct Object(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Object;

            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut keys: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if keys.len() == MOST_KEYS {
                        return Err(A::Error::custom("more keys than any configuration has"));
                    }
                    match keys.iter_mut().find(|(known, _)| *known == key) {
                        Some(known) => known.1 = value,
                        None => keys.push((key, value)),
                    }
                }
                Ok(Object(keys))
            }
        }
        from.deserialize_map(Keys)
    }
}

fn parsed<'a, T: Deserialize<'a>>(contents: &'a [u8]) -> Result<T, Invalid> {
    serde_json::from_slice(contents).map_err(json)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn json(error: serde_json::Error) -> Invalid {
    Invalid::Json(error.to_string())
}

fn wrong(key: &'static str, error: &serde_json::Error) -> Invalid {
    Invalid::Key {
        key,
        why: error.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests;
