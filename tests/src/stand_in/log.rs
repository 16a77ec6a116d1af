//! One line per connection, at the moment its outcome is known.

use std::{
    error::Error,
    fs::OpenOptions,
    io::{self, Write},
    net::SocketAddr,
    path::Path,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

/// What a proxy said of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionLog {
    /// Who wrote it: `stand-in` or `ztunnel`.
    pub proxy: String,
    pub direction: Direction,
    /// The connection's source as the proxy saw it.
    pub src: SocketAddr,
    /// The original destination: what the pod (or the caller of a pod) dialled.
    /// ztunnel does not say it of a service address; see `service`.
    pub dst: SocketAddr,
    /// The application that the connection was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<SocketAddr>,
    /// Where the tunnel was dialled, when the target is reached through one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<SocketAddr>,
    /// `namespace/hostname`, when a service address was dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_identity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst_identity: Option<String>,
    /// Whether the leg between the proxies is mutual TLS.
    pub encrypted: bool,
    /// Whether a policy refused it.
    #[serde(default)]
    pub denied: bool,
    /// Why it came to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From a pod of this node, at 15001.
    Outbound,
    /// To a pod of this node through a tunnel, at 15008.
    Inbound,
    /// To a pod of this node in plain text, at 15006.
    InboundPlain,
}

impl ConnectionLog {
    pub(super) fn new(direction: Direction, src: SocketAddr, dst: SocketAddr) -> Self {
        Self {
            proxy: "stand-in".to_owned(),
            direction,
            src,
            dst,
            target: None,
            tunnel: None,
            service: None,
            src_identity: None,
            dst_identity: None,
            encrypted: false,
            denied: false,
            error: None,
        }
    }
}

/// Where the lines go.
pub(super) struct ConnectionWriter(Mutex<Box<dyn Write + Send>>);

impl std::fmt::Debug for ConnectionWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConnectionWriter")
    }
}

impl ConnectionWriter {
    /// Appends to `path`, or writes to stdout.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = match path {
            Some(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
            None => Box::new(io::stdout()),
        };
        Ok(Self(Mutex::new(out)))
    }

    pub(super) fn write(&self, line: &ConnectionLog) {
        let written = serde_json::to_vec(line)
            .map_err(io::Error::from)
            .and_then(|mut text| {
                text.push(b'\n');
                let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                out.write_all(&text)?;
                out.flush()
            });
        if let Err(error) = written {
            tracing::warn!(
                error = &error as &dyn Error,
                "cannot write the connection log"
            );
        }
    }
}

/// An error with its causes, for the one field a log line has for it.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
