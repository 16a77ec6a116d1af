//! Capture annotations: which are looked at, and which are not supported yet.

use std::{collections::BTreeMap, sync::Arc};

use super::{REDIRECTION, SIDECAR_STATUS};

const BYPASS_INBOUND: &str = "ambient.istio.io/bypass-inbound-capture";
const DNS_CAPTURE: &str = "ambient.istio.io/dns-capture";
const REROUTE_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";
const OURS: &str = "sluice.dev/";
/// Prefix, slash and name, as long as Kubernetes lets them be.
const LONGEST_KEY: usize = 253 + 1 + 63;

/// True for an annotation that a decision can depend on.
/// `traffic.sidecar.istio.io/*` is for sidecars and means nothing here.
pub fn is_relevant(key: &str) -> bool {
    [
        SIDECAR_STATUS,
        REDIRECTION,
        BYPASS_INBOUND,
        DNS_CAPTURE,
        REROUTE_INTERFACES,
    ]
    .contains(&key)
        || key.starts_with(OURS)
}

/// Why these annotations cannot be honoured, naming the first that cannot.
pub(super) fn unsupported(annotations: &BTreeMap<Arc<str>, Arc<str>>) -> Option<String> {
    annotations
        .iter()
        .find(|(key, value)| asks(key, value))
        .map(|(key, _)| {
            let key: String = key.chars().take(LONGEST_KEY).collect();
            format!(
                "annotation {key} asks for a capture feature that is not supported yet; \
                 remove it, or opt the pod out with the label istio.io/dataplane-mode=none"
            )
        })
}

fn asks(key: &str, value: &str) -> bool {
    match key {
        BYPASS_INBOUND | DNS_CAPTURE => go_bool(value) == Some(true),
        REROUTE_INTERFACES => !value.trim().is_empty(),
        _ => key.starts_with(OURS),
    }
}

/// A boolean as Go's strconv.ParseBool reads it; anything else is as if unset.
fn go_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{go_bool, is_relevant};

    #[test]
    fn booleans_are_go_s() {
        for word in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(go_bool(word), Some(true), "{word}");
        }
        for word in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(go_bool(word), Some(false), "{word}");
        }
        for word in ["", "yes", "on", "tRUE", " true", "true ", "2", "\u{0}"] {
            assert_eq!(go_bool(word), None, "{word}");
        }
    }

    #[test]
    fn sidecar_annotations_are_not_kept() {
        assert!(!is_relevant("traffic.sidecar.istio.io/excludeInboundPorts"));
        assert!(is_relevant("sidecar.istio.io/status"));
        assert!(is_relevant("sluice.dev/anything"));
    }
}
