//! The main job, end to end, on one machine: two nodes made of network
//! namespaces, a controller on a folder of YAML, two agents, a proxy each, and
//! four pods whose namespace is labelled by editing a file.
//!
//! Every proof is read from packets, proxy logs and the kernel, not from our
//! own status. The last line and the exit status say how it went.
#![expect(
    clippy::expect_used,
    reason = "a demonstration that cannot be given is a failed proof"
)]

mod report;
mod steps;

use std::process::ExitCode;

use report::Report;

fn main() -> ExitCode {
    let mut report = Report::default();
    // The lab is taken down on the way out, whatever happens.
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| steps::run(&mut report)));
    if told.is_err() {
        report.fail("the demonstration runs to its end", "see the panic above");
    }
    report.print()
}
