//! What the agent puts on the node's disk.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{ConfigError, Directories, SOCKET};
use crate::{
    install::{
        ambient, cni,
        conf::Entry,
        host::Host,
        places::{Mode, PlacesError, Wanted},
    },
    run::{NAMESPACES, NOTES},
};

/// The shim waits this much longer than an ADD may take, so that the reason
/// reaches the kubelet.
const LONGER: u64 = 2;
/// The shim takes no more.
const LONGEST: u64 = 600;
const OWN: &str = "02-sluice.conflist";
/// Behind every other: a runtime that reads the folder takes another first.
const ALONE: &str = "zzz-sluice-cni.conf";

/// Flags of `run` about files on the node.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Files on the node")]
pub struct InstallArgs {
    #[command(flatten)]
    pub files: NodeFilesArgs,
    /// The shim that is installed.
    #[arg(
        long,
        env = "SLUICE_CNI_SHIM",
        default_value = "/usr/local/bin/sluice-cni"
    )]
    pub cni_shim: PathBuf,
    /// What the shim does, while the agent does not answer, with pods of
    /// namespaces that are known to have no enrolled pods.
    #[arg(
        long,
        env = "SLUICE_ON_AGENT_DOWN",
        value_enum,
        default_value = "known"
    )]
    pub on_agent_down: OnAgentDown,
}

/// Flags of `run` and `cleanup` alike.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Files on the node")]
pub struct NodeFilesArgs {
    /// Where the node's root is mounted. Paths of the runtime are paths on the
    /// node, and are looked for below it.
    #[arg(long, env = "SLUICE_HOST_ROOT", default_value = "/")]
    pub host_root: PathBuf,
    /// Find out from the runtime's own configuration where it keeps its network
    /// configurations and plugins, as far as the next two do not say.
    #[arg(long, env = "SLUICE_CNI_DISCOVER")]
    pub cni_discover: bool,
    /// Where the runtime reads network configurations. Nothing is installed if
    /// it is neither given nor discovered.
    #[arg(long, env = "SLUICE_CNI_CONF_DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Where the runtime looks for plugins, in its order; the shim is kept in
    /// each of them.
    #[arg(long, env = "SLUICE_CNI_BIN_DIR", value_delimiter = ',')]
    pub cni_bin_dir: Vec<PathBuf>,
    /// How the runtime comes to call the shim.
    #[arg(long, env = "SLUICE_CNI_MODE", value_enum, default_value = "own")]
    pub cni_mode: Mode,
    /// Name of the configuration that is copied, or chained to. The first that
    /// can be used unless given. A .conf that is not there may be a .conflist,
    /// and the other way round.
    #[arg(long, env = "SLUICE_CNI_CONF_PRIMARY")]
    pub cni_conf_primary: Option<String>,
    /// Name of our own configuration. The file of this name is the agent's. A
    /// copy must sort before its original.
    #[arg(long, env = "SLUICE_CNI_CONF_NAME")]
    pub cni_conf_name: Option<String>,
    /// Where config.json is kept, as early ambient did, for tools that read it.
    /// Off unless given.
    #[arg(long, env = "SLUICE_AMBIENT_CONFIG_DIR")]
    pub ambient_config_dir: Option<PathBuf>,
}

/// What becomes of pods while the agent does not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum OnAgentDown {
    /// Those of namespaces without enrolled pods pass.
    Known,
    /// Only excluded namespaces pass.
    Deny,
}

/// Files that the agent keeps on the node, checked.
#[derive(Clone, Debug, Default)]
pub struct NodeFiles {
    pub cni: Option<Wanted>,
    pub ambient: Option<PathBuf>,
}

impl NodeFilesArgs {
    /// The places, or the first flag that cannot be used. `directories`: where
    /// the shim is to find the agent, when it is to be installed.
    pub fn checked(&self, directories: Option<&Directories>) -> Result<NodeFiles, ConfigError> {
        let name = self.conf_name()?;
        if let Some(primary) = &self.cni_conf_primary
            && (!is_plain(primary, &["conf", "conflist", "json"]) || *primary == name)
        {
            return Err(ConfigError {
                flag: "--cni-conf-primary",
                value: primary.clone(),
                why: "is not the name of somebody else's configuration".into(),
                remedy: "give a file name without its folder, as 10-calico.conflist",
            });
        }
        let bins = !self.cni_bin_dir.is_empty();
        if !self.cni_discover && self.cni_conf_dir.is_some() != bins {
            let (flag, remedy) = if bins {
                (
                    "--cni-bin-dir",
                    "give --cni-conf-dir too, or --cni-discover",
                )
            } else {
                (
                    "--cni-conf-dir",
                    "give --cni-bin-dir too, or --cni-discover",
                )
            };
            return Err(ConfigError {
                flag,
                value: String::new(),
                why: "says where one half goes and not the other".into(),
                remedy,
            });
        }
        let cni = (self.cni_discover || bins).then(|| Wanted {
            host: Host::new(&self.host_root),
            conf_dir: self.cni_conf_dir.clone(),
            bin_dirs: self.cni_bin_dir.clone(),
            conf_name: name,
            mode: self.cni_mode,
            primary: self.cni_conf_primary.clone(),
        });
        if let Some(directories) = directories.filter(|_| cni.is_some()) {
            absolute("--run-dir", &directories.run_dir)?;
            absolute("--state-dir", &directories.state_dir)?;
        }
        Ok(NodeFiles {
            cni,
            ambient: self.ambient_config_dir.clone(),
        })
    }
}

impl NodeFilesArgs {
    fn conf_name(&self) -> Result<String, ConfigError> {
        let standalone = self.cni_mode == Mode::Standalone;
        let name = match &self.cni_conf_name {
            None if standalone => ALONE.to_owned(),
            None => OWN.to_owned(),
            Some(name) => name.clone(),
        };
        let (ending, remedy) = if standalone {
            (
                "conf",
                "give a file name that ends in .conf, as zzz-sluice-cni.conf",
            )
        } else {
            (
                "conflist",
                "give a file name that ends in .conflist, as 02-sluice.conflist",
            )
        };
        if is_plain(&name, &[ending]) {
            return Ok(name);
        }
        Err(ConfigError {
            flag: "--cni-conf-name",
            value: name,
            why: "is not the name of such a configuration".into(),
            remedy,
        })
    }
}

/// A name in a folder, with one of these endings.
fn is_plain(name: &str, endings: &[&str]) -> bool {
    let ends = |(stem, ending): (&str, &str)| !stem.is_empty() && endings.contains(&ending);
    let short = name.len() <= 128 && !name.starts_with('.');
    short && !name.contains('/') && name.rsplit_once('.').is_some_and(ends)
}

impl InstallArgs {
    /// The shim's own configuration.
    pub(super) fn entry(
        &self,
        directories: &Directories,
        exclude_namespaces: Vec<String>,
        add_deadline: Duration,
    ) -> Entry {
        let seconds = add_deadline.as_secs().saturating_add(LONGER);
        Entry {
            socket: directories.run_dir.join(SOCKET),
            namespaces_file: directories.run_dir.join(NAMESPACES),
            notes_file: directories.state_dir.join(NOTES),
            exclude_namespaces,
            on_agent_down: match self.on_agent_down {
                OnAgentDown::Known => "known",
                OnAgentDown::Deny => "deny",
            },
            timeout_seconds: seconds.min(LONGEST),
        }
    }
}

impl NodeFiles {
    /// Takes all of them away; which were there.
    pub fn remove(&self) -> Result<Vec<PathBuf>, PlacesError> {
        let mut removed = match &self.cni {
            Some(wanted) => cni::remove(&wanted.places()?)?,
            None => Vec::new(),
        };
        if let Some(directory) = &self.ambient
            && ambient::remove(directory)?
        {
            removed.push(ambient::path(directory));
        }
        Ok(removed)
    }
}

fn absolute(flag: &'static str, path: &Path) -> Result<(), ConfigError> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(ConfigError {
        flag,
        value: path.display().to_string(),
        why: "is not absolute, and the shim has to find it".into(),
        remedy: "give the path as it is on the node",
    })
}
