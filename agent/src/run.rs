//! `run`: everything together, until a signal.

use std::{
    error::Error,
    fs, io,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use sluice_kernel::{Kernel, KernelError};
use sluice_mtls::{Identity, Reload, TlsError};
use sluice_ops::{
    http,
    metrics::InstallError,
    unix::{self, BindError, Incoming},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    capture::{
        self, Capture, Journal, JournalError, StartError, journal::JOURNAL, search::HostFind,
    },
    cni::{self, Notes, namespaces, notes},
    config::{Certificate, Config, Directories, SOCKET},
    control::{self, Control, Link, store::Store},
    files::{self, FileError},
    identity,
    install::{
        self,
        ambient::{self, Ambient},
        cni::Installer,
    },
    ops::{
        metrics,
        node::NodeService,
        ready::ready,
        serve::{self, ServeError, Serving},
    },
    status::{FileState, Leaving, NodeFiles},
};

/// Certificates are looked at this often.
const CERTIFICATES: Duration = Duration::from_secs(10);
/// What calls under way are given when the agent stops.
const GRACE: Duration = Duration::from_secs(2);

/// The file that the shim reads while the agent does not answer.
pub(crate) const NAMESPACES: &str = "namespaces.json";
/// The file that it writes then.
pub(crate) const NOTES: &str = "cni-notes.jsonl";

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot use --state-dir")]
    StateDir(#[source] FileError),
    #[error("cannot serve the local socket")]
    Socket(#[from] BindError),
    #[error("cannot load the certificates of --tls-cert, --tls-key and --tls-ca")]
    Tls(#[from] TlsError),
    #[error(
        "--tls-cert is of {found}, and --node-name is {wanted}; give this node its own \
         certificate, spiffe://<trust domain>/node/{wanted}"
    )]
    Identity { found: Identity, wanted: String },
    #[error("cannot record metrics")]
    Metrics(#[from] InstallError),
    #[error("cannot use the journal in --run-dir")]
    Journal(#[from] JournalError),
    #[error("cannot open the node's network namespace (--node-netns)")]
    Kernel(#[from] KernelError),
    #[error("cannot start capturing")]
    Capture(#[from] StartError),
    #[error("cannot serve --metrics-listen")]
    Http(#[from] http::ServeError),
    #[error("cannot serve the node's services")]
    Serve(#[from] ServeError),
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    #[error("{what} has ended by itself; start the agent again and report this")]
    Ended { what: &'static str },
}

/// Runs until SIGTERM or SIGINT. What was made in the kernel stays: captured
/// pods are captured while the agent is away.
pub async fn run(config: Config) -> Result<(), RunError> {
    let run_dir = config.directories.run_dir.clone();
    // First, and held: a second agent with the same files stops here.
    let socket = unix::bind(&run_dir.join(SOCKET))?;
    files::private_directory(&config.directories.state_dir).map_err(RunError::StateDir)?;
    // Before anything records: what is recorded earlier is lost.
    let recorder = sluice_ops::metrics::install(metrics::TABLE)?;
    metrics::record_build();
    let (reload, standing) = certificate(&config)?;
    tokio::spawn(metrics::record_expiry(reload.expiry()));
    let capture = engine(&config)?;
    // Before anything is known of them they are not taken to be in place.
    let kept = Kept::of(&config);
    kept.announce(&capture);
    // Whatever can fail does so before the first state, and thus before
    // anything is written to the kernel.
    let (following, link) = watch::channel(Link::default());
    let status = capture.status();
    let is_ready = move || {
        let now = SystemTime::now();
        // Why there is no certificate is why there is no controller.
        standing
            .as_ref()
            .map_or(Ok(()), |seen| seen.borrow().ready(now))?;
        ready(&status.borrow(), &link.borrow(), Instant::now())
    };
    let _endpoints = http::serve(config.metrics_listen, recorder, is_ready).await?;
    let operators = match config.ops_listen {
        Some(address) => Some(serve::listen(address).await?),
        None => None,
    };
    let noted = config.directories.state_dir.join(NOTES);
    let noted = Arc::new(Notes::new(noted, capture.clone()));
    noted.take_over().await;
    let keeping = Arc::clone(&noted);
    tokio::spawn(async move { keeping.keep().await });
    tokio::spawn(namespaces::keep(
        run_dir.join(NAMESPACES),
        capture.desired(),
    ));
    let options = control::Options {
        node_name: config.node_name.clone(),
        controllers: config.controllers.clone(),
        state_dir: config.directories.state_dir.clone(),
    };
    let control = Control::start(options, Arc::clone(&reload), capture.clone());
    tokio::spawn(pass_on(control.link(), following));
    let stop = CancellationToken::new();
    let sockets = (socket, operators);
    let directories = config.directories.clone();
    let mut serving = services(config, sockets, (reload, noted), &capture, &control, &stop)?;
    // The shim is not installed before it would be answered.
    kept.start(&capture);
    info!(version = env!("CARGO_PKG_VERSION"), "the agent runs");
    let ended = until_told(&mut serving).await;
    stop.cancel();
    for task in serving.into_iter().filter(|task| !task.is_finished()) {
        // Calls that still wait are answered by the next agent.
        let _ = timeout(GRACE, task).await;
    }
    if capture.status().borrow().leaving == Leaving::Left {
        forget(&directories);
        info!("the agent stops; the node has left, and nothing of it stays");
    } else {
        info!("the agent stops; what it made stays in place, and captured pods stay captured");
    }
    ended
}

/// Files on the node that are kept while the agent runs, and stay when it stops.
struct Kept {
    cni: Option<Installer>,
    ambient: Option<PathBuf>,
}

impl Kept {
    fn of(config: &Config) -> Self {
        let installer = |places| Installer::new(places, config.cni_entry.clone(), &config.cni_shim);
        Self {
            cni: config.files.cni.clone().map(installer),
            ambient: config.files.ambient.clone(),
        }
    }

    fn announce(&self, capture: &Capture) {
        let unseen = |path: PathBuf| FileState {
            path: path.display().to_string(),
            present: true,
            current: false,
            message: "not looked at yet".into(),
            source: String::new(),
        };
        let cni = self.cni.as_ref().map(|cni| unseen(cni.path()));
        let ambient = self.ambient.as_deref();
        let ambient = ambient.map(|directory| unseen(ambient::path(directory)));
        capture.set_files(|files| *files = NodeFiles { cni, ambient });
    }

    fn start(self, capture: &Capture) {
        if let Some(installer) = self.cni {
            tokio::spawn(install::keep(installer, capture.clone(), |files, state| {
                files.cni = state;
            }));
        }
        if let Some(directory) = self.ambient {
            let ambient = Ambient::new(&directory, capture.status());
            tokio::spawn(install::keep(ambient, capture.clone(), |files, state| {
                files.ambient = state;
            }));
        }
    }
}

/// After the node has left: what the agent knew is of no use to anybody.
fn forget(directories: &Directories) {
    let Directories { run_dir, state_dir } = directories;
    let gone = |path: PathBuf| match files::remove(&path) {
        Ok(()) => {}
        Err(error) => warn!(error = &error as &dyn Error, "a file of ours stays"),
    };
    let socket = run_dir.join(SOCKET);
    // It may be the next agent's by now.
    if UnixStream::connect(&socket).is_err() {
        gone(socket);
    }
    gone(run_dir.join(NAMESPACES));
    let noted = state_dir.join(NOTES);
    gone(notes::rejected(&noted));
    gone(noted);
    gone(Store::new(state_dir).path().to_owned());
    gone(identity::file(state_dir));
    // Mounted into a container they stay, empty.
    let _ = fs::remove_dir_all(run_dir.join(JOURNAL));
    let _ = fs::remove_dir(run_dir);
    let _ = fs::remove_dir(state_dir);
}

/// The node's certificate, and how it stands with it if it is issued.
type Certified = (Arc<Reload>, Option<watch::Receiver<identity::Standing>>);

fn certificate(config: &Config) -> Result<Certified, RunError> {
    let files = match &config.certificate {
        Certificate::Files(files) => files.clone(),
        Certificate::Issued {
            token_file,
            trust,
            crl,
            trust_domain,
        } => {
            let (reload, standing) = identity::start(identity::Options {
                node_name: config.node_name.clone(),
                controllers: config.controllers.clone(),
                token_file: token_file.clone(),
                trust: trust.clone(),
                crl: crl.clone(),
                trust_domain: trust_domain.clone(),
                state_dir: config.directories.state_dir.clone(),
            });
            return Ok((reload, Some(standing)));
        }
    };
    let reload = Reload::start(files, CERTIFICATES)?;
    match reload.identity() {
        Some(Identity::Node(name)) if name == config.node_name => Ok((reload, None)),
        Some(found) => Err(RunError::Identity {
            found,
            wanted: config.node_name.clone(),
        }),
        None => Ok((reload, None)),
    }
}

fn engine(config: &Config) -> Result<Capture, RunError> {
    let journal = Journal::open(&config.directories.run_dir)?;
    let kernel = Kernel::open(config.settings.clone())?;
    for limit in kernel.limits() {
        warn!(limit, "this kernel lacks something");
    }
    if let Some(path) = &config.proxy_netns
        && let Err(error) = Kernel::netns_id(path)
    {
        warn!(
            error = &error as &dyn Error,
            "--proxy-netns cannot be used yet; it is looked at again twice a second"
        );
    }
    let options = capture::Options {
        resync: config.resync_interval,
        proxy_netns: config.proxy_netns.clone(),
        proxy_addresses: config.proxy_addresses.clone(),
        ..capture::Options::default()
    };
    let find = HostFind::open(&config.settings, &config.proc_dir)?;
    Ok(Capture::start_with(
        options,
        kernel,
        journal,
        Some(Box::new(find)),
    )?)
}

/// The endpoints are served before the stream is begun.
async fn pass_on(mut from: watch::Receiver<Link>, to: watch::Sender<Link>) {
    loop {
        to.send_replace(from.borrow_and_update().clone());
        if from.changed().await.is_err() {
            return;
        }
    }
}

fn services(
    config: Config,
    (socket, operators): (Incoming, Option<TcpListener>),
    (reload, noted): (Arc<Reload>, Arc<Notes>),
    capture: &Capture,
    control: &Control,
    stop: &CancellationToken,
) -> Result<Vec<Serving>, RunError> {
    let node = NodeService::new(&config.node_name, capture.clone(), control.link());
    let options = cni::Options {
        on_unknown_pod: config.on_unknown_pod,
        excluded_namespaces: config.excluded_namespaces,
        add_deadline: config.add_deadline,
    };
    let cni = cni::Service::new(capture.clone(), control.resolver(), options).with_notes(noted);
    let status = || capture.status();
    let mut serving = vec![serve::local(
        socket,
        cni,
        node.clone(),
        status(),
        stop.clone(),
    )?];
    if let Some(listener) = operators {
        serving.push(serve::remote(
            listener,
            reload,
            node,
            status(),
            stop.clone(),
        )?);
    }
    Ok(serving)
}

/// Waits for a signal, or for a service to end, which none may do.
async fn until_told(serving: &mut [Serving]) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = futures_util::future::select_all(serving.iter_mut()) => {
            Err(RunError::Ended { what: "a service" })
        }
    }
}
