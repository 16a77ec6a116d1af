//! The shim and its network configuration on the node: put there, looked at,
//! taken away. Blocks.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{
    binary::{Binary, Found},
    conf::{Entry, SHIM},
    keeper::{Goal, Keep, Looked},
    limit::Limit,
    survey::{self, Own, Primary, Survey},
};
use crate::{
    files::{self, FileError},
    status::FileState,
};

const MODE: u32 = 0o600;
/// What failed is tried again this soon.
const AGAIN: Duration = Duration::from_secs(5);

/// Where the files go.
#[derive(Clone, Debug)]
pub struct Places {
    pub conf_dir: PathBuf,
    pub bin_dir: PathBuf,
    /// Name of our configuration; the file of this name is ours.
    pub conf_name: String,
}

/// The installer.
#[derive(Debug)]
pub struct Installer {
    places: Places,
    entry: Entry,
    binary: Binary,
    /// What was last put there, and why a file differs from it.
    written: Option<Vec<u8>>,
    placed: bool,
    limit: Limit,
}

/// Why a file was written.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Install,
    Update,
    Repair,
}

/// Why ours is not in place.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot write the configuration")]
    Encode(#[from] serde_json::Error),
    #[error("{0}")]
    Told(String),
    #[error(
        "something else changes {path} again and again ({times} times within a minute); it is \
         mended again in {} s; find what writes to the directory (with Cilium, set \
         cni.exclusive=false)",
        wait.as_secs() + 1
    )]
    Fight {
        path: String,
        times: usize,
        wait: Duration,
    },
}

impl Places {
    pub fn conf(&self) -> PathBuf {
        self.conf_dir.join(&self.conf_name)
    }

    pub fn shim(&self) -> PathBuf {
        self.bin_dir.join(SHIM)
    }
}

impl Installer {
    /// `shim`: the program to install.
    pub fn new(places: Places, entry: Entry, shim: &Path) -> Self {
        Self {
            binary: Binary::new(shim, places.shim()),
            places,
            entry,
            written: None,
            placed: false,
            limit: Limit::default(),
        }
    }

    /// Our configuration.
    pub fn path(&self) -> PathBuf {
        self.places.conf()
    }

    /// The binary first, then the configuration that names it; then looks at
    /// what the runtime will take.
    fn install(&mut self, now: Instant) -> Result<String, Trouble> {
        let survey = self.survey()?;
        self.put_binary(now)?;
        let conf = self.places.conf();
        match &survey.primary {
            Some(primary) => {
                self.put_conf(now, primary, survey.own.as_ref())?;
                for name in &survey.stale {
                    // Of this agent, when it was told another name.
                    info!(name, "an older configuration of ours is removed");
                    files::remove(&self.places.conf_dir.join(name))?;
                }
            }
            None => return self.alone(&survey),
        }
        // Not believed because it was written.
        let survey = self.survey()?;
        if let Some(before) = &survey.before {
            let takes = if before.certain { "takes" } else { "may take" };
            return Err(Trouble::Told(format!(
                "{} sorts before {} and the runtime {takes} it instead, so pods start without \
                 the shim; remove it, or name a file before it with --cni-conf-name",
                before.name, self.places.conf_name
            )));
        }
        let there = survey.own.as_ref();
        if there.map(|own| &own.contents) != self.written.as_ref() {
            return Err(Trouble::Told(format!(
                "{} was changed just now",
                conf.display()
            )));
        }
        Ok(odd(&survey, &self.places.conf_name))
    }

    fn survey(&self) -> Result<Survey, FileError> {
        let files = survey::read(&self.places.conf_dir)?;
        Ok(survey::survey(files, &self.places.conf_name))
    }

    fn put_binary(&mut self, now: Instant) -> Result<(), Trouble> {
        let cause = match self.binary.look()? {
            Found::Same => {
                self.placed = true;
                return Ok(());
            }
            _ if self.placed => Cause::Repair,
            Found::Nothing => Cause::Install,
            Found::Another => Cause::Update,
        };
        let path = self.places.shim();
        self.may(now, cause, &path)?;
        self.binary.put()?;
        self.placed = true;
        count("binary", cause, &path);
        Ok(())
    }

    fn put_conf(
        &mut self,
        now: Instant,
        primary: &Primary,
        own: Option<&Own>,
    ) -> Result<(), Trouble> {
        if let Some(why) = primary.list.refusal() {
            let name = &primary.name;
            return Err(Trouble::Told(format!("{name} cannot be copied: {why}")));
        }
        let wanted = primary.list.with(&self.entry, &primary.name)?;
        let there = own.map(|own| &own.contents);
        if there == Some(&wanted) && own.is_some_and(|own| own.mode == MODE) {
            self.written = Some(wanted);
            return Ok(());
        }
        let cause = match &self.written {
            // It is as we left it, and the original has changed.
            Some(written) if there == Some(written) && *written != wanted => Cause::Update,
            Some(_) => Cause::Repair,
            None if there.is_none() => Cause::Install,
            None => Cause::Update,
        };
        let path = self.places.conf();
        self.may(now, cause, &path)?;
        files::write_shared(&path, &wanted, MODE)?;
        self.written = Some(wanted);
        count("conf", cause, &path);
        Ok(())
    }

    /// Whether a file may be written now.
    fn may(&mut self, now: Instant, cause: Cause, path: &Path) -> Result<(), Trouble> {
        if !matches!(cause, Cause::Repair) {
            return Ok(());
        }
        self.limit.ask(now).map_err(|wait| Trouble::Fight {
            path: path.display().to_string(),
            times: self.limit.too_many(now).unwrap_or_default(),
            wait,
        })?;
        self.limit.made(now);
        Ok(())
    }

    /// Nobody else's configuration is there.
    fn alone(&mut self, survey: &Survey) -> Result<String, Trouble> {
        let directory = self.places.conf_dir.display();
        let skipped = skipped(survey);
        if let Some(own) = &survey.own
            && let Some(list) = own.list.as_ref()
            && let Some(file) = list.copy_of()
            && list.with(&self.entry, file)? == own.contents
            && own.mode == MODE
        {
            self.written = Some(own.contents.clone());
            return Ok(format!(
                "{file}, which ours is a copy of, is not in {directory} any more; the copy stays in \
                 use{skipped}"
            ));
        }
        Err(Trouble::Told(format!(
            "{directory} has no network configuration yet to put the shim behind; it is waited \
             for{skipped}"
        )))
    }

    fn state(&self, message: String, current: bool) -> FileState {
        let there = |path: &Path| path.symlink_metadata().is_ok();
        FileState {
            path: self.places.conf().display().to_string(),
            present: there(&self.places.conf()) || there(&self.places.shim()),
            current,
            message,
        }
    }
}

impl Keep for Installer {
    fn look(&mut self, goal: Goal) -> Looked {
        let done = match goal {
            Goal::Wait => {
                let state = self.state("what is wanted of the node is not known yet".into(), false);
                return Looked { state, again: None };
            }
            Goal::Leave => {
                self.written = None;
                self.placed = false;
                remove(&self.places)
                    .map(|_| String::new())
                    .map_err(Into::into)
            }
            Goal::Install => self.install(Instant::now()),
        };
        metrics::gauge!("sluice_cni_installed").set(f64::from(u8::from(
            done.is_ok() && matches!(goal, Goal::Install),
        )));
        match done {
            Ok(message) => Looked {
                state: self.state(message, matches!(goal, Goal::Install)),
                again: None,
            },
            Err(trouble) => {
                let again = match &trouble {
                    Trouble::Fight { wait, .. } => *wait,
                    Trouble::File(_) | Trouble::Encode(_) | Trouble::Told(_) => AGAIN,
                };
                Looked {
                    state: self.state(crate::error::chain(&trouble), false),
                    again: Some(again),
                }
            }
        }
    }

    fn directories(&self) -> Vec<PathBuf> {
        vec![self.places.conf_dir.clone(), self.places.bin_dir.clone()]
    }
}

/// Takes everything of ours away: the configuration before the program that it
/// names. Returns what was removed. What is not there is fine.
pub fn remove(places: &Places) -> Result<Vec<PathBuf>, FileError> {
    let conf = places.conf();
    let survey = match survey::read(&places.conf_dir) {
        Ok(files) => survey::survey(files, &places.conf_name),
        Err(error) if error.is_not_found() => Survey::default(),
        Err(error) => return Err(error),
    };
    let stale = survey.stale.iter().map(|name| places.conf_dir.join(name));
    let mut removed = Vec::new();
    for path in [conf.clone()].into_iter().chain(stale) {
        take(&path, &mut removed)?;
    }
    take_temporary(&conf)?;
    if let Some(name) = survey.chained.first() {
        warn!(
            name,
            shim = %places.shim().display(),
            "somebody else's configuration names the shim, which therefore stays"
        );
        return Ok(removed);
    }
    take(&places.shim(), &mut removed)?;
    take_temporary(&places.shim())?;
    Ok(removed)
}

fn take(path: &Path, removed: &mut Vec<PathBuf>) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::at("remove", path)(error)),
    }
    info!(path = %path.display(), "removed");
    removed.push(path.to_owned());
    path.parent().map_or(Ok(()), files::sync_directory)
}

/// What a crash may have left.
fn take_temporary(path: &Path) -> Result<(), FileError> {
    files::temporary(path).map_or(Ok(()), |path| files::remove(&path))
}

fn count(kind: &'static str, cause: Cause, path: &Path) {
    let path = path.display();
    let label = match cause {
        Cause::Install => "install",
        Cause::Update => "update",
        Cause::Repair => "repair",
    };
    match cause {
        Cause::Repair => warn!(%path, "somebody changed or removed what we had installed; mended"),
        Cause::Install | Cause::Update => info!(%path, cause = label, "written"),
    }
    metrics::counter!("sluice_cni_files_written_total", "kind" => kind, "cause" => label)
        .increment(1);
}

/// What is worth knowing though ours is in place.
fn odd(survey: &Survey, own: &str) -> String {
    let early = survey.skipped.iter().find(|(name, _)| name.as_str() < own);
    early.map_or_else(String::new, |(name, why)| {
        format!(
            "{name} sorts before ours and cannot be used ({why}): containerd then uses no \
             configuration at all; remove it"
        )
    })
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

#[cfg(test)]
mod tests;
