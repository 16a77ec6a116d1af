//! Putting the parts together.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sluice_mtls::{AcceptLimits, Identity, Reload, TlsError, TlsFiles};
use sluice_ops::{http, metrics as recorder};
use tokio::{net::TcpListener, sync::mpsc, time};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    config::{Chosen, Config, SourceError},
    fleet::Fleet,
    ops::metrics as recorded,
    select::Rules,
    serve,
    source::{
        Source,
        directory::Directory,
        kubernetes::{self, Kubernetes},
    },
};

/// Certificates are looked at this often.
const CERTIFICATE_POLL: Duration = Duration::from_secs(10);
/// Batches of the source on their way.
const BATCHES: usize = 16;

/// Why the controller cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("metrics cannot be recorded")]
    Metrics(#[from] recorder::InstallError),
    #[error("the flags do not say where pods come from")]
    Source(#[from] SourceError),
    #[error("cannot follow a cluster (--kubernetes)")]
    Kubernetes(#[from] kubernetes::ConnectError),
    #[error("cannot load the certificates of --tls-cert, --tls-key and --tls-ca")]
    Tls(#[from] TlsError),
    #[error(
        "--tls-cert is of {found}, and agents talk to controllers only; give this program a \
         certificate of its own, spiffe://<trust domain>/controller/<name>"
    )]
    Identity { found: Identity },
    #[error("cannot listen on {address} for agents; choose another --listen")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("metrics and health cannot be served; choose another --metrics-listen")]
    Ops(#[from] http::ServeError),
    #[error("serving agents failed")]
    Serve(#[from] serve::ServeError),
}

/// Runs the controller until `stop`.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let Config {
        source,
        listen,
        metrics_listen,
        tls,
        select,
        release_after,
        log_json: _,
    } = config;
    let chosen = source.chosen()?;
    let recorder = recorder::install(recorded::TABLE)?;
    let tls = identity(tls.files())?;
    let rules = select.rules();
    let start = choose(chosen, &rules).await?;
    let fleet = Arc::new(Fleet::new(rules, release_after));
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|source| RunError::Listen {
            address: listen,
            source,
        })?;
    let ready = Arc::clone(&fleet);
    let endpoints = http::serve(metrics_listen, recorder, move || ready.ready()).await?;
    info!(
        grpc = %listener.local_addr().unwrap_or(listen),
        http = %endpoints.address(),
        name = tls.identity().name(),
        "controller started"
    );
    tokio::spawn(watch_certificate(Arc::clone(&tls), stop.clone()));
    start(Arc::clone(&fleet), stop.clone());
    serve::serve(listener, tls, AcceptLimits::default(), fleet, stop).await?;
    info!("controller stopped");
    Ok(())
}

fn identity(files: TlsFiles) -> Result<Arc<Reload>, RunError> {
    let tls = Reload::start(files, CERTIFICATE_POLL)?;
    match tls.identity() {
        Identity::Controller(_) => Ok(tls),
        found => Err(RunError::Identity { found }),
    }
}

/// Starts to feed a source into a fleet.
type Start = Box<dyn FnOnce(Arc<Fleet>, CancellationToken) + Send>;

// The chosen source, ready to be started.
async fn choose(chosen: Chosen, rules: &Rules) -> Result<Start, RunError> {
    let relevant = rules.relevant();
    Ok(match chosen {
        Chosen::Directory(path) => {
            let source = Directory::new(path, relevant);
            Box::new(move |fleet, stop| follow(source, fleet, stop))
        }
        Chosen::Kubernetes(kubeconfig) => {
            let client = kubernetes::connect(kubeconfig.as_deref()).await?;
            let source = Kubernetes::new(client, relevant);
            Box::new(move |fleet, stop| follow(source, fleet, stop))
        }
    })
}

/// Feeds the source into the fleet, until `stop`.
pub fn follow(source: impl Source, fleet: Arc<Fleet>, stop: CancellationToken) {
    let (sink, batches) = mpsc::channel(BATCHES);
    tokio::spawn(source.run(sink, stop));
    tokio::spawn(async move { fleet.follow(batches).await });
}

async fn watch_certificate(tls: Arc<Reload>, stop: CancellationToken) {
    let mut ticks = time::interval(CERTIFICATE_POLL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let left = tls.not_after().duration_since(SystemTime::now());
        recorded::certificate(left.unwrap_or_default());
    }
}
