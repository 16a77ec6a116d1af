//! From text to the document's `spec`. Everything in it may be wrong.

use serde::Deserialize as _;
use serde_json::{Map, Value};
use serde_saphyr::{
    MessageFormatter as _, Options, UserMessageFormatter, alias_limits, budget, options,
};

use super::{ConvertError, plain};

/// The largest document that is read.
pub const MAX_BYTES: usize = 1 << 20;
const API: &str = "install.istio.io/";
const KIND: &str = "IstioOperator";

/// What the document asks for.
pub(super) fn spec(text: &str) -> Result<Map<String, Value>, ConvertError> {
    if text.len() > MAX_BYTES {
        return Err(ConvertError::TooLarge);
    }
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, limits(), |d| {
        Value::deserialize(d)
    });
    let document = read.map_err(|error| ConvertError::Yaml {
        line: error.location().map_or(1, |location| location.line()),
        reason: plain(&UserMessageFormatter.format_message(error.without_snippet())),
    })?;
    let Value::Object(mut document) = document else {
        return Err(not_an_operator("no mapping"));
    };
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    match (text("apiVersion"), text("kind")) {
        (Some(version), Some(KIND)) if version.starts_with(API) => {}
        (_, Some(kind)) => return Err(not_an_operator(&format!("of kind {}", plain(kind)))),
        (_, None) => return Err(not_an_operator("without a kind")),
    }
    match document.remove("spec") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(spec)) => Ok(spec),
        Some(_) => Err(not_an_operator("an IstioOperator whose spec is no mapping")),
    }
}

fn not_an_operator(found: &str) -> ConvertError {
    ConvertError::NotAnOperator {
        found: found.to_owned(),
    }
}

fn limits() -> Options {
    options! {
        budget: budget! {
            max_depth: 64,
            max_documents: 1,
            max_events: 200_000,
            max_nodes: 100_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
            max_recorded_anchor_events: 10_000,
        },
        alias_limits: alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 1_000,
        },
        emit_comments: false,
        with_snippet: false,
    }
}
