//! What is in the directory of network configurations, and which of it the
//! runtime takes. Pure but for [`read`].

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use super::{
    conf::{self, Invalid, List, Mark},
    discover::Takes,
    host::Host,
};
use crate::files::{self, FileError};

/// More files than this are nobody's network configurations.
const MOST_FILES: usize = 1000;
/// What Cilium calls a file that it takes out of use.
const RENAMED: &str = ".cilium_bak";
/// What we call one that a list of ours stands for.
pub const ASIDE: &str = ".sluice_bak";

/// What is in the directory.
#[derive(Debug, Default)]
pub struct Listing {
    pub files: Vec<File>,
    /// Folders with plugins in them: their network's name.
    pub folders: BTreeSet<String>,
    /// Files that Cilium renamed: their old name, and when (in seconds).
    pub renamed: Vec<(String, i64)>,
    /// Files that we put aside: their old name.
    pub aside: Vec<String>,
}

/// A file that a runtime looks at.
#[derive(Debug)]
pub struct File {
    pub name: String,
    pub content: Content,
}

/// What it has to say.
#[derive(Debug)]
pub enum Content {
    Read {
        contents: Vec<u8>,
        mode: u32,
        /// It is somewhere else.
        link: bool,
    },
    /// It is not read here, and a runtime may all the same.
    Odd(String),
}

/// What the judgement depends on.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The name of ours.
    pub own: &'a str,
    /// The one that is to be the original, if it is named.
    pub primary: Option<&'a str>,
    pub takes: &'a Takes,
}

/// The directory, judged.
#[derive(Debug, Default)]
pub struct Survey {
    /// The first that is not ours and can be used, or the one that is named.
    pub primary: Option<Primary>,
    /// The file under our own name, as it is.
    pub own: Option<Own>,
    /// What a runtime takes, or may take, instead of ours.
    pub before: Option<Before>,
    /// What it takes, or may take, instead of the primary.
    pub ahead: Option<Before>,
    /// Files of ours under other names: of an agent with another one.
    pub stale: Vec<String>,
    /// Files that cannot be used, and why.
    pub skipped: Vec<(String, String)>,
    /// Other people's that name the shim by themselves.
    pub chained: Vec<String>,
    /// Other people's into which we put the shim, and their name before.
    pub marked: Vec<(String, String)>,
    /// See [`Listing`].
    pub renamed: Vec<(String, i64)>,
    pub aside: Vec<String>,
}

/// The configuration that ours is a copy of, or that we are chained to.
#[derive(Debug)]
pub struct Primary {
    pub name: String,
    pub contents: Vec<u8>,
    pub mode: u32,
    pub link: bool,
    pub list: List,
    /// A folder of plugins belongs to it.
    pub folder: bool,
}

/// The file under our own name.
#[derive(Debug)]
pub struct Own {
    pub contents: Vec<u8>,
    pub mode: u32,
    pub list: Option<List>,
}

/// Something that sorts before ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Before {
    pub name: String,
    /// It may not be usable, and why.
    pub doubt: Option<String>,
}

/// Judges the files of a directory.
pub fn survey(mut listing: Listing, look: Look<'_>) -> Survey {
    listing
        .files
        .sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    let mut survey = Survey {
        renamed: listing.renamed,
        aside: listing.aside,
        ..Survey::default()
    };
    let primary = look.primary.map(|name| named(name, &listing.files));
    for file in listing.files {
        if file.name == look.own {
            survey.own = Some(Own::of(file));
        } else {
            survey.take(file, look, primary.as_deref(), &listing.folders);
        }
    }
    survey
}

/// The file of a name, or, if it is not there, the other form of it.
fn named(name: &str, files: &[File]) -> String {
    let is_there = |name: &str| files.iter().any(|file| file.name == name);
    match other_form(name) {
        Some(other) if !is_there(name) && is_there(&other) => other,
        _ => name.into(),
    }
}

/// What a configuration is called as a list, or a list as a single plugin.
pub fn other_form(name: &str) -> Option<String> {
    match name.rsplit_once('.')? {
        (stem, "conf" | "json") => Some(format!("{stem}.conflist")),
        (stem, "conflist") => Some(format!("{stem}.conf")),
        _ => None,
    }
}

impl Survey {
    fn take(
        &mut self,
        file: File,
        look: Look<'_>,
        named: Option<&str>,
        folders: &BTreeSet<String>,
    ) {
        let File { name, content } = file;
        let (contents, mode, link) = match content {
            Content::Read {
                contents,
                mode,
                link,
            } => (contents, mode, link),
            Content::Odd(why) => return self.skip(name, why, look),
        };
        let list = match List::parse(&name, &contents) {
            Err(Invalid::Missing("plugins")) => List::of_folder(&contents)
                .filter(|list| folders.contains(&list.name()))
                .ok_or(Invalid::Missing("plugins")),
            parsed => parsed,
        };
        let list = match list {
            Err(invalid) => return self.skip(name, invalid.to_string(), look),
            Ok(list) if list.is_ours() => return self.stale.push(name),
            Ok(list) => list,
        };
        match list.mark() {
            Some(Mark::ChainedTo(before)) => {
                // Never believed to be elsewhere.
                let plain = !before.contains('/') && !before.starts_with('.');
                let before = if plain { before } else { &name };
                self.marked.push((name.clone(), before.clone()));
            }
            _ if list.has_shim() => self.chained.push(name.clone()),
            _ => {}
        }
        // Of other networks nothing is taken by who has one by name.
        let counts = |network: &String| *network == list.name();
        if !look.takes.network.as_ref().is_none_or(counts) {
            return;
        }
        self.step_before(&name, None, look);
        if named.is_none_or(|named| named == name) {
            self.primary.get_or_insert(Primary {
                folder: folders.contains(&list.name()) && list.takes_folder(),
                name,
                contents,
                mode,
                link,
                list,
            });
        }
    }

    fn skip(&mut self, name: String, why: String, look: Look<'_>) {
        self.step_before(&name, Some(&why), look);
        self.skipped.push((name, why));
    }

    fn step_before(&mut self, name: &str, doubt: Option<&str>, look: Look<'_>) {
        let before = || Before {
            name: name.to_owned(),
            doubt: doubt.map(str::to_owned),
        };
        if name.as_bytes() < look.own.as_bytes() {
            self.before.get_or_insert_with(before);
        }
        if self.primary.is_none() {
            self.ahead.get_or_insert_with(before);
        }
    }

    /// What the runtime takes, or may take, instead of the file that the shim
    /// was chained to.
    pub fn ahead(&self) -> Option<&Before> {
        let primary = self.primary.as_ref()?;
        self.ahead
            .as_ref()
            .filter(|ahead| ahead.name != primary.name)
    }
}

impl Own {
    fn of(file: File) -> Self {
        match file.content {
            Content::Read {
                contents,
                mode,
                link: false,
            } => Self {
                list: List::parse(&file.name, &contents).ok(),
                contents,
                mode,
            },
            Content::Read { .. } | Content::Odd(_) => Self {
                contents: Vec::new(),
                mode: 0,
                list: None,
            },
        }
    }
}

/// Everything in the directory that matters to a runtime or to us.
pub fn read(directory: &Path, host: &Host) -> Result<Listing, FileError> {
    let failed = || FileError::at("list", directory);
    let mut listing = Listing::default();
    for entry in fs::read_dir(directory).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        let path = entry.path();
        if let Some(before) = name.strip_suffix(RENAMED) {
            let at = path.symlink_metadata().map_or(0, |file| file.ctime());
            listing.renamed.push((before.to_owned(), at));
        } else if let Some(before) = name.strip_suffix(ASIDE) {
            listing.aside.push(before.to_owned());
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if has_plugins(&path) {
                listing.folders.insert(name);
            }
        } else if is_configuration(&name) {
            if listing.files.len() == MOST_FILES {
                let why = format!("it has more than {MOST_FILES} configurations");
                return Err(failed()(io::Error::other(why)));
            }
            let content = content(&path, host);
            listing
                .files
                .extend(content.map(|content| File { name, content }));
        }
    }
    Ok(listing)
}

/// Whether a runtime that knows CNI 1.1 finds plugins in the folder.
fn has_plugins(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MOST_FILES);
    entries
        .flatten()
        .any(|entry| entry.path().extension().is_some_and(|it| it == "conf"))
}

/// None if it went away just now.
fn content(path: &Path, host: &Host) -> Option<Content> {
    let link = path.is_symlink();
    let read = if link {
        // As the runtime does, but never out of the node, nor into a device.
        let found = host.follow(path).map_err(FileError::at("follow", path));
        found.and_then(|found| files::read_ordinary(&found, conf::LARGEST))
    } else {
        files::read_ordinary(path, conf::LARGEST)
    };
    match read {
        Ok((contents, metadata)) => Some(Content::Read {
            contents,
            mode: metadata.permissions().mode() & 0o7777,
            link,
        }),
        Err(error) if error.is_not_found() && !link => None,
        Err(error) if link => Some(Content::Odd(format!(
            "a link: {}",
            crate::error::chain(&error)
        ))),
        Err(error) => Some(Content::Odd(error.source.to_string())),
    }
}

/// As libcni has it, for which a name may be an ending and nothing else.
fn is_configuration(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    matches!(ending, Some("conf" | "conflist" | "json"))
}

#[cfg(test)]
mod tests;
