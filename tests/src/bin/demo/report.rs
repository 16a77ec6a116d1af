//! Progress while it works, and the table of proofs at the end.

use std::{process::ExitCode, time::Instant};

/// What has been shown so far.
#[derive(Debug)]
pub(crate) struct Report {
    start: Instant,
    proofs: Vec<Proof>,
}

#[derive(Debug)]
struct Proof {
    what: String,
    evidence: String,
    holds: bool,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            proofs: Vec::new(),
        }
    }
}

impl Report {
    /// A line of progress.
    pub(crate) fn step(&self, what: &str) {
        println!("[{:6.2} s] {what}", self.start.elapsed().as_secs_f64());
    }

    /// A proof: its evidence, or why it does not hold.
    pub(crate) fn prove(&mut self, what: &str, found: Result<String, String>) {
        let holds = found.is_ok();
        let evidence = found.unwrap_or_else(|why| why);
        let mark = if holds { "proved" } else { "FAILED" };
        self.step(&format!("{mark}: {what}: {evidence}"));
        self.proofs.push(Proof {
            what: what.into(),
            evidence,
            holds,
        });
    }

    /// A proof that does not hold.
    pub(crate) fn fail(&mut self, what: &str, why: &str) {
        self.prove(what, Err(why.into()));
    }

    /// The table and the last line.
    pub(crate) fn print(&self) -> ExitCode {
        let longest = |proof: &Proof| proof.what.chars().count();
        let width = self.proofs.iter().map(longest).max().unwrap_or_default();
        println!();
        for Proof {
            what,
            evidence,
            holds,
        } in &self.proofs
        {
            let mark = if *holds { "ok  " } else { "FAIL" };
            let evidence = evidence.lines().next().unwrap_or_default();
            println!("{mark}  {what:width$}  {evidence}");
        }
        let failed = self.proofs.iter().filter(|proof| !proof.holds).count();
        println!("\ndemo: {} proofs, {failed} failed", self.proofs.len());
        if failed == 0 && !self.proofs.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
