//! Clients of our gRPC services, for tests that are not async.

use std::{future::Future, path::Path, time::Duration};

use hyper_util::rt::TokioIo;
use sluice_mtls::{Reload, TlsFiles, connect};
use tokio::{net::UnixStream, runtime, time::timeout};
use tonic::transport::{Channel, Endpoint};

use super::{netns::Netns, wait};

/// Runs `work` to its end inside a namespace, on a thread and a runtime of its
/// own.
pub fn inside<T: Send>(netns: &Netns, work: impl Future<Output = T> + Send) -> T {
    netns.enter(|| block(work))
}

/// Runs `work` to its end on a runtime of its own.
pub fn block<T>(work: impl Future<Output = T>) -> T {
    block_long(async {
        timeout(wait::LONG, work)
            .await
            .unwrap_or_else(|_| panic!("a call took longer than {:?}", wait::LONG))
    })
}

/// The same for work that has a limit of its own.
pub fn block_long<T>(work: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("make a runtime")
        .block_on(work)
}

/// A channel to a unix socket. Fails when nobody answers there.
pub async fn unix(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    Endpoint::from_static("http://agent.invalid")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
}

/// A channel over mutual TLS with the certificate in `files`. Called on a
/// runtime.
pub fn mtls(endpoint: &str, files: TlsFiles) -> Channel {
    let reload = Reload::start(files, Duration::from_secs(60)).expect("load certificates");
    connect::channel(endpoint, reload, |_| true).expect("make a channel")
}
