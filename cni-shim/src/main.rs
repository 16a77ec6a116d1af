//! The CNI plugin as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice_cni::plugin()
}
