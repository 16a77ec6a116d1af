//! Errors, said in one line.

use std::error::Error;

/// An error and everything that caused it, for a place that takes one text.
/// Layers that only repeat their cause are left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
