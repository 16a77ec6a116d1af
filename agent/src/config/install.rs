//! What the agent puts on the node's disk.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{ConfigError, Directories, SOCKET};
use crate::{
    files::FileError,
    install::{
        ambient,
        cni::{self, Places},
        conf::Entry,
    },
    run::{NAMESPACES, NOTES},
};

/// The shim waits this much longer than an ADD may take, so that the reason
/// reaches the kubelet.
const LONGER: u64 = 2;
/// The shim takes no more.
const LONGEST: u64 = 600;

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
    /// Where the runtime reads network configurations. A copy of the first one
    /// with the shim behind it is kept there. Nothing is installed without it.
    #[arg(long, env = "SLUICE_CNI_CONF_DIR", requires = "cni_bin_dir")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Where the runtime looks for plugins; the shim is kept there.
    #[arg(long, env = "SLUICE_CNI_BIN_DIR", requires = "cni_conf_dir")]
    pub cni_bin_dir: Option<PathBuf>,
    /// Name of that copy; it must sort before the original. The file of this
    /// name is the agent's.
    #[arg(
        long,
        env = "SLUICE_CNI_CONF_NAME",
        default_value = "02-sluice.conflist"
    )]
    pub cni_conf_name: String,
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
    pub cni: Option<Places>,
    pub ambient: Option<PathBuf>,
}

impl NodeFilesArgs {
    /// The places, or the first flag that cannot be used. `directories`: where
    /// the shim is to find the agent, when it is to be installed.
    pub fn checked(&self, directories: Option<&Directories>) -> Result<NodeFiles, ConfigError> {
        let name = &self.cni_conf_name;
        let plain = !name.contains('/') && !name.starts_with('.') && name.ends_with(".conflist");
        if !plain || name.len() > 128 {
            return Err(ConfigError {
                flag: "--cni-conf-name",
                value: name.clone(),
                why: "is not the name of a configuration list".into(),
                remedy: "give a file name that ends in .conflist, as 02-sluice.conflist",
            });
        }
        let dirs = self.cni_conf_dir.clone().zip(self.cni_bin_dir.clone());
        let cni = dirs.map(|(conf_dir, bin_dir)| Places {
            conf_dir,
            bin_dir,
            conf_name: name.clone(),
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
    pub fn remove(&self) -> Result<Vec<PathBuf>, FileError> {
        let mut removed = match &self.cni {
            Some(places) => cni::remove(places)?,
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
