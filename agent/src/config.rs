//! Command line and environment, checked and turned into plain values.

mod install;
mod kernel;
mod parse;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use sluice_kernel::model::Settings;
use sluice_mtls::TlsFiles;

use crate::install::conf::Entry;

use self::parse::{duration, endpoint, namespace, node_name};
pub use self::{
    install::{InstallArgs, NodeFiles, NodeFilesArgs, OnAgentDown},
    kernel::KernelArgs,
};

/// Puts the pods of one node into the mesh, and says whether they are.
#[derive(Debug, Parser)]
#[command(name = "sluice-agent", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent. On SIGTERM it leaves everything it made in place, on
    /// purpose: captured pods stay captured while it is away.
    Run(Box<RunArgs>),
    /// Show the state of the node and of its pods.
    Status(StatusArgs),
    /// Show one pod: what is wanted, what was found in the kernel, and the
    /// commands that list the same.
    Explain(ExplainArgs),
    /// Remove everything the agent made from the node's and the proxy's
    /// network namespaces. Stop the agent first.
    Cleanup(Box<CleanupArgs>),
}

/// Flags of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Name of this node, as in its certificate.
    #[arg(long, env = "SLUICE_NODE_NAME", value_parser = node_name)]
    pub node_name: String,
    /// A controller, `https://host:port`; repeat it for each replica.
    #[arg(long, env = "SLUICE_CONTROLLER", value_delimiter = ',', required = true, value_parser = endpoint)]
    pub controller: Vec<String>,
    /// Trust domain of every certificate.
    #[arg(long, env = "SLUICE_TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: String,
    /// This node's certificate chain (PEM). Re-read when it changes.
    #[arg(
        long,
        env = "SLUICE_TLS_CERT",
        requires = "tls_key",
        required_unless_present = "token_file",
        conflicts_with = "token_file"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(
        long,
        env = "SLUICE_TLS_KEY",
        requires = "tls_cert",
        required_unless_present = "token_file",
        conflicts_with = "token_file"
    )]
    pub tls_key: Option<PathBuf>,
    /// A service account token for audience `sluice-controller`, bound to this
    /// pod: with it the certificate comes from the controller's issuer. Read at
    /// each request.
    #[arg(long, env = "SLUICE_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates that controllers and operators are checked against (PEM).
    #[arg(long, env = "SLUICE_TLS_CA")]
    pub tls_ca: PathBuf,
    /// Revocation lists for operators' certificates (PEM); may be empty.
    #[arg(long, env = "SLUICE_TLS_CRL")]
    pub tls_crl: Option<PathBuf>,
    #[command(flatten)]
    pub directories: Directories,
    #[command(flatten)]
    pub install: InstallArgs,
    /// The node's /proc: where the proxy's namespace is looked for when it was
    /// there before the agent.
    #[arg(long, env = "SLUICE_PROC_DIR", default_value = "/proc")]
    pub proc_dir: PathBuf,
    /// Where to serve /metrics, /healthz and /readyz.
    #[arg(long, env = "SLUICE_METRICS_LISTEN", default_value = "0.0.0.0:15014")]
    pub metrics_listen: SocketAddr,
    /// Where to serve NodeService over mutual TLS, for operators. Off unless given.
    #[arg(long, env = "SLUICE_OPS_LISTEN")]
    pub ops_listen: Option<SocketAddr>,
    /// The proxy's network namespace, when it is not a pod that the controller names.
    #[arg(long, env = "SLUICE_PROXY_NETNS")]
    pub proxy_netns: Option<PathBuf>,
    /// An address of the proxy that --proxy-netns names; repeat it for each.
    #[arg(
        long,
        env = "SLUICE_PROXY_ADDRESS",
        value_delimiter = ',',
        requires = "proxy_netns"
    )]
    pub proxy_address: Vec<IpAddr>,
    /// What becomes of a pod that the controller cannot be asked about.
    #[arg(
        long,
        env = "SLUICE_ON_UNKNOWN_POD",
        value_enum,
        default_value = "deny"
    )]
    pub on_unknown_pod: OnUnknownPod,
    /// Namespaces whose pods are never captured and never refused.
    #[arg(
        long,
        env = "SLUICE_EXCLUDED_NAMESPACES",
        value_delimiter = ',',
        default_value = "kube-system,sluice-system,istio-system",
        value_parser = namespace
    )]
    pub excluded_namespaces: Vec<String>,
    /// How long a pod's creation may wait for a proxy. Shorter than the shim's
    /// own timeout, so that the reason reaches the kubelet.
    #[arg(long, env = "SLUICE_ADD_DEADLINE", default_value = "8s", value_parser = duration)]
    pub add_deadline: Duration,
    /// How often everything is looked at even when nothing seems to have changed.
    #[arg(long, env = "SLUICE_RESYNC_INTERVAL", default_value = "60s", value_parser = duration)]
    pub resync_interval: Duration,
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Log JSON, one object a line. What is logged: SLUICE_LOG.
    #[arg(long, env = "SLUICE_LOG_JSON")]
    pub log_json: bool,
}

/// Where the agent keeps its files.
#[derive(Args, Clone, Debug)]
pub struct Directories {
    /// Sockets and the journal; gone after a reboot.
    #[arg(long, env = "SLUICE_RUN_DIR", default_value = "/run/sluice")]
    pub run_dir: PathBuf,
    /// The last good desired state; survives a reboot.
    #[arg(long, env = "SLUICE_STATE_DIR", default_value = "/var/lib/sluice")]
    pub state_dir: PathBuf,
}

/// Flags of `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Flags of `explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// A uid, `namespace/name`, or a name that is unique on the node.
    pub pod: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Whom to ask, and how to print.
#[derive(Args, Debug)]
pub struct OutputArgs {
    /// The agent's socket; `agent.sock` in the run directory unless given.
    #[arg(long, env = "SLUICE_SOCKET")]
    pub socket: Option<PathBuf>,
    #[arg(long, env = "SLUICE_RUN_DIR", default_value = "/run/sluice")]
    pub run_dir: PathBuf,
    /// Print JSON for programs.
    #[arg(long)]
    pub json: bool,
}

impl OutputArgs {
    /// The socket to ask.
    pub fn socket(&self) -> PathBuf {
        match &self.socket {
            Some(path) => path.clone(),
            None => self.run_dir.join(SOCKET),
        }
    }
}

/// Flags of `cleanup`.
#[derive(Args, Debug)]
pub struct CleanupArgs {
    #[command(flatten)]
    pub directories: Directories,
    #[command(flatten)]
    pub files: NodeFilesArgs,
    /// The proxy's network namespace, when the agent's files do not name it.
    #[arg(long, env = "SLUICE_PROXY_NETNS")]
    pub proxy_netns: Option<PathBuf>,
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// What becomes of a pod that nobody can say anything about.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum OnUnknownPod {
    /// Its creation fails and is retried.
    Deny,
    /// It is let through uncaptured.
    Allow,
}

/// Name of the agent's socket in the run directory.
pub const SOCKET: &str = "agent.sock";

/// A flag whose value cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {value}: {why}; {remedy}")]
pub struct ConfigError {
    /// The flag, with its dashes.
    pub flag: &'static str,
    /// What was given.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
    /// What to do.
    pub remedy: &'static str,
}

/// Where the node's certificate comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Certificate {
    Files(TlsFiles),
    /// The controller's issuer.
    Issued {
        token_file: PathBuf,
        trust: PathBuf,
        crl: Option<PathBuf>,
        trust_domain: String,
    },
}

/// Everything `run` needs, checked.
#[derive(Debug)]
pub struct Config {
    pub node_name: String,
    pub controllers: Vec<String>,
    pub certificate: Certificate,
    pub directories: Directories,
    pub files: NodeFiles,
    pub cni_shim: PathBuf,
    pub cni_entry: Entry,
    pub proc_dir: PathBuf,
    pub metrics_listen: SocketAddr,
    pub ops_listen: Option<SocketAddr>,
    pub proxy_netns: Option<PathBuf>,
    pub proxy_addresses: BTreeSet<IpAddr>,
    pub on_unknown_pod: OnUnknownPod,
    pub excluded_namespaces: BTreeSet<String>,
    pub add_deadline: Duration,
    pub resync_interval: Duration,
    pub settings: Settings,
}

impl RunArgs {
    /// The checked configuration, or the first flag that cannot be used.
    pub fn config(self) -> Result<Config, ConfigError> {
        let settings = self.kernel.settings()?;
        let excluded_namespaces: BTreeSet<String> = self.excluded_namespaces.into_iter().collect();
        let files = self.install.files.checked(Some(&self.directories))?;
        let cni_entry = self.install.entry(
            &self.directories,
            excluded_namespaces.iter().cloned().collect(),
            self.add_deadline,
        );
        let certificate = match (self.token_file, self.tls_cert, self.tls_key) {
            (None, Some(cert), Some(key)) => Certificate::Files(TlsFiles {
                cert,
                key,
                ca: self.tls_ca,
                crl: self.tls_crl,
                trust_domain: self.trust_domain,
            }),
            // Without files there is a token: the flags require one of both.
            (token_file, ..) => Certificate::Issued {
                token_file: token_file.unwrap_or_default(),
                trust: self.tls_ca,
                crl: self.tls_crl,
                trust_domain: self.trust_domain,
            },
        };
        Ok(Config {
            node_name: self.node_name,
            controllers: self.controller,
            certificate,
            directories: self.directories,
            files,
            cni_shim: self.install.cni_shim,
            cni_entry,
            proc_dir: self.proc_dir,
            metrics_listen: self.metrics_listen,
            ops_listen: self.ops_listen,
            proxy_netns: self.proxy_netns,
            proxy_addresses: self.proxy_address.into_iter().collect(),
            on_unknown_pod: self.on_unknown_pod,
            excluded_namespaces,
            add_deadline: self.add_deadline,
            resync_interval: self.resync_interval,
            settings,
        })
    }
}

#[cfg(test)]
mod tests;
