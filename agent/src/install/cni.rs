//! The shim and its network configuration on the node: put there, looked at,
//! taken away. Blocks.

mod chained;
mod program;
mod restore;
mod standalone;
mod words;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tracing::{info, warn};

pub use self::restore::remove;
use self::{program::Programs, words::Trouble};
use super::{
    conf::{Entry, Mark},
    keeper::{Goal, Keep, Looked},
    limit::Limit,
    places::{Mode, Places, PlacesError, Wanted},
    survey::{self, Look, Own, Primary, Survey},
};
use crate::{
    files::{self, FileError},
    status::FileState,
};

const MODE: u32 = 0o600;
/// What failed is tried again this soon.
const AGAIN: Duration = Duration::from_secs(5);

/// The installer.
#[derive(Debug)]
pub struct Installer {
    wanted: Wanted,
    entry: Entry,
    shim: PathBuf,
    /// Where everything goes, as it was last found.
    site: Option<Site>,
    limit: Limit,
}

/// Places, and what we know of them.
#[derive(Debug)]
struct Site {
    places: Places,
    programs: Programs,
    /// What was last put where, and why it differs.
    written: Option<(PathBuf, Vec<u8>)>,
}

/// Why a file was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    Install,
    Update,
    Repair,
}

/// One look: the site, and what may be done to it now.
struct Pass<'a> {
    site: &'a mut Site,
    entry: &'a Entry,
    limit: &'a mut Limit,
    now: Instant,
}

impl Installer {
    /// `shim`: the program to install.
    pub fn new(wanted: Wanted, entry: Entry, shim: &Path) -> Self {
        let mut installer = Self {
            wanted,
            entry,
            shim: shim.to_owned(),
            site: None,
            limit: Limit::default(),
        };
        // Whatever is wrong is said by the first look.
        let _ = installer.find();
        installer
    }

    /// Our configuration, or the folder that it is chained in.
    pub fn path(&self) -> PathBuf {
        let Some(site) = &self.site else {
            return self.wanted.host.at(Path::new("/"));
        };
        match (site.places.mode, &site.written) {
            (Mode::Chained, Some((path, _))) => path.clone(),
            (Mode::Chained, None) => site.places.conf_dir.clone(),
            (Mode::Own | Mode::Standalone, _) => site.places.conf(),
        }
    }

    /// Finds out where everything goes. Where that changes, what we had put
    /// elsewhere is taken away.
    fn find(&mut self) -> Result<(), Trouble> {
        let places = self.wanted.places().map_err(|error| match error {
            PlacesError::Discover(error) => Trouble::Told(error.to_string()),
            PlacesError::File(error) => Trouble::File(error),
        })?;
        if let Some(site) = &self.site {
            if site.places == places {
                return Ok(());
            }
            info!(
                from = places.from,
                "the folders of the runtime have changed"
            );
            remove(&site.places)?;
        }
        self.site = Some(Site {
            programs: Programs::new(&self.shim, &places.shims()),
            places,
            written: None,
        });
        Ok(())
    }

    fn install(&mut self, now: Instant) -> Result<String, Trouble> {
        self.find()?;
        let Some(site) = &mut self.site else {
            return Ok(String::new());
        };
        let mut pass = Pass {
            site,
            entry: &self.entry,
            limit: &mut self.limit,
            now,
        };
        // The program first, so that whatever names it finds it.
        let odd = pass.programs()?;
        let also = match pass.site.places.mode {
            Mode::Own => pass.own()?,
            Mode::Chained => pass.chained()?,
            Mode::Standalone => pass.standalone()?,
        };
        let said = [odd, also].into_iter().filter(|words| !words.is_empty());
        Ok(said.collect::<Vec<_>>().join("; "))
    }

    fn leave(&mut self) -> Result<(), Trouble> {
        self.find()?;
        if let Some(site) = &mut self.site {
            site.written = None;
            site.programs.forget();
            remove(&site.places)?;
        }
        Ok(())
    }

    fn state(&self, message: String, current: bool) -> FileState {
        let there = self
            .site
            .as_ref()
            .is_some_and(|site| restore::is_there(&site.places));
        FileState {
            path: self.path().display().to_string(),
            present: there,
            current,
            message,
            source: match &self.site {
                Some(site) => site.places.from.clone(),
                None => String::new(),
            },
        }
    }
}

impl Pass<'_> {
    fn survey(&self, own: &str) -> Result<Survey, FileError> {
        let places = &self.site.places;
        let listing = survey::read(&places.conf_dir, &places.host)?;
        let look = Look {
            own,
            primary: places.primary.as_deref(),
            takes: &places.takes,
        };
        Ok(survey::survey(listing, look))
    }

    fn programs(&mut self) -> Result<String, Trouble> {
        let (limit, now) = (&mut *self.limit, self.now);
        self.site
            .programs
            .put(|cause, path| may(limit, now, cause, path, ""))
    }

    /// A copy of the original that sorts before it.
    fn own(&mut self) -> Result<String, Trouble> {
        let own = self.site.places.conf_name.clone();
        let survey = self.survey(&own)?;
        if self.site.places.takes.several {
            return Err(Trouble::Told(words::several(&self.site.places)));
        }
        let held = match self.kept(&survey) {
            Some((own, origin, why)) => {
                let wanted = own.with(self.entry, &Mark::CopyOf(origin))?;
                self.put(&wanted, &survey)?;
                why
            }
            None => {
                let Some(primary) = &survey.primary else {
                    return Err(Trouble::Told(words::waiting(&self.site.places, &survey)));
                };
                self.copy(primary, &survey)?;
                String::new()
            }
        };
        self.clear(&survey, Mode::Own, None)?;
        // Not believed because it was written.
        let survey = self.survey(&own)?;
        if let Some(before) = &survey.before {
            return Err(Trouble::Told(words::before(before, &own)));
        }
        self.is_as_written(survey.own.as_ref().map(|own| own.contents.as_slice()))?;
        let odd = words::odd(&survey, &self.site.places);
        let said = [held, odd].into_iter().filter(|words| !words.is_empty());
        Ok(said.collect::<Vec<_>>().join("; "))
    }

    /// Our copy, its original and why, if it is to stay though the original is
    /// not there, or is broken: what comes after that is another network.
    fn kept(&self, survey: &Survey) -> Option<(super::conf::List, String, String)> {
        let own = survey.own.as_ref()?.list.as_ref()?;
        let origin = own.copy_of()?;
        let is_other = |named: &String| survey::other_form(named).is_none_or(|it| it != origin);
        let named = self.site.places.primary.as_ref();
        if named.is_some_and(|named| named != origin && is_other(named)) {
            return None;
        }
        let why = survey.skipped.iter().find(|(name, _)| name == origin);
        let why = match (why, &survey.primary) {
            (Some((_, why)), primary)
                if primary.as_ref().is_none_or(|it| it.name.as_str() > origin) =>
            {
                words::broken(origin, why)
            }
            (None, None) => words::gone(origin, &self.site.places, survey),
            _ => return None,
        };
        Some((own.clone(), origin.to_owned(), why))
    }

    fn copy(&mut self, primary: &Primary, survey: &Survey) -> Result<(), Trouble> {
        if let Some(why) = primary.list.refusal() {
            let name = &primary.name;
            return Err(Trouble::Told(format!("{name} cannot be copied: {why}")));
        }
        let mark = Mark::CopyOf(primary.name.clone());
        let wanted = primary.list.with(self.entry, &mark)?;
        self.put(&wanted, survey)
    }

    /// Our own file.
    fn put(&mut self, wanted: &[u8], survey: &Survey) -> Result<(), Trouble> {
        let path = self.site.places.conf();
        let own: Option<&Own> = survey.own.as_ref();
        let there = own.map(|own| own.contents.as_slice());
        if there == Some(wanted) && own.is_some_and(|own| own.mode == MODE) {
            self.site.written = Some((path, wanted.to_vec()));
            return Ok(());
        }
        let cause = match &self.site.written {
            // It is as we left it, and the original has changed.
            Some((_, written)) if there == Some(written) && written != wanted => Cause::Update,
            Some(_) => Cause::Repair,
            None if there.is_none() => Cause::Install,
            None => Cause::Update,
        };
        let hint = words::renamed(survey, &self.site.places.conf_name);
        may(self.limit, self.now, cause, &path, &hint)?;
        files::write_shared(&path, wanted, MODE)?;
        count("conf", cause, &path);
        self.site.written = Some((path, wanted.to_vec()));
        Ok(())
    }

    fn is_as_written(&self, there: Option<&[u8]>) -> Result<(), Trouble> {
        let written = self.site.written.as_ref();
        match written {
            Some((path, written)) if there != Some(written) => Err(Trouble::Told(format!(
                "{} was changed just now",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Takes away what an agent in another mode, or with another name, left.
    fn clear(&self, survey: &Survey, mode: Mode, kept: Option<&str>) -> Result<(), FileError> {
        let directory = &self.site.places.conf_dir;
        for name in &survey.stale {
            info!(name, "an older configuration of ours is removed");
            files::remove(&directory.join(name))?;
        }
        for (name, before) in &survey.marked {
            if mode != Mode::Chained || kept != Some(name) {
                info!(name, "the shim is taken out of it again");
                restore::unchain(directory, name, before)?;
            }
        }
        Ok(())
    }
}

impl Keep for Installer {
    fn look(&mut self, goal: Goal) -> Looked {
        let done = match goal {
            Goal::Wait => {
                let state = self.state("what is wanted of the node is not known yet".into(), false);
                return Looked { state, again: None };
            }
            Goal::Leave => self.leave().map(|()| String::new()),
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
                    _ => AGAIN,
                };
                Looked {
                    state: self.state(crate::error::chain(&trouble), false),
                    again: Some(again),
                }
            }
        }
    }

    fn directories(&self) -> Vec<PathBuf> {
        let places = self.site.as_ref().map(|site| &site.places);
        let all = places.map(|it| std::iter::once(&it.conf_dir).chain(&it.bin_dirs));
        all.into_iter().flatten().cloned().collect()
    }
}

/// Whether a file may be written now.
fn may(
    limit: &mut Limit,
    now: Instant,
    cause: Cause,
    path: &Path,
    hint: &str,
) -> Result<(), Trouble> {
    if cause != Cause::Repair {
        return Ok(());
    }
    limit.ask(now).map_err(|wait| Trouble::Fight {
        path: path.display().to_string(),
        times: limit.too_many(now).unwrap_or_default(),
        wait,
        hint: hint.to_owned(),
    })?;
    limit.made(now);
    Ok(())
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

#[cfg(test)]
mod tests;
