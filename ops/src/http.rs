//! `/metrics`, `/healthz` and `/readyz`, in the clear.
//!
//! Anybody on the network may call, so everything is bounded: connections at a
//! time, how long each lives, and one request each.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{
        StatusCode,
        header::{CONNECTION, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::metrics::Recorder;

mod bounded;

use bounded::Bounded;

/// Samples of histograms are folded this often.
const FOLD: Duration = Duration::from_secs(5);

/// Why the endpoints cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for /metrics, /healthz and /readyz")]
pub struct ServeError {
    address: SocketAddr,
    source: io::Error,
}

/// The endpoints; dropping it closes them.
#[derive(Debug)]
pub struct Endpoints {
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Endpoints {
    /// Where they are, with the port the kernel chose if none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Serves until the value is dropped.
///
/// - `/metrics`: what `recorder` holds.
/// - `/healthz`: 200 while the process runs.
/// - `/readyz`: 200, or 503 with the reason that `ready` gives. It is asked on
///   every request and must not block.
pub async fn serve(
    address: SocketAddr,
    recorder: Recorder,
    ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
) -> Result<Endpoints, ServeError> {
    let failed = |source| ServeError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let router = router(recorder.clone(), Arc::new(ready));
    let serving = tokio::spawn(async move {
        // Never ends by itself: accept errors are waited out.
        let _ = axum::serve(Bounded::new(listener), router).await;
    });
    let folding = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(FOLD);
        loop {
            ticks.tick().await;
            recorder.fold();
        }
    });
    Ok(Endpoints {
        address,
        tasks: [serving, folding],
    })
}

type Ready = dyn Fn() -> Result<(), String> + Send + Sync;

fn router(recorder: Recorder, ready: Arc<Ready>) -> Router {
    Router::new()
        .route(
            "/metrics",
            get(move || async move {
                let format = "text/plain; version=0.0.4; charset=utf-8";
                closing(([(CONTENT_TYPE, format)], recorder.render()))
            }),
        )
        .route("/healthz", get(|| async { closing("alive\n") }))
        .route(
            "/readyz",
            get(move || async move {
                match ready() {
                    Ok(()) => closing("ready\n"),
                    Err(reason) => {
                        closing((StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")))
                    }
                }
            }),
        )
}

/// One request per connection, said out loud so that no client tries a second.
fn closing(response: impl IntoResponse) -> axum::response::Response {
    ([(CONNECTION, "close")], response).into_response()
}

#[cfg(test)]
mod tests;
