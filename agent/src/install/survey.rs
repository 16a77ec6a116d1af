//! What is in the directory of network configurations, and which of it the
//! runtime takes. Pure but for [`read`].

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use super::conf::{self, List};
use crate::files::{self, FileError};

/// More files than this are nobody's network configurations.
const MOST_FILES: usize = 1000;

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
    },
    /// It is not read here, and a runtime may all the same: a link, say.
    Odd(String),
}

/// The directory, judged.
#[derive(Debug, Default)]
pub struct Survey {
    /// The first that is not ours and can be used.
    pub primary: Option<Primary>,
    /// The file under our own name, as it is.
    pub own: Option<Own>,
    /// What a runtime takes, or may take, instead of ours.
    pub before: Option<Before>,
    /// Files of ours under other names: of an agent with another one.
    pub stale: Vec<String>,
    /// Files that cannot be used, and why.
    pub skipped: Vec<(String, String)>,
    /// Other people's that name the shim.
    pub chained: Vec<String>,
}

/// The configuration that ours is a copy of.
#[derive(Debug)]
pub struct Primary {
    pub name: String,
    pub list: List,
}

/// The file under our own name.
#[derive(Debug)]
pub struct Own {
    pub contents: Vec<u8>,
    pub mode: u32,
    pub list: Option<List>,
}

/// Something that sorts before ours.
#[derive(Debug, Eq, PartialEq)]
pub struct Before {
    pub name: String,
    /// False: it may not be usable.
    pub certain: bool,
}

/// Judges the files of a directory. `own`: the name of ours.
pub fn survey(mut files: Vec<File>, own: &str) -> Survey {
    files.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    let mut survey = Survey::default();
    for file in files {
        if file.name == own {
            survey.own = Some(Own::of(file));
        } else {
            survey.take(file, own);
        }
    }
    survey
}

impl Survey {
    fn take(&mut self, file: File, own: &str) {
        let File { name, content } = file;
        let is_before = name.as_bytes() < own.as_bytes();
        let contents = match content {
            Content::Read { contents, .. } => contents,
            Content::Odd(why) => {
                if is_before {
                    self.step_before(&name, false);
                }
                self.skipped.push((name, why));
                return;
            }
        };
        match List::parse(&name, &contents) {
            Err(invalid) => self.skipped.push((name, invalid.to_string())),
            Ok(list) if list.is_ours() => self.stale.push(name),
            Ok(list) => {
                if list.has_shim() {
                    self.chained.push(name.clone());
                }
                if is_before {
                    self.step_before(&name, true);
                }
                self.primary.get_or_insert(Primary { name, list });
            }
        }
    }

    fn step_before(&mut self, name: &str, certain: bool) {
        self.before.get_or_insert_with(|| Before {
            name: name.to_owned(),
            certain,
        });
    }
}

impl Own {
    fn of(file: File) -> Self {
        match file.content {
            Content::Read { contents, mode } => Self {
                list: List::parse(&file.name, &contents).ok(),
                contents,
                mode,
            },
            Content::Odd(_) => Self {
                contents: Vec::new(),
                mode: 0,
                list: None,
            },
        }
    }
}

/// Every file of the directory that a runtime would look at.
pub fn read(directory: &Path) -> Result<Vec<File>, FileError> {
    let failed = || FileError::at("list", directory);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        let path = entry.path();
        if !is_configuration(&path) || entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if files.len() == MOST_FILES {
            let why = format!("it has more than {MOST_FILES} configurations");
            return Err(failed()(io::Error::other(why)));
        }
        let content = content(&path);
        files.extend(content.map(|content| File { name, content }));
    }
    Ok(files)
}

/// None if it went away just now.
fn content(path: &Path) -> Option<Content> {
    match files::read_ordinary(path, conf::LARGEST) {
        Ok((contents, metadata)) => Some(Content::Read {
            contents,
            mode: metadata.permissions().mode() & 0o7777,
        }),
        Err(error) if error.is_not_found() => None,
        Err(error) => Some(Content::Odd(error.source.to_string())),
    }
}

/// As libcni has it.
fn is_configuration(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("conf" | "conflist" | "json"))
}

#[cfg(test)]
mod tests;
