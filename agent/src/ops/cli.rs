//! `status` and `explain`: the agent's own answers, for people or programs.

mod json;
mod render;

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use hyper_util::rt::TokioIo;
use sluice_proto::agent::v1::{
    ExplainPodRequest, GetStatusRequest, ListPodsRequest, node_service_client::NodeServiceClient,
};
use tokio::net::UnixStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use crate::error::chain;

/// How long the agent may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(
        "no agent answers on {}; start it, or name its socket with --socket or --run-dir",
        socket.display()
    )]
    Connect { socket: PathBuf, source: io::Error },
    #[error("the agent's socket {} is for root only; run this as root", socket.display())]
    NotRoot { socket: PathBuf, source: io::Error },
    #[error("the agent at {} did not answer: {why}", socket.display())]
    Call { socket: PathBuf, why: String },
    /// The agent's own words.
    #[error("{0}")]
    Refused(String),
}

/// The node and its pods, as text.
pub async fn status(socket: &Path, as_json: bool) -> Result<String, CliError> {
    let mut client = connect(socket).await?;
    let failed = |status: Status| call_error(socket, &status);
    let node = client
        .get_status(GetStatusRequest {})
        .await
        .map_err(failed)?
        .into_inner();
    let pods = client
        .list_pods(ListPodsRequest {})
        .await
        .map_err(failed)?
        .into_inner();
    Ok(if as_json {
        json::text(&json::node(&node, &pods.pods))
    } else {
        render::node(&node, &pods.pods, SystemTime::now())
    })
}

/// One pod, as text.
pub async fn explain(socket: &Path, pod: &str, as_json: bool) -> Result<String, CliError> {
    let mut client = connect(socket).await?;
    let request = ExplainPodRequest { pod: pod.into() };
    let failed = |status: Status| call_error(socket, &status);
    let explained = client
        .explain_pod(request)
        .await
        .map_err(failed)?
        .into_inner();
    Ok(if as_json {
        json::text(&json::explained(&explained))
    } else {
        render::explained(&explained)
    })
}

async fn connect(socket: &Path) -> Result<NodeServiceClient<Channel>, CliError> {
    let failed = |source: io::Error| {
        let socket = socket.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            CliError::NotRoot { socket, source }
        } else {
            CliError::Connect { socket, source }
        }
    };
    // Asked directly first: behind a channel the reason is hard to get at.
    drop(UnixStream::connect(socket).await.map_err(failed)?);
    let path = socket.to_owned();
    let connector = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://agent")
        .timeout(ANSWER)
        .connect_with_connector_lazy(connector);
    Ok(NodeServiceClient::new(channel))
}

fn call_error(socket: &Path, status: &Status) -> CliError {
    match std::error::Error::source(status) {
        Some(source) => CliError::Call {
            socket: socket.to_owned(),
            why: chain(source),
        },
        None => CliError::Refused(status.message().to_owned()),
    }
}

#[cfg(test)]
mod tests;
