//! A unix socket for root, and who is at the other end of each connection.
//!
//! The directory (0700) and the socket (0600) keep others away; the peer's
//! credentials are checked as well, by [`require_root`] on each call.

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tonic::{Request, Status, transport::server::Connected};
use tracing::warn;

mod claim;
mod io_impl;

pub use claim::BindError;

/// Connections at a time. Each pod that is being created holds one while it
/// waits for its proxy, and the proxy's own pod must still get through.
pub const CONNECTIONS: usize = 1024;

/// Who called, as the kernel says: `request.extensions().get::<PeerCred>()`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerCred {
    /// User of the process that connected.
    pub uid: u32,
    /// The process that connected, unless it is in a foreign pid namespace.
    pub pid: Option<i32>,
}

/// Listens at `path`, for [`tonic::transport::server::Router::serve_with_incoming`].
///
/// The directory is made, or tightened to 0700 if it is ours and empty. A socket
/// that nobody answers on is replaced; one with a live server is an error. Needs
/// a tokio runtime.
pub fn bind(path: &Path) -> Result<Incoming, BindError> {
    bind_with_limit(path, CONNECTIONS)
}

/// [`bind`], with another number of connections at a time.
pub fn bind_with_limit(path: &Path, connections: usize) -> Result<Incoming, BindError> {
    let listener = claim::claim(path)?;
    Ok(Incoming {
        path: path.to_owned(),
        connections: Box::pin(connected(listener, Arc::new(Semaphore::new(connections)))),
    })
}

/// An interceptor: `PERMISSION_DENIED` for callers who are not root.
pub fn require_root(request: Request<()>) -> Result<Request<()>, Status> {
    match request.extensions().get::<PeerCred>() {
        Some(PeerCred { uid: 0, .. }) => Ok(request),
        Some(PeerCred { uid, .. }) => Err(Status::permission_denied(format!(
            "this socket serves root only, and the caller is uid {uid}; call as root"
        ))),
        None => Err(Status::permission_denied(
            "this service is for the local socket only, and the caller came another way",
        )),
    }
}

/// Accepted connections. The stream does not end and yields no errors.
pub struct Incoming {
    path: PathBuf,
    connections: Pin<Box<dyn Stream<Item = io::Result<PeerStream>> + Send>>,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Stream for Incoming {
    type Item = io::Result<PeerStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.as_mut().poll_next(cx)
    }
}

/// A connection and the credentials of its other end.
#[derive(Debug)]
pub struct PeerStream {
    stream: UnixStream,
    cred: PeerCred,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connected for PeerStream {
    type ConnectInfo = PeerCred;

    fn connect_info(&self) -> PeerCred {
        self.cred
    }
}

fn connected(
    listener: UnixListener,
    permits: Arc<Semaphore>,
) -> impl Stream<Item = io::Result<PeerStream>> + Send {
    stream::unfold((listener, permits), |(listener, permits)| async move {
        let permit = Arc::clone(&permits).acquire_owned().await.ok();
        let (stream, cred) = accept(&listener).await;
        let stream = PeerStream {
            stream,
            cred,
            _permit: permit,
        };
        Some((Ok(stream), (listener, permits)))
    })
}

async fn accept(listener: &UnixListener) -> (UnixStream, PeerCred) {
    loop {
        let accepted = listener
            .accept()
            .await
            .and_then(|(stream, _)| Ok((credentials(&stream)?, stream)));
        match accepted {
            Ok((cred, stream)) => return (stream, cred),
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot accept a local connection; trying again"
                );
                // Out of descriptors, most likely: asking at once burns the processor.
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn credentials(stream: &UnixStream) -> io::Result<PeerCred> {
    let cred = stream.peer_cred()?;
    Ok(PeerCred {
        uid: cred.uid(),
        pid: cred.pid(),
    })
}
