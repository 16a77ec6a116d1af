//! Metrics: one table per program; from it come the descriptions on `/metrics`
//! and the page in the documentation. Values are recorded with the macros of
//! the `metrics` crate, under the names in the table.

use std::{
    fmt::{self, Write as _},
    sync::{Mutex, PoisonError},
};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// One line of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Metric {
    /// As Prometheus shows it; counters end in `_total`, times in `_seconds`.
    pub name: &'static str,
    pub kind: Kind,
    /// What is counted: `seconds`, `pods`, `calls`.
    pub unit: &'static str,
    /// Labels, each with a bounded set of values.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, in seconds.
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// Why metrics cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A table that contradicts itself.
    #[error("the recorder of metrics cannot be made")]
    Build(#[source] BuildError),
    /// Somebody else's recorder was first in this process.
    #[error("another recorder of metrics is installed already")]
    Taken,
}

/// What has been recorded so far.
#[derive(Clone)]
pub struct Recorder(PrometheusHandle);

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// In Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds raw samples of histograms into buckets. [`crate::http::serve`]
    /// does it every few seconds; without that, memory grows with each sample.
    pub fn fold(&self) {
        self.0.run_upkeep();
    }
}

/// Seconds: from a tenth of a millisecond, where a pod is captured, to the
/// half minute in which a container runtime loses patience.
const BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0, 30.0,
];

/// The recorder of this process, once there is one.
static INSTALLED: Mutex<Option<Recorder>> = Mutex::new(None);

/// Makes the process' recorder and describes the table in it. Calling it again
/// describes another table in the same recorder.
pub fn install(table: &'static [Metric]) -> Result<Recorder, InstallError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let recorder = match installed.as_ref() {
        Some(recorder) => recorder.clone(),
        None => build()?,
    };
    *installed = Some(recorder.clone());
    describe(table);
    Ok(recorder)
}

fn build() -> Result<Recorder, InstallError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .map_err(InstallError::Build)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| InstallError::Taken)?;
    Ok(Recorder(handle))
}

/// Descriptions, and a zero for every metric without labels: a rate over a
/// counter that is not there yet finds nothing.
fn describe(table: &'static [Metric]) {
    for &Metric {
        name,
        kind,
        labels,
        help,
        ..
    } in table
    {
        match kind {
            Kind::Counter => {
                metrics::describe_counter!(name, help);
                if labels.is_empty() {
                    metrics::counter!(name).increment(0);
                }
            }
            Kind::Gauge => {
                metrics::describe_gauge!(name, help);
                if labels.is_empty() {
                    metrics::gauge!(name).increment(0.0);
                }
            }
            Kind::Histogram => metrics::describe_histogram!(name, help),
        }
    }
}

/// The table for the documentation, in Markdown, sorted by name.
pub fn page(table: &[Metric]) -> String {
    let mut rows: Vec<&Metric> = table.iter().collect();
    rows.sort_by_key(|metric| metric.name);
    let mut page =
        String::from("| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for Metric {
        name,
        kind,
        unit,
        labels,
        help,
    } in rows
    {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {labels} | {help} |");
    }
    page
}

#[cfg(test)]
mod tests;
