//! Where the shim and its configuration go on this node.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    conf::SHIM,
    discover::{self, DiscoverError, RUNTIMES, Takes},
    host::Host,
};
use crate::files::FileError;

/// How the runtime comes to call the shim.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Mode {
    /// By a configuration of ours that sorts first: a copy of the primary one
    /// with the shim behind it.
    #[default]
    Own,
    /// By the primary configuration itself, into which the shim is put.
    Chained,
    /// By Multus, which finds a configuration of the shim alone by its name.
    Standalone,
}

/// What was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    pub host: Host,
    /// Paths of the node; what is not given is discovered.
    pub conf_dir: Option<PathBuf>,
    pub bin_dirs: Vec<PathBuf>,
    pub conf_name: String,
    pub mode: Mode,
    pub primary: Option<String>,
}

/// Where everything is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Places {
    pub host: Host,
    pub conf_dir: PathBuf,
    /// In the order in which the runtime searches them.
    pub bin_dirs: Vec<PathBuf>,
    /// Name of our configuration; the file of this name is ours.
    pub conf_name: String,
    pub mode: Mode,
    /// The original, if it is named.
    pub primary: Option<String>,
    pub takes: Takes,
    /// A runtime is known to read the folder.
    pub is_read: bool,
    /// What names the folders, for people.
    pub from: String,
}

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Wanted {
    /// Looks at the node, if it is not all given.
    pub fn places(&self) -> Result<Places, PlacesError> {
        let given = self.conf_dir.clone().filter(|_| !self.bin_dirs.is_empty());
        if let Some(conf) = given {
            let from = "--cni-conf-dir and --cni-bin-dir".into();
            return self.at(&conf, &self.bin_dirs, Takes::default(), from);
        }
        let found = discover::discover(&self.host)?;
        let (conf, bins, from) = match (&self.conf_dir, self.bin_dirs.as_slice()) {
            (Some(conf), _) => (
                conf,
                &*found.bin_dirs,
                format!("--cni-conf-dir and {}", found.from),
            ),
            (None, []) => (&found.conf_dir, &*found.bin_dirs, found.from),
            (None, bins) => (
                &found.conf_dir,
                bins,
                format!("--cni-bin-dir and {}", found.from),
            ),
        };
        let mut places = self.at(conf, bins, found.takes, from)?;
        places.is_read |= *conf == found.conf_dir;
        Ok(places)
    }

    fn at(
        &self,
        conf: &Path,
        bins: &[PathBuf],
        takes: Takes,
        from: String,
    ) -> Result<Places, PlacesError> {
        let find = |path: &Path| {
            let ours = self.host.at(path);
            match self.host.follow(&ours) {
                // Made later, perhaps; said when it is looked at.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ours),
                found => found.map_err(FileError::at("find", &ours)),
            }
        };
        let runtimes = RUNTIMES.map(Path::new);
        Ok(Places {
            host: self.host.clone(),
            is_read: runtimes
                .into_iter()
                .any(|dir| conf.components().eq(dir.components())),
            conf_dir: find(conf)?,
            bin_dirs: bins.iter().map(|dir| find(dir)).collect::<Result<_, _>>()?,
            conf_name: self.conf_name.clone(),
            mode: self.mode,
            primary: self.primary.clone(),
            takes,
            from,
        })
    }
}

impl Places {
    /// Our own configuration.
    pub fn conf(&self) -> PathBuf {
        self.conf_dir.join(&self.conf_name)
    }

    /// The shim, in every folder of plugins.
    pub fn shims(&self) -> Vec<PathBuf> {
        self.bin_dirs.iter().map(|dir| dir.join(SHIM)).collect()
    }
}
