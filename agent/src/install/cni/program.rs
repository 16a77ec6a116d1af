//! The shim in every folder in which the runtime looks for plugins.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{
    Cause, count,
    words::{self, Trouble},
};
use crate::{
    files::FileError,
    install::binary::{Binary, Found},
};

/// All of them, in the order in which they are searched.
#[derive(Debug)]
pub(super) struct Programs(Vec<Program>);

#[derive(Debug)]
struct Program {
    path: PathBuf,
    binary: Binary,
    placed: bool,
}

impl Programs {
    pub(super) fn new(from: &Path, to: &[PathBuf]) -> Self {
        let program = |path: &PathBuf| Program {
            path: path.clone(),
            binary: Binary::new(from, path.clone()),
            placed: false,
        };
        Self(to.iter().map(program).collect())
    }

    pub(super) fn forget(&mut self) {
        for program in &mut self.0 {
            program.placed = false;
        }
    }

    /// Puts it wherever that can be done; fails unless the one that the runtime
    /// finds is ours. Returns what is odd.
    pub(super) fn put(
        &mut self,
        mut may: impl FnMut(Cause, &Path) -> Result<(), Trouble>,
    ) -> Result<String, Trouble> {
        let mut failed: Vec<FileError> = Vec::new();
        for program in &mut self.0 {
            match program.put(&mut may) {
                Ok(()) => {}
                Err(Trouble::File(error)) => failed.push(error),
                Err(trouble) => return Err(trouble),
            }
        }
        // As every runtime does: the first that is a file, whatever its mode.
        let first = self.0.iter_mut().find(|program| program.path.is_file());
        let Some(first) = first else {
            let none = || Trouble::Told("no folder of plugins is known".into());
            return Err(failed.into_iter().next().map_or_else(none, Trouble::File));
        };
        let why: Vec<String> = failed.iter().map(words::file).collect();
        let why = why.join("; ");
        if first.binary.look()? != Found::Same {
            return Err(Trouble::Told(format!(
                "the runtime finds {} first, which is not this agent's shim, and it cannot be \
                 replaced: {why}",
                first.path.display()
            )));
        }
        if let Err(error) = access(&first.path, AccessFlags::X_OK) {
            return Err(Trouble::Told(format!(
                "{} cannot be run ({}): is its file system mounted noexec?",
                first.path.display(),
                error.desc()
            )));
        }
        if why.is_empty() {
            return Ok(why);
        }
        Ok(format!(
            "the runtime finds {}; elsewhere: {why}",
            first.path.display()
        ))
    }
}

impl Program {
    fn put(
        &mut self,
        may: &mut impl FnMut(Cause, &Path) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let cause = match self.binary.look()? {
            Found::Same => {
                self.placed = true;
                return Ok(());
            }
            _ if self.placed => Cause::Repair,
            Found::Nothing => Cause::Install,
            Found::Another => Cause::Update,
        };
        may(cause, &self.path)?;
        self.binary.put()?;
        self.placed = true;
        count("binary", cause, &self.path);
        Ok(())
    }
}
