//! What the folder said last, and what a new look at it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    claims::Claims,
    files::{self, FileError, Stamp},
    parse::Parser,
    watch::{FolderId, folder_id},
};
use crate::{index::Update, model::Relevant, ops::metrics as recorded, source::Problem};

/// At most this many problems are kept and shown.
const MAX_PROBLEMS: usize = 1000;

pub(super) struct Folder {
    path: PathBuf,
    parser: Parser,
    claims: Claims,
    files: BTreeMap<Arc<str>, File>,
    /// Where the files were last found.
    home: Option<FolderId>,
}

#[derive(Default)]
struct File {
    /// Absent when it has to be read again in any case.
    stamp: Option<Stamp>,
    digest: Vec<u8>,
    /// It was understood once: its objects are known.
    understood: bool,
    problems: Vec<Problem>,
}

/// What came of a look at the folder.
pub(super) struct Reloaded {
    pub updates: Vec<Update>,
    /// The folder was read, and each of its files at least tried.
    pub complete: bool,
    /// Somebody is writing: look again soon.
    pub unsettled: bool,
    pub problems: Vec<Problem>,
    pub never_read: Vec<String>,
}

impl Folder {
    pub(super) fn new(path: PathBuf, relevant: Relevant) -> Self {
        Self {
            path,
            parser: Parser::new(relevant),
            claims: Claims::default(),
            files: BTreeMap::new(),
            home: None,
        }
    }

    pub(super) fn reload(&mut self) -> Reloaded {
        let started = Instant::now();
        let mut unsettled = false;
        let folder_problem = match self.look(&mut unsettled) {
            Ok(()) => None,
            Err(reason) => Some(self.problem_of_folder(reason)),
        };
        let updates = self.claims.settle();
        let changed = !updates.is_empty();
        recorded::source_reload(started.elapsed(), changed);
        let complete = folder_problem.is_none() && !unsettled;
        let never_read = self.files.iter().filter(|(_, file)| !file.understood);
        Reloaded {
            updates,
            complete,
            unsettled,
            never_read: never_read.map(|(name, _)| name.to_string()).collect(),
            problems: self.problems(folder_problem),
        }
    }

    fn look(&mut self, unsettled: &mut bool) -> Result<(), String> {
        let home = folder_id(&self.path);
        let listed = files::list(&self.path).map_err(|error| {
            format!(
                "the folder cannot be read ({error}); make it, or name another with --directory; \
                 what it last said stays"
            )
        })?;
        // A volume that is not mounted any more leaves an empty folder.
        if home != self.home && listed.is_empty() && !self.files.is_empty() {
            return Err(
                "the folder was replaced by an empty one; what it last said stays. \
                 To remove everything, remove the files one by one or restart"
                    .into(),
            );
        }
        self.home = home;
        let gone: Vec<_> = self
            .files
            .keys()
            .filter(|name| !listed.contains_key(&***name))
            .cloned()
            .collect();
        for name in gone {
            self.files.remove(&name);
            self.claims.set(&name, Vec::new());
        }
        for (name, stamp) in listed {
            *unsettled |= self.look_at(&name, stamp);
        }
        Ok(())
    }

    // True when the file is being written to.
    fn look_at(&mut self, name: &str, listed: Result<Stamp, FileError>) -> bool {
        let known = self.files.get(name).and_then(|file| file.stamp);
        let read = match listed {
            Ok(stamp) if known == Some(stamp) => return false,
            Ok(_) => files::read(&self.path.join(name)),
            Err(error) => Err(error),
        };
        let name: Arc<str> = match self.files.get_key_value(name) {
            Some((name, _)) => Arc::clone(name),
            None => name.into(),
        };
        let file = self.files.entry(Arc::clone(&name)).or_default();
        match read {
            Ok((text, stamp)) => {
                file.stamp = stamp.is_telling().then_some(stamp);
                let digest = digest(&SHA256, text.as_bytes());
                if file.digest == digest.as_ref() {
                    return false;
                }
                file.digest = digest.as_ref().to_vec();
                Self::understand(file, &mut self.parser, &mut self.claims, &name, &text);
                false
            }
            Err(FileError::Unsettled) => {
                file.stamp = None;
                true
            }
            Err(error) => {
                file.stamp = None;
                // What it says when it can be read again may be what it said
                // before; the problem must go then, too.
                file.digest.clear();
                file.understood |= matches!(error, FileError::NotAFile);
                file.problems = vec![problem(&name, None, error.to_string())];
                false
            }
        }
    }

    fn understand(
        file: &mut File,
        parser: &mut Parser,
        claims: &mut Claims,
        name: &Arc<str>,
        text: &str,
    ) {
        // Editors and `>` empty a file before they write it: that says neither
        // that its objects are gone nor, at the start, that there are none.
        if text.trim().is_empty() {
            let reason =
                "is empty; what it last said stays. To remove its objects, remove the file";
            let said = claims.has(name).then(|| problem(name, None, reason.into()));
            file.problems = said.into_iter().collect();
            return;
        }
        match parser.parse(text) {
            Ok(objects) => {
                file.understood = true;
                file.problems.clear();
                claims.set(name, objects);
            }
            Err(wrong) => {
                let wrong = wrong.into_iter();
                file.problems = wrong
                    .map(|wrong| problem(name, Some(wrong.line), wrong.reason))
                    .collect();
            }
        }
    }

    fn problem_of_folder(&self, reason: String) -> Problem {
        problem(&self.path.to_string_lossy(), None, reason)
    }

    fn problems(&self, of_folder: Option<Problem>) -> Vec<Problem> {
        let of_files = self.files.values().flat_map(|file| &file.problems);
        let all: BTreeSet<_> = of_folder
            .into_iter()
            .chain(of_files.cloned())
            .chain(self.claims.problems())
            .take(MAX_PROBLEMS)
            .collect();
        all.into_iter().collect()
    }
}

pub(super) fn problem(file: &str, line: Option<u64>, reason: String) -> Problem {
    Problem {
        place: file.to_owned(),
        line,
        reason,
    }
}
