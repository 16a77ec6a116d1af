//! Logs go to standard error, filtered by `SLUICE_LOG`.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// The filter's environment variable, in `tracing-subscriber`'s words:
/// `debug`, `info,sluice_kernel=trace`. Unset means `info`.
pub const VARIABLE: &str = "SLUICE_LOG";

/// Starts logging, as JSON lines or for people. Only the first call in a
/// process counts. A filter that does not parse is reported, and `info` is used.
/// Colours are for terminals only, and not where `NO_COLOR` is set.
pub fn init(json: bool) {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let (filter, wrong) = filter(&wanted);
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        let layer = fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(io::stderr);
        registry.with(layer).try_init()
    } else {
        let layer = fmt::layer().with_ansi(colours()).with_writer(io::stderr);
        registry.with(layer).try_init()
    };
    if let (Ok(()), Some(wrong)) = (started, wrong) {
        tracing::warn!(
            variable = VARIABLE,
            value = wanted,
            reason = wrong,
            "the log filter does not parse; using info"
        );
    }
}

fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !unwanted && io::stderr().is_terminal()
}

fn filter(wanted: &str) -> (EnvFilter, Option<String>) {
    if wanted.is_empty() {
        return (EnvFilter::new("info"), None);
    }
    match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_becomes_info_and_is_reported() {
        assert_eq!(filter("").0.to_string(), "info");
        assert_eq!(filter("debug").0.to_string(), "debug");
        let (filter, wrong) = filter("sluice==7[");
        assert_eq!(filter.to_string(), "info");
        assert!(wrong.is_some());
    }
}
