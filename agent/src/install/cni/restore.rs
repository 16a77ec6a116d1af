//! Taking everything away again, whatever the mode it was put there in.

use std::{
    io,
    path::{Path, PathBuf},
};

use tracing::{info, warn};

use super::chained::aside;
use crate::{
    files::{self, FileError},
    install::{
        chain,
        conf::{LARGEST, List},
        discover::Takes,
        places::Places,
        survey::{self, Look, Survey},
    },
};

/// Takes everything of ours away: the configuration before the program that it
/// names. Returns what was removed or put back. What is not there is fine.
pub fn remove(places: &Places) -> Result<Vec<PathBuf>, FileError> {
    let directory = &places.conf_dir;
    let survey = judged(places)?.unwrap_or_default();
    let mut removed = Vec::new();
    for (name, before) in &survey.marked {
        unchain(directory, name, before)?;
        removed.push(directory.join(name));
    }
    let stale = survey.stale.iter().map(|name| directory.join(name));
    for path in [places.conf()].into_iter().chain(stale) {
        take(&path, &mut removed)?;
        take_temporary(&path)?;
    }
    for name in &survey.aside {
        // Its list is gone, and not by us.
        let path = directory.join(aside(name));
        if path.symlink_metadata().is_ok() {
            warn!(path = %path.display(), "somebody removed the network that it was of");
            take(&path, &mut removed)?;
        }
    }
    for (name, _) in &survey.renamed {
        let path = directory.join(format!("{name}.cilium_bak"));
        if is_ours(name, &path) {
            take(&path, &mut removed)?;
        }
    }
    if let Some(name) = survey.chained.first() {
        warn!(
            name,
            shims = ?places.shims(),
            "somebody else's configuration names the shim, which therefore stays"
        );
        return Ok(removed);
    }
    for shim in places.shims() {
        match take(&shim, &mut removed).and_then(|()| take_temporary(&shim)) {
            // It could not have been put there.
            Err(_) if shim.symlink_metadata().is_err() => {}
            done => done?,
        }
    }
    Ok(removed)
}

/// Whether anything of ours is there.
pub(super) fn is_there(places: &Places) -> bool {
    let mut files = places.shims();
    files.push(places.conf());
    if files.iter().any(|path| path.symlink_metadata().is_ok()) {
        return true;
    }
    let survey = judged(places).ok().flatten();
    survey.is_some_and(|survey| !survey.marked.is_empty() || !survey.stale.is_empty())
}

/// None if there is no folder.
fn judged(places: &Places) -> Result<Option<Survey>, FileError> {
    let look = Look {
        own: &places.conf_name,
        primary: None,
        takes: &Takes::default(),
    };
    match survey::read(&places.conf_dir, &places.host) {
        Ok(listing) => Ok(Some(survey::survey(listing, look))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the shim out of somebody else's list. `before`: what it was called
/// before we put it there.
pub(super) fn unchain(directory: &Path, name: &str, before: &str) -> Result<(), FileError> {
    let path = directory.join(name);
    let (contents, metadata) = files::read_ordinary(&path, LARGEST)?;
    let odd = |why: String| FileError::at("restore", &path)(io::Error::other(why));
    let text = std::str::from_utf8(&contents).map_err(|error| odd(error.to_string()))?;
    let kept = directory.join(aside(before));
    let is_made = before != name && kept.symlink_metadata().is_ok();
    if is_made && is_made_from(text, before, &kept) {
        let original = directory.join(before);
        if original.symlink_metadata().is_ok() {
            // Its owner has written it anew.
            files::remove(&kept)?;
        } else {
            // It sorts first, so it counts from here on.
            files::rename(&kept, &original)?;
        }
        files::remove(&path)?;
    } else {
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
        let without = chain::without(text).map_err(|invalid| odd(invalid.to_string()))?;
        files::write_over(&path, &contents, without.as_bytes(), mode)?;
        if is_made {
            files::remove(&kept)?;
        }
    }
    take_temporary(&path)?;
    info!(path = %path.display(), "restored");
    files::sync_directory(directory)
}

/// Whether a list has, besides the shim, what was put aside and nothing else.
fn is_made_from(text: &str, before: &str, kept: &Path) -> bool {
    let Ok((original, _)) = files::read_ordinary(kept, LARGEST) else {
        return false;
    };
    let made = List::parse(before, &original)
        .ok()
        .and_then(|list| list.without().ok());
    made.is_some() && made == chain::without(text).ok()
}

fn is_ours(name: &str, path: &Path) -> bool {
    let contents = files::read_ordinary(path, LARGEST);
    contents.is_ok_and(|(contents, _)| List::parse(name, &contents).is_ok_and(|it| it.is_ours()))
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
