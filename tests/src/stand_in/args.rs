//! How the stand-in is started.

use std::{net::IpAddr, path::PathBuf};

/// A stand-in for a node's ztunnel: for tests and demonstrations only.
#[derive(Debug, clap::Parser)]
#[command(name = "stand-in-proxy", version)]
pub struct Args {
    /// The node; only workloads of this node are served.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// The mesh, in ztunnel's local format; read again when it changes. With
    /// --kubernetes only its policies count, as they are at start.
    #[arg(long, value_name = "FILE", required_unless_present = "kubernetes")]
    pub workloads: Option<PathBuf>,
    /// Learn the mesh from the API server: pods that are annotated as captured
    /// are called through their proxy.
    #[arg(long)]
    pub kubernetes: bool,
    /// Certificate of the CA that all proxies of the mesh share.
    #[arg(long, value_name = "PEM")]
    pub ca_cert: PathBuf,
    /// Key of that CA.
    #[arg(long, value_name = "PEM")]
    pub ca_key: PathBuf,
    /// An address of the proxy itself; connections to it are refused.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "INSTANCE_IP",
        value_delimiter = ','
    )]
    pub instance_ip: Vec<IpAddr>,
    /// Where the connection log is appended; stdout if absent.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Written once all listeners are there.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Accepts connections once all listeners are there, for probes.
    #[arg(long, value_name = "PORT")]
    pub ready_port: Option<u16>,
    /// End when the process that started this one does.
    #[arg(long)]
    pub end_with_parent: bool,
    #[command(flatten)]
    pub ports: Ports,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Ports {
    #[arg(long = "outbound-port", default_value_t = 15001)]
    pub outbound: u16,
    #[arg(long = "inbound-port", default_value_t = 15006)]
    pub inbound: u16,
    #[arg(long = "hbone-port", default_value_t = 15008)]
    pub hbone: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            outbound: 15001,
            inbound: 15006,
            hbone: 15008,
        }
    }
}
