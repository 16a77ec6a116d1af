//! Network configurations: reading other people's, and writing ours: a copy of
//! one with the shim behind it, or the shim alone. Pure.
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
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The newest that any runtime speaks: of `cniVersions` it takes no newer one.
const NEWEST: [u64; 3] = [1, 1, 0];
/// Version and name of the shim's own network, which Multus finds it by.
const ALONE: (&str, &str) = ("1.0.0", SHIM);

/// Our entry in the list of plugins, without what it is marked with.
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

/// What an entry that we wrote says of the file that it is in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mark {
    /// The file is ours, and made from this one.
    CopyOf(String),
    /// The file is somebody else's; it had this name before.
    ChainedTo(String),
    /// The file is ours, for Multus.
    Standalone,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cni_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_of: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chained_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    standalone: Option<bool>,
    #[serde(flatten)]
    entry: &'a Entry,
}

impl Entry {
    /// As it is written into a list.
    pub fn marked(&self, mark: &Mark) -> Result<String, serde_json::Error> {
        let mut written = Written {
            cni_version: None,
            name: None,
            r#type: SHIM,
            copy_of: None,
            chained_to: None,
            standalone: None,
            entry: self,
        };
        match mark {
            Mark::CopyOf(file) => written.copy_of = Some(file),
            Mark::ChainedTo(file) => written.chained_to = Some(file),
            Mark::Standalone => {
                (written.cni_version, written.name) = (Some(ALONE.0), Some(ALONE.1));
                written.standalone = Some(true);
            }
        }
        serde_json::to_string(&written)
    }
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
    mark: Option<Mark>,
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

    /// A list whose plugins are all in a folder of its name beside it, as CNI
    /// 1.1 has it.
    pub fn of_folder(contents: &[u8]) -> Option<Self> {
        let Object(keys) = parsed(contents).ok()?;
        let list = Self {
            keys,
            plugins: Vec::new(),
        };
        let bare = list.keys.iter().all(|(key, _)| key != "plugins");
        (bare && list.named().is_ok() && list.takes_folder()).then_some(list)
    }

    /// Whether plugins of a folder of its name run after those of the list, with
    /// a runtime that knows such folders.
    pub fn takes_folder(&self) -> bool {
        let only = self
            .keys
            .iter()
            .find(|(key, _)| key == "loadOnlyInlinedPlugins");
        only.is_none_or(|(_, value)| !value.get().trim_matches('"').eq_ignore_ascii_case("true"))
    }

    /// The network's.
    pub fn name(&self) -> String {
        self.text("name").ok().flatten().unwrap_or_default()
    }

    /// What our entry says, if there is one that we wrote.
    pub fn mark(&self) -> Option<&Mark> {
        self.plugins.iter().find_map(|plugin| plugin.mark.as_ref())
    }

    /// Whether this file is one that we made, beside the one it is made from.
    pub fn is_ours(&self) -> bool {
        matches!(self.mark(), Some(Mark::CopyOf(_) | Mark::Standalone))
    }

    /// Whether the shim is called.
    pub fn has_shim(&self) -> bool {
        self.plugins.iter().any(|plugin| plugin.kind == SHIM)
    }

    /// The file that this copy of ours was made from.
    pub fn copy_of(&self) -> Option<&str> {
        match self.mark()? {
            Mark::CopyOf(file) => Some(file),
            Mark::ChainedTo(_) | Mark::Standalone => None,
        }
    }

    /// Why the shim cannot be chained to this one.
    pub fn refusal(&self) -> Option<String> {
        if self.plugins.iter().all(|plugin| plugin.kind == SHIM) {
            let name = self.name();
            return Some(format!(
                "no plugin but the shim is in its list, and those of the folder {name} run after \
                 the list, so the shim would come first; put them into \"plugins\" and set \
                 \"loadOnlyInlinedPlugins\": true"
            ));
        }
        let asked = self.versions();
        let unspoken = asked
            .iter()
            .find(|asked| !VERSIONS.contains(&asked.as_str()));
        unspoken.map(|version| {
            format!(
                "its cniVersion {version:?} is none that {SHIM} speaks; set it to one of {}",
                VERSIONS.join(", ")
            )
        })
    }

    /// What plugins may be asked to speak: `cniVersion`, and, by a runtime that
    /// knows `cniVersions`, the greatest of both that it speaks itself.
    fn versions(&self) -> Vec<String> {
        // A list without it is of the first version, which had no such key.
        let one = self.text("cniVersion").ok().flatten();
        let more = self.keys.iter().find(|(key, _)| key == "cniVersions");
        let more: Option<Vec<String>> =
            more.and_then(|(_, value)| serde_json::from_str(value.get()).ok());
        let spoken = more.iter().flatten().chain(&one).filter_map(|version| {
            let number = number(version).filter(|number| *number <= NEWEST)?;
            Some((number, version.clone()))
        });
        let greatest = more.as_ref().and_then(|_| spoken.max());
        let greatest = greatest.map(|(_, version)| version);
        match (one, greatest) {
            (None, None) => vec![String::new()],
            (one, greatest) => one.into_iter().chain(greatest).collect(),
        }
    }

    /// The list with our entry at the end, and nowhere else.
    pub fn with(&self, entry: &Entry, mark: &Mark) -> Result<Vec<u8>, serde_json::Error> {
        let text = self.written(Some(entry.marked(mark)?))?;
        Ok(text.into_bytes())
    }

    /// The same without it.
    pub fn without(&self) -> Result<String, serde_json::Error> {
        self.written(None)
    }

    fn written(&self, last: Option<String>) -> Result<String, serde_json::Error> {
        let others = self.plugins.iter().filter(|plugin| plugin.kind != SHIM);
        let others = others.map(|plugin| plugin.text.get().to_owned());
        let plugins: Vec<String> = others.chain(last).collect();
        let mut text = String::from("{\n");
        for (key, value) in &self.keys {
            let key = serde_json::to_string(key)?;
            let _ = writeln!(text, "  {key}: {},", value.get());
        }
        let _ = writeln!(text, "  \"plugins\": [\n    {}", plugins.join(",\n    "));
        text.push_str("  ]\n}\n");
        Ok(text)
    }
}

fn number(version: &str) -> Option<[u64; 3]> {
    let parts: Result<Vec<u64>, _> = version.split('.').map(str::parse).collect();
    parts.ok()?.try_into().ok()
}

impl Plugin {
    fn of(text: Box<RawValue>) -> Option<Self> {
        let keys: serde_json::Value = serde_json::from_str(text.get()).ok()?;
        let text_of = |key: &str| keys.get(key)?.as_str().map(str::to_owned);
        let kind = kind(&keys).filter(|kind| !kind.is_empty())?.to_owned();
        let mark = || {
            let copied = text_of("copyOf").map(Mark::CopyOf);
            let chained = || text_of("chainedTo").map(Mark::ChainedTo);
            let alone = keys.get("standalone") == Some(&serde_json::Value::Bool(true));
            copied
                .or_else(chained)
                .or(alone.then_some(Mark::Standalone))
        };
        Some(Self {
            mark: (kind == SHIM).then(mark).flatten(),
            kind,
            text,
        })
    }
}

/// What a plugin is. Runtimes find `type` in any case.
pub(super) fn kind(plugin: &serde_json::Value) -> Option<&str> {
    let plugin = plugin.as_object()?;
    let exact = plugin.get("type").and_then(|kind| kind.as_str());
    exact.or_else(|| {
        let mut keys = plugin.iter();
        let (_, kind) = keys.find(|(key, _)| key.eq_ignore_ascii_case("type"))?;
        kind.as_str()
    })
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
