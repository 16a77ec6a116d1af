//! Starts a proxy in a network namespace: the stand-in, or the real ztunnel
//! that `ZTUNNEL_BIN` names.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Once,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{args::Ports, certs::CaFiles, listening::missing_ports, log::ConnectionLog, ztunnel};

const STAND_IN: &str = "stand-in-proxy";
const ZTUNNEL_BIN: &str = "ZTUNNEL_BIN";
const READY: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// What a proxy is started with.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Usually [`Kind::wanted`].
    pub kind: Kind,
    /// Name of the network namespace, as `ip netns` lists it.
    pub netns: String,
    pub node_name: String,
    /// See [`crate::workloads::Workloads::write`]. ztunnel reads it once, the
    /// stand-in whenever it changes.
    pub workloads: PathBuf,
    /// The mesh's CA; a ztunnel brings its own.
    pub ca: CaFiles,
    /// The proxy's own addresses, the first of them for ztunnel.
    pub instance_ips: Vec<IpAddr>,
    /// For the logs, which are appended to.
    pub directory: PathBuf,
}

/// Which program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    StandIn,
    Ztunnel(PathBuf),
}

/// A running proxy. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    kind: Kind,
    child: Child,
    output: PathBuf,
    connections: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("no {STAND_IN} in {tried:?}; build it with `cargo build -p sluice-tests --bins`")]
    NoProgram { tried: Vec<PathBuf> },
    #[error("failed to open the log {path}")]
    Log { path: PathBuf, source: io::Error },
    #[error("failed to start the proxy by `ip netns exec {netns}`")]
    Spawn { netns: String, source: io::Error },
    #[error("the proxy ended with {status} before it listened; its output:\n{output}")]
    Ended { status: ExitStatus, output: String },
    #[error(
        "nothing listens on {ports:?} in {netns} after {READY:?}; the proxy's output:\n{output}"
    )]
    NotListening {
        netns: String,
        ports: Vec<u16>,
        output: String,
    },
}

impl Kind {
    /// The real one if `ZTUNNEL_BIN` is set.
    pub fn wanted() -> Self {
        let named = env::var_os(ZTUNNEL_BIN).filter(|path| !path.is_empty());
        named.map_or(Self::StandIn, |path| Self::Ztunnel(path.into()))
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StandIn => f.write_str("proxy: stand-in"),
            Self::Ztunnel(path) => write!(f, "proxy: ztunnel at {}", path.display()),
        }
    }
}

impl Launch {
    /// Starts the proxy and waits until it listens on all its ports.
    pub fn start(&self) -> Result<Process, LaunchError> {
        let kind = self.kind.clone();
        announce(&kind);
        let output = self.directory.join(format!("{}-proxy.log", self.node_name));
        let connections = match kind {
            Kind::StandIn => self
                .directory
                .join(format!("{}-connections.log", self.node_name)),
            Kind::Ztunnel(_) => output.clone(),
        };
        let mut command = match &kind {
            Kind::StandIn => self.stand_in(&connections)?,
            Kind::Ztunnel(path) => self.ztunnel(path),
        };
        let log = |source| LaunchError::Log {
            path: output.clone(),
            source,
        };
        let file = File::options()
            .create(true)
            .append(true)
            .open(&output)
            .map_err(log)?;
        command
            .stdin(Stdio::null())
            .stderr(file.try_clone().map_err(log)?)
            .stdout(file);
        let child = command.spawn().map_err(|source| LaunchError::Spawn {
            netns: self.netns.clone(),
            source,
        })?;
        let mut process = Process {
            kind,
            child,
            output,
            connections,
        };
        self.wait_ready(&mut process)?;
        Ok(process)
    }

    fn stand_in(&self, connections: &Path) -> Result<Command, LaunchError> {
        let mut command = in_netns(&self.netns, &find_stand_in()?);
        command
            .arg("--end-with-parent")
            .args(["--node-name", &self.node_name])
            .args([OsString::from("--workloads"), self.workloads.clone().into()])
            .args([OsString::from("--ca-cert"), self.ca.cert.clone().into()])
            .args([OsString::from("--ca-key"), self.ca.key.clone().into()])
            .args([OsString::from("--log"), connections.into()]);
        for address in &self.instance_ips {
            command.args(["--instance-ip", &address.to_string()]);
        }
        Ok(command)
    }

    /// As ztunnels were started that have listeners in their own namespace.
    fn ztunnel(&self, program: &Path) -> Command {
        let mut command = in_netns(&self.netns, program);
        command
            .arg("proxy")
            .env("LOCAL_XDS_PATH", &self.workloads)
            .env("FAKE_CA", "true")
            .env("XDS_ADDRESS", "")
            .env("PROXY_MODE", "shared")
            .env("INPOD_ENABLED", "false")
            .env("ENABLE_ORIG_SRC", "true")
            .env("NODE_NAME", &self.node_name)
            .env("ISTIO_META_DNS_CAPTURE", "false")
            .env("RUST_LOG", "info");
        if let Some(address) = self.instance_ips.first() {
            command.env("INSTANCE_IP", address.to_string());
        }
        command
    }

    fn wait_ready(&self, process: &mut Process) -> Result<(), LaunchError> {
        let Ports {
            outbound,
            inbound,
            hbone,
        } = Ports::default();
        let end = Instant::now() + READY;
        loop {
            let ports = missing_ports(process.pid(), &self.netns, &[outbound, inbound, hbone]);
            if ports.is_empty() {
                return Ok(());
            }
            if let Some(status) = process.ended() {
                let output = process.output();
                return Err(LaunchError::Ended { status, output });
            }
            if Instant::now() >= end {
                let (netns, output) = (self.netns.clone(), process.output());
                return Err(LaunchError::NotListening {
                    netns,
                    ports,
                    output,
                });
            }
            sleep(POLL);
        }
    }
}

impl Process {
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Everything it wrote besides connections, of this run and those before.
    pub fn output(&self) -> String {
        read(&self.output)
    }

    /// The connections so far, of this run and those before, oldest first. The
    /// stand-in tells of one when its outcome is known, ztunnel when it ends.
    pub fn connections(&self) -> Vec<ConnectionLog> {
        let text = read(&self.connections);
        let parse = |line: &str| match self.kind {
            Kind::StandIn => serde_json::from_str(line).ok(),
            Kind::Ztunnel(_) => ztunnel::parse(line),
        };
        text.lines().filter_map(parse).collect()
    }

    /// Waits for a connection that `wanted` accepts.
    pub fn wait_connection(
        &self,
        limit: Duration,
        wanted: impl Fn(&ConnectionLog) -> bool,
    ) -> Option<ConnectionLog> {
        let end = Instant::now() + limit;
        loop {
            if let Some(found) = self.connections().into_iter().find(&wanted) {
                return Some(found);
            }
            if Instant::now() >= end {
                return None;
            }
            sleep(POLL);
        }
    }

    /// Kills it at once, as a crash would.
    pub fn kill(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and kills it after `limit`. How it ended by itself.
    pub fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        let _ = kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        );
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            sleep(POLL);
        }
        self.kill();
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Says once which proxy runs, past the capture of test output.
fn announce(kind: &Kind) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = writeln!(io::stderr(), "{kind}");
    });
}

/// `ip netns exec` becomes the program, so its process id is the program's.
#[expect(clippy::disallowed_methods, reason = "a proxy is a process of its own")]
fn in_netns(netns: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns]).arg(program);
    command
}

/// `SLUICE_BIN_DIR` if it is set, else where cargo puts programs: beside this
/// one or above it.
fn find_stand_in() -> Result<PathBuf, LaunchError> {
    let named = env::var_os("SLUICE_BIN_DIR").map(PathBuf::from);
    let this = env::current_exe().unwrap_or_default();
    let directories = match &named {
        Some(directory) => vec![directory.as_path()],
        None => this.ancestors().skip(1).take(3).collect(),
    };
    let tried: Vec<_> = directories
        .iter()
        .map(|directory| directory.join(STAND_IN))
        .collect();
    let found = tried.iter().find(|path| path.is_file()).cloned();
    found.ok_or(LaunchError::NoProgram { tried })
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
