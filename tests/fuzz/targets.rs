//! What is fuzzed, and for how many inputs.

mod conflist;
mod files;
mod request;
mod shim;

/// One target.
pub(crate) struct Target {
    /// Also of its folder in `corpus/`.
    pub(crate) name: &'static str,
    /// Inputs; each target takes some seconds.
    pub(crate) runs: u32,
    /// Bytes of an input.
    pub(crate) longest: u32,
    check: fn(&[u8]),
}

impl Target {
    const fn new(name: &'static str, runs: u32, longest: u32, check: fn(&[u8])) -> Self {
        Self {
            name,
            runs,
            longest,
            check,
        }
    }

    /// Panics if the input has something happen that must not.
    pub(crate) fn check(&self, input: &[u8]) {
        (self.check)(input);
    }
}

pub(crate) static TARGETS: [Target; 9] = [
    Target::new("shim", 30_000, 4096, shim::check),
    Target::new("namespaces", 10_000, 1024, shim::namespaces),
    Target::new("chain", 300_000, 2048, conflist::chained),
    Target::new("conflist", 200_000, 2048, conflist::copied),
    Target::new("survey", 30_000, 4096, conflist::directory),
    Target::new("request", 30_000, 2048, request::check),
    Target::new("notes", 60_000, 4096, request::notes),
    Target::new("journal", 30_000, 4096, files::journal),
    Target::new("desired", 30_000, 4096, files::desired),
];
