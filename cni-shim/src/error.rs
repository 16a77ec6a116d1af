//! What a container runtime is told when something is wrong.

use serde::Serialize;

use crate::result::Version;

/// Error codes of the CNI specification, and ours from 100.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Code {
    Version = 1,
    UnsupportedField = 2,
    UnknownContainer = 3,
    Environment = 4,
    Io = 5,
    Decode = 6,
    Config = 7,
    TryLater = 11,
    /// Answer to STATUS: pods cannot be added.
    NotAvailable = 50,
    /// The pod or the node cannot be captured as asked.
    CannotCapture = 100,
    /// The agent serves root only.
    NotRoot = 101,
    /// The agent tried and failed; nothing half-applied is left.
    Refused = 102,
    /// A defect of this program.
    Internal = 103,
}

/// An error, as the specification wants it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{msg}")]
pub struct CniError {
    pub code: Code,
    /// What was wrong, and with what.
    pub msg: String,
    /// What to do, or more about it; may be empty.
    pub details: String,
}

impl CniError {
    pub(crate) fn new(code: Code, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    pub(crate) fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The document for standard output.
    pub(crate) fn to_json(&self, cni_version: &str) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Document<'a> {
            cni_version: &'a str,
            code: u32,
            msg: &'a str,
            details: &'a str,
        }
        let document = Document {
            cni_version,
            code: self.code as u32,
            msg: &line(&self.msg),
            details: &line(&self.details),
        };
        // Strings and a number always serialise; should they not, a runtime
        // still has to find a JSON error.
        serde_json::to_string(&document).unwrap_or_else(|_| BARE.to_owned())
    }
}

const BARE: &str =
    r#"{"cniVersion":"1.0.0","code":103,"msg":"sluice-cni cannot say what is wrong","details":""}"#;

/// Makes a panic a CNI error: a runtime reads standard output, not a backtrace.
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let error = CniError::new(Code::Internal, format!("sluice-cni has a defect: {panic}"))
            .details("nothing was changed by the plugin itself; please report this");
        crate::print(&error.to_json(Version::NEWEST.as_str()));
        std::process::exit(1);
    }));
}

/// What is read in `kubectl describe pod`, where an event has 1,024 bytes: one
/// line, and no longer than it can be.
fn line(text: &str) -> String {
    const MOST: usize = 1000;
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(MOST).collect()
}

/// As much of a hostile text as belongs into an error.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_keys_of_the_specification() {
        let error = CniError::new(Code::TryLater, "no \"proxy\"").details("wait");
        assert_eq!(
            error.to_json("0.4.0"),
            r#"{"cniVersion":"0.4.0","code":11,"msg":"no \"proxy\"","details":"wait"}"#
        );
    }

    #[test]
    fn the_last_resort_is_an_error_too() {
        let bare: serde_json::Value = serde_json::from_str(BARE).unwrap();
        assert_eq!(bare["code"], Code::Internal as u32);
    }

    #[test]
    fn what_people_read_is_one_line() {
        let error = CniError::new(Code::Refused, "a\nb\0".repeat(1000)).details("x\r\ty");
        let json: serde_json::Value = serde_json::from_str(&error.to_json("1.1.0")).unwrap();
        assert_eq!(json["msg"].as_str().unwrap(), "a b ".repeat(250));
        assert_eq!(json["details"], "x  y");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shown("short"), "short");
        assert_eq!(shown(&"\u{e4}".repeat(500)).chars().count(), 203);
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a panic ends a process: it needs its own"
    )]
    fn a_panic_is_a_cni_error() {
        const CHILD: &str = "SLUICE_TEST_PANIC";
        if std::env::var_os(CHILD).is_some() {
            report_panics();
            panic!("on purpose");
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "error::tests::a_panic_is_a_cni_error",
            ])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert_eq!(child.status.code(), Some(1));
        let stdout = String::from_utf8(child.stdout).unwrap();
        let line = stdout
            .lines()
            .find(|line| line.contains("cniVersion"))
            .unwrap();
        let from = line.find('{').unwrap();
        let error: serde_json::Value = serde_json::from_str(&line[from..]).unwrap();
        assert_eq!(error["code"], 103);
        assert!(error["msg"].as_str().unwrap().contains("on purpose"));
    }
}
