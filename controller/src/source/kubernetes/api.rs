//! The few requests that are made, each bounded in time and size.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use http::Request;
use kube::{
    Client,
    api::{ListParams, WatchParams},
    core::{Request as Build, Status, WatchEvent},
};
use serde::de::DeserializeOwned;
use tokio::{io::AsyncReadExt as _, time::timeout};
use tokio_util::{
    codec::{FramedRead, LinesCodec, LinesCodecError},
    compat::FuturesAsyncReadCompatExt as _,
};

use super::{
    backoff::spread,
    convert::Kind,
    document::{self, Page},
    failure::Failure,
};

/// Objects of a page: what client-go asks for.
const PAGE: u32 = 500;
/// A page of the largest pods there can be does not fit; ordinary ones do by
/// far.
const MAX_PAGE: u64 = 256 << 20;
/// etcd takes 1.5 MiB.
const MAX_EVENT: usize = 8 << 20;
const ANSWER: Duration = Duration::from_secs(60);
/// A watch, the time until it is open; and anything small.
const SHORT_ANSWER: Duration = Duration::from_secs(5);
/// The server ends a watch after a time of ours, between this...
const WATCH: u32 = 240;
/// ...and this much more, so that watches do not end together.
const WATCH_SPREAD: Duration = Duration::from_secs(45);

/// The namespace that every cluster has, and that cannot be deleted.
const KUBE_SYSTEM: &str = "kube-system";

/// Which cluster this is: the uid of its namespace kube-system.
pub(super) async fn cluster(client: &Client) -> Result<String, Failure> {
    let request = Build::new("/api/v1/namespaces").get_metadata(KUBE_SYSTEM, &Default::default());
    let namespace: document::Namespace = fetch(client, request, SHORT_ANSWER).await?;
    let name = namespace.metadata.name.as_deref();
    match namespace.metadata.uid.filter(|uid| !uid.is_empty()) {
        Some(uid) if name == Some(KUBE_SYSTEM) => Ok(uid),
        _ => Err(Failure::garbage("namespace kube-system without its uid")),
    }
}

/// A page of the collection as it is now; `next` is from the page before.
pub(super) async fn page<K: Kind>(
    client: &Client,
    next: Option<&str>,
) -> Result<Page<K::Document>, Failure> {
    // No resourceVersion: the newest there is, not what some cache has.
    let mut params = ListParams::default().limit(PAGE);
    params.continue_token = next.map(str::to_owned);
    let request = Build::new(K::PATH);
    let request = if K::METADATA_ONLY {
        request.list_metadata(&params)
    } else {
        request.list(&params)
    };
    fetch(client, request, ANSWER).await
}

/// What happens after `version`.
pub(super) async fn watch<K: Kind>(
    client: &Client,
    version: &str,
) -> Result<impl Stream<Item = Result<WatchEvent<K::Document>, Failure>> + Send + use<K>, Failure> {
    let limit = u64::from(WATCH) + spread(WATCH_SPREAD).as_secs();
    let params = WatchParams::default().timeout(u32::try_from(limit).unwrap_or(WATCH));
    let request = Build::new(K::PATH);
    let request = if K::METADATA_ONLY {
        request.watch_metadata(&params, version)
    } else {
        request.watch(&params, version)
    };
    let body = timeout(SHORT_ANSWER, client.request_stream(built(request)?));
    let body = body
        .await
        .map_err(|_| Failure::Timeout(SHORT_ANSWER))??
        .compat();
    let lines = FramedRead::new(Box::pin(body), LinesCodec::new_with_max_length(MAX_EVENT));
    Ok(lines.map(|line| match line {
        Ok(line) => event(&line),
        Err(LinesCodecError::Io(_)) => Err(Failure::Cut),
        Err(LinesCodecError::MaxLineLengthExceeded) => Err(Failure::garbage(
            "an event that is larger than any object can be",
        )),
    }))
}

fn event<T: DeserializeOwned>(line: &str) -> Result<WatchEvent<T>, Failure> {
    serde_json::from_str(line).map_err(|error| {
        if error.is_eof() {
            return Failure::Cut;
        }
        match serde_json::from_str::<Status>(line) {
            Ok(status) if status.code != 0 => Failure::status(&status),
            _ => Failure::garbage(error),
        }
    })
}

async fn fetch<T: DeserializeOwned>(
    client: &Client,
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    within: Duration,
) -> Result<T, Failure> {
    let request = built(request)?;
    let read = async {
        let body = client.request_stream(request).await?;
        let mut text = Vec::new();
        let mut body = Box::pin(body.compat()).take(MAX_PAGE);
        body.read_to_end(&mut text)
            .await
            .map_err(|_| Failure::Cut)?;
        Ok::<_, Failure>(text)
    };
    let text = timeout(within, read)
        .await
        .map_err(|_| Failure::Timeout(within))??;
    serde_json::from_slice(&text).map_err(|error| {
        if error.is_eof() {
            Failure::Cut
        } else {
            Failure::garbage(error)
        }
    })
}

fn built(
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Request<Vec<u8>>, Failure> {
    request.map_err(|error| Failure::Connect(error.to_string()))
}

#[cfg(test)]
mod tests {
    use kube::core::WatchEvent;

    use super::{Failure, document::Namespace, event};

    #[test]
    fn lines_of_a_watch() {
        let shop = r#"{"metadata":{"name":"shop","resourceVersion":"7"}}"#;
        for kind in ["ADDED", "MODIFIED", "DELETED"] {
            let line = format!(r#"{{"type":"{kind}","object":{shop}}}"#);
            assert!(event::<Namespace>(&line).is_ok(), "{kind}");
        }
        let line = r#"{"type":"BOOKMARK","object":{"kind":"Namespace","apiVersion":"v1",
            "metadata":{"resourceVersion":"9","creationTimestamp":null}}}"#;
        let Ok(WatchEvent::Bookmark(bookmark)) = event::<Namespace>(line) else {
            panic!("no bookmark");
        };
        assert_eq!(bookmark.metadata.resource_version, "9");
    }

    #[test]
    fn lines_that_are_no_events() {
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired",
            "message":"too old resource version"}}"#;
        let Ok(WatchEvent::Error(status)) = event::<Namespace>(gone) else {
            panic!("no error");
        };
        assert!(Failure::status(&status).is_gone());
        let status = r#"{"kind":"Status","status":"Failure","code":403,"message":"no"}"#;
        let table = [
            (status, "forbidden"),
            (r#"{"type":"ADDED","object":{"metad"#, "cut"),
            ("", "cut"),
            ("<html>", "garbage"),
            (
                r#"{"type":"ADDED","object":{"metadata":{"name":7}}}"#,
                "garbage",
            ),
            (r#"{"type":"UNHEARD","object":{}}"#, "garbage"),
        ];
        for (line, word) in table {
            let Err(failure) = event::<Namespace>(line) else {
                panic!("{line} is an event");
            };
            assert_eq!(failure.word(), word, "{line}");
        }
    }
}
