//! Putting the parts together.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use kube::Client;
use sluice_mtls::{AcceptLimits, Identity, Reload, TlsError};
use sluice_ops::{http, metrics as recorder};
use tokio::{net::TcpListener, sync::mpsc, time};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    config::{Certificates, CertificatesError, Chosen, Config, SourceError},
    fleet::Fleet,
    issuer::{self, service::Service},
    model::Relevant,
    ops::metrics as recorded,
    serve,
    source::{
        Source,
        directory::Directory,
        kubernetes::{self, Kubernetes},
    },
    writeback::{Settings, WriteBack},
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
    #[error("the flags do not say where certificates come from")]
    Certificates(#[from] CertificatesError),
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
        issuer,
        select,
        release_after,
        write_back,
        log_json: _,
    } = config;
    let chosen = source.chosen()?;
    let in_cluster = matches!(chosen, Chosen::Kubernetes(_));
    let certificates = issuer.certificates(tls, in_cluster)?;
    let recorder = recorder::install(recorded::TABLE)?;
    let rules = select.rules();
    let relevant = rules.relevant();
    let fleet = Fleet::new(rules, release_after);
    let (fleet, start, client) = choose(chosen, relevant, fleet, write_back.settings()).await?;
    let ready = Arc::clone(&fleet);
    let endpoints = http::serve(metrics_listen, recorder, move || ready.ready()).await?;
    let Some((tls, issuer)) = identity(certificates, client, &stop).await? else {
        return Ok(());
    };
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|source| RunError::Listen {
            address: listen,
            source,
        })?;
    info!(
        grpc = %listener.local_addr().unwrap_or(listen),
        http = %endpoints.address(),
        name = tls.identity().as_ref().map(Identity::name),
        "controller started"
    );
    tokio::spawn(watch_certificate(Arc::clone(&tls), stop.clone()));
    start(stop.clone());
    serve::serve(listener, tls, issuer, AcceptLimits::default(), fleet, stop).await?;
    info!("controller stopped");
    Ok(())
}

/// The controller's own certificate, and its issuer if there is one; nothing
/// when it is to stop before there is a certificate.
async fn identity(
    certificates: Certificates,
    client: Option<Client>,
    stop: &CancellationToken,
) -> Result<Option<(Arc<Reload>, Option<Service>)>, RunError> {
    let files = match certificates {
        Certificates::Files(files) => files,
        Certificates::Issuer(options) => {
            let client = client.ok_or(CertificatesError::NoCluster)?;
            let started = issuer::start(options, client, stop).await;
            return Ok(started.map(|(issuer, tls)| (tls, Some(issuer))));
        }
    };
    let tls = Reload::start(files, CERTIFICATE_POLL)?;
    match tls.identity() {
        Some(found) if !matches!(found, Identity::Controller(_)) => {
            Err(RunError::Identity { found })
        }
        _ => Ok(Some((tls, None))),
    }
}

/// Starts what a fleet lives on.
type Start = Box<dyn FnOnce(CancellationToken) + Send>;

// The fleet on the chosen source, ready to be started, and how to reach its API
// server. A folder has nobody to write back to.
async fn choose(
    chosen: Chosen,
    relevant: Relevant,
    fleet: Fleet,
    settings: Settings,
) -> Result<(Arc<Fleet>, Start, Option<Client>), RunError> {
    match chosen {
        Chosen::Directory(path) => {
            let source = Directory::new(path, relevant);
            let fleet = Arc::new(fleet);
            let fed = Arc::clone(&fleet);
            let start = move |stop| follow(source, fed, stop);
            Ok((fleet, Box::new(start), None))
        }
        Chosen::Kubernetes(kubeconfig) => {
            let client = kubernetes::connect(kubeconfig.as_deref()).await?;
            let source = Kubernetes::new(client.clone(), relevant);
            let back = WriteBack::new(client.clone(), settings);
            let fleet = back.attach(fleet);
            let fed = Arc::clone(&fleet);
            let start = move |stop: CancellationToken| {
                back.start(Arc::clone(&fed), &stop);
                follow(source, fed, stop);
            };
            Ok((fleet, Box::new(start), Some(client)))
        }
    }
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
        let left = tls
            .not_after()
            .and_then(|end| end.duration_since(SystemTime::now()).ok());
        recorded::certificate(left.unwrap_or_default());
    }
}
