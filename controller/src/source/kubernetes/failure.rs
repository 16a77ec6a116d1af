//! What can go wrong between the API server and us.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use kube::core::Status;

use super::collection::Unbelievable;
use crate::source::Problem;

/// Characters of a reason: the server writes it.
const MAX_REASON: usize = 300;

/// A request or a watch that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the API server cannot be talked to: {0}")]
    Connect(String),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the API server answers {code}: {message}")]
    Status { code: u16, message: String },
    #[error("the answer makes no sense: {0}")]
    Garbage(String),
    #[error("the connection was cut")]
    Cut,
    #[error("{0}")]
    Unbelievable(#[from] Unbelievable),
    #[error(
        "this API server is of another cluster (namespace kube-system has uid {found}, and had \
         {known}); what was known stays. If that is meant, restart the controller"
    )]
    OtherCluster { known: String, found: String },
}

impl Failure {
    pub(super) fn garbage(reason: impl fmt::Display) -> Self {
        Self::Garbage(shortened(&reason.to_string()))
    }

    pub(super) fn status(status: &Status) -> Self {
        Self::Status {
            code: status.code,
            message: shortened(&status.message),
        }
    }

    /// True when a watch cannot go on where it was: everything has to be
    /// listed again.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Status { code: 410, .. })
    }

    /// Word for the metric.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Timeout(_) => "timeout",
            Self::Status { code: 410, .. } => "gone",
            Self::Status {
                code: 401 | 403, ..
            } => "forbidden",
            Self::Status { code: 429, .. } => "throttled",
            Self::Status { .. } => "status",
            Self::Garbage(_) => "garbage",
            Self::Cut => "cut",
            Self::Unbelievable(_) => "unbelievable",
            Self::OtherCluster { .. } => "other_cluster",
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) => Self::status(status),
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::garbage(&error),
            _ => Self::Connect(shortened(&chain(&error))),
        }
    }
}

// kube's own texts end where the cause begins, or repeat it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

// One line, of bounded length, without control characters.
fn shortened(reason: &str) -> String {
    let clean = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_REASON).collect()
}

/// Something that has failed and has not worked since.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Trouble {
    /// When it was last known to work.
    pub since: Instant,
    pub tries: u32,
    pub reason: Arc<str>,
}

impl Trouble {
    /// In the words of people: when, how often, why.
    pub(super) fn problem(&self, what: &str) -> Problem {
        let since = SystemTime::now() - self.since.elapsed();
        // Whole seconds, so that the same trouble reads the same every time.
        let seconds = since
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs_f64().round() as i64);
        let since = prost_types::Timestamp { seconds, nanos: 0 };
        Problem {
            place: format!("API server, {what}"),
            line: None,
            reason: format!(
                "not followed since {since} ({} failed so far; tried again by itself): {}; \
                 what was known stays",
                tries(self.tries),
                self.reason
            ),
        }
    }
}

fn tries(count: u32) -> String {
    match count {
        1 => "1 try".to_owned(),
        count => format!("{count} tries"),
    }
}
