//! Values of single flags. Every error says what would have been right.

use std::{ops::RangeInclusive, time::Duration};

use http::Uri;

/// `500ms`, `8s` or `2m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number = || digits.parse::<u32>().ok().filter(|number| *number > 0);
    let millis = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    match number().zip(millis) {
        Some((number, millis)) => Ok(Duration::from_millis(u64::from(number) * millis)),
        None => Err("not a duration; write a whole number and a unit, as 500ms, 8s or 2m".into()),
    }
}

/// `30000-32767`.
pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = text.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
        (first > 0 && first <= last).then_some(first..=last)
    });
    range.ok_or_else(|| "not a range of ports; write it as 30000-32767".into())
}

/// A number, decimal or with `0x`.
pub(super) fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "not a 32-bit number; write it as 273 or 0x111".into())
}

/// `https://host:port`, and nothing after it. `tcp://host:port` is the same: so
/// Kubernetes tells a pod where a Service is, IPv6 in brackets.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let wanted = "write it as https://host:port";
    let text = match text.strip_prefix("tcp://") {
        Some(place) => format!("https://{place}"),
        None => bracketed(text).unwrap_or_else(|| text.to_owned()),
    };
    let uri: Uri = text
        .parse()
        .map_err(|error| format!("not a URI ({error}); {wanted}"))?;
    if uri.scheme_str() != Some("https") {
        return Err(format!("only mutual TLS is spoken; {wanted}"));
    }
    if uri.port_u16().is_none_or(|port| port == 0) {
        return Err(format!("no port; {wanted}"));
    }
    if uri
        .path_and_query()
        .is_some_and(|path| path.as_str() != "/")
    {
        return Err(format!("has a path; {wanted}"));
    }
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(format!("has credentials in it; {wanted}"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Kubernetes gives a Service's IPv6 address bare, and `https://$(HOST):15010`
/// is all that a manifest can write: what is before the last colon is meant.
fn bracketed(text: &str) -> Option<String> {
    let authority = text.strip_prefix("https://")?.trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':')?;
    // With `fd00::1` alone there would be no port: `fd00:` is no address.
    let host: std::net::Ipv6Addr = host.parse().ok()?;
    Some(format!("https://[{host}]:{port}"))
}

/// A node's name: a DNS subdomain.
pub(super) fn node_name(text: &str) -> Result<String, String> {
    let labels_fit = text.split('.').all(|label| is_label(label, 253));
    if text.len() <= 253 && labels_fit {
        return Ok(text.into());
    }
    Err(
        "not a node name; give the name in the node's certificate: lower-case letters, \
         digits, '-' and '.', at most 253 bytes"
            .into(),
    )
}

/// A namespace's name: a DNS label.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    if is_label(text, 63) {
        return Ok(text.into());
    }
    Err(
        "not a namespace; write names of lower-case letters, digits and '-', at most 63 bytes \
         each, with commas between them"
            .into(),
    )
}

fn is_label(text: &str, longest: usize) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=longest).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
