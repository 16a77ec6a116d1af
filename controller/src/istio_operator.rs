//! An IstioOperator document in the words of our chart's values.
//!
//! What concerns the node agent is taken over, what concerns istiod and ztunnel
//! is left to Istio and named, and what cannot mean the same here is refused
//! with the reason: all of it at once.

mod parse;
mod rules;
mod walk;

use std::fmt::Write as _;

use serde_json::{Map, Value};

pub use parse::MAX_BYTES;

/// Values for our chart, and what else was in the document.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// What differs from the chart's defaults.
    pub values: Map<String, Value>,
    /// What was not taken over, in order of the document's names.
    pub notes: Vec<Note>,
}

/// Something that was not taken over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    pub path: String,
    pub why: String,
}

/// Why a document cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error("the document has more than {MAX_BYTES} bytes; give the IstioOperator alone")]
    TooLarge,
    #[error("line {line} is not usable YAML: {reason}")]
    Yaml { line: u64, reason: String },
    #[error("the document is {found}; give one document of kind IstioOperator")]
    NotAnOperator { found: String },
    #[error("the document cannot mean the same with Sluice:{}", list(.0))]
    Refused(Vec<Note>),
}

/// Converts one document.
pub fn convert(text: &str) -> Result<Converted, ConvertError> {
    walk::spec(&parse::spec(text)?)
}

impl Converted {
    /// A values file, with what was not taken over as comments.
    pub fn to_yaml(&self) -> String {
        let mut text =
            String::from("# Values for Sluice's chart, converted from an IstioOperator.\n");
        if self.values.is_empty() {
            text += "# The chart's defaults are all that is needed.\n{}\n";
        } else {
            // A map of plain values is always representable.
            text += &serde_saphyr::to_string(&self.values).unwrap_or_default();
        }
        if !self.notes.is_empty() {
            text += "\n# Not taken over:\n";
        }
        for Note { path, why } in &self.notes {
            // Names come from the document: one line each, whatever is in them.
            let _ = writeln!(text, "#   {}: {}", plain(path), plain(why));
        }
        text
    }
}

fn list(notes: &[Note]) -> String {
    notes.iter().fold(String::new(), |mut text, note| {
        let _ = write!(text, "\n  {}: {}", plain(&note.path), plain(&note.why));
        text
    })
}

/// Of bounded length, without what would begin a new line.
fn plain(text: &str) -> String {
    const MAX: usize = 400;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(clean).take(MAX).collect()
}

#[cfg(test)]
mod tests;
