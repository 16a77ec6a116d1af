//! A real ztunnel's access log, as far as it says the same as ours.

use std::{collections::BTreeMap, net::SocketAddr};

use super::log::{ConnectionLog, Direction};

/// The first field of a line about a connection; what comes before it, time,
/// level and module, differs between versions.
const FIRST: &str = "src.addr=";
/// Such a line says nothing yet of what became of the connection.
const OPENED: &str = "connection opened";

/// A line of the access log. None: it is about something else.
///
/// ztunnel does not log the original destination of a service call; `dst` is
/// the address behind the service then, and `service` says the rest.
pub(super) fn parse(line: &str) -> Option<ConnectionLog> {
    let (head, text) = line.split_at_checked(line.find(FIRST)?)?;
    if head.contains(OPENED) {
        return None;
    }
    let fields = fields(text);
    let address = |name| {
        fields
            .get(name)
            .and_then(|text: &String| text.parse::<SocketAddr>().ok())
    };
    let (src, dialled) = (address("src.addr")?, address("dst.addr")?);
    let hbone = address("dst.hbone_addr");
    let direction = match (fields.get("direction")?.as_str(), hbone) {
        ("outbound", _) => Direction::Outbound,
        ("inbound", Some(_)) => Direction::Inbound,
        ("inbound", None) => Direction::InboundPlain,
        _ => return None,
    };
    let dst = match direction {
        Direction::Outbound => hbone.unwrap_or(dialled),
        Direction::Inbound | Direction::InboundPlain => dialled,
    };
    let mut log = ConnectionLog::new(direction, src, dst);
    log.proxy = "ztunnel".to_owned();
    log.target = Some(hbone.unwrap_or(dialled));
    log.tunnel = hbone
        .map(|_| dialled)
        .filter(|_| direction == Direction::Outbound);
    log.service = service(&fields);
    log.src_identity = fields.get("src.identity").cloned();
    log.dst_identity = fields.get("dst.identity").cloned();
    log.encrypted = hbone.is_some();
    log.error = fields.get("error").cloned();
    log.denied = log.error.as_deref().is_some_and(is_denial);
    Some(log)
}

/// As our own log has it: `namespace/hostname`.
fn service(fields: &BTreeMap<String, String>) -> Option<String> {
    let host = fields.get("dst.service")?;
    let namespace = host.split('.').nth(1)?;
    Some(format!("{namespace}/{host}"))
}

fn is_denial(error: &str) -> bool {
    ["policy rejection", "401 Unauthorized", "403 Forbidden"]
        .iter()
        .any(|sign| error.contains(sign))
}

/// `name=value name="value with \" in it"`; what is not of this form is left out.
fn fields(mut text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some((before, after)) = text.split_once('=') {
        let name = before.rsplit(char::is_whitespace).next().unwrap_or(before);
        let (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                let (value, rest) = after.split_at(end);
                (value.to_owned(), rest)
            }
        };
        fields.insert(name.to_owned(), value);
        text = rest;
    }
    fields
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((index, letter)) = letters.next() {
        match letter {
            '"' => return (value, text.get(index + 1..).unwrap_or_default()),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            _ => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_outbound_tunnel() {
        let line = concat!(
            "2024-07-01T12:00:00.000000Z\tinfo\taccess\tconnection complete\t",
            r#"src.addr=10.91.1.2:58838 src.workload="a1" src.namespace="d" "#,
            r#"src.identity="spiffe://cluster.local/ns/d/sa/a1" dst.addr=10.91.2.2:15008 "#,
            r#"dst.hbone_addr=10.91.2.2:8080 dst.service="b1.d.svc.cluster.local" "#,
            r#"dst.identity="spiffe://cluster.local/ns/d/sa/b1" direction="outbound" "#,
            r#"bytes_sent=84 bytes_recv=592 duration="7ms""#,
        );
        let log = parse(line).unwrap();
        assert_eq!(log.direction, Direction::Outbound);
        assert_eq!(log.src, "10.91.1.2:58838".parse().unwrap());
        assert_eq!(log.dst, "10.91.2.2:8080".parse().unwrap());
        assert_eq!(log.tunnel, "10.91.2.2:15008".parse().ok());
        assert_eq!(log.service.as_deref(), Some("d/b1.d.svc.cluster.local"));
        assert!(log.encrypted && !log.denied && log.error.is_none());
    }

    #[test]
    fn a_plain_connection_that_was_denied() {
        let line = r#"error access connection complete src.addr=[fd00::1]:1 dst.addr=[fd00::2]:80 direction="inbound" error="connection closed due to policy rejection: \"x\"""#;
        let log = parse(line).unwrap();
        assert_eq!(log.direction, Direction::InboundPlain);
        assert!(!log.encrypted && log.denied);
        let error = log.error.unwrap();
        assert_eq!(error, "connection closed due to policy rejection: \"x\"");
    }

    #[test]
    fn other_lines() {
        assert_eq!(
            parse(
                "info\taccess\tconnection opened src.addr=1.2.3.4:5 dst.addr=1.2.3.4:6 direction=\"inbound\""
            ),
            None
        );
        assert_eq!(
            parse("connection complete src.addr=x direction=\"outbound\""),
            None
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = parse(&format!("connection complete src.addr={text}"));
        }
    }
}
