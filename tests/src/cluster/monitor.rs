//! Every change of a node's packet filter, as it happens.

use std::{path::Path, time::Duration};

use crate::lab::{unique_id, wait};

use super::{Node, exec::Wrapped};

const NFT: &str = "/usr/sbin/nft";

/// A running `nft monitor`.
#[derive(Debug)]
pub struct Monitor<'a> {
    node: &'a Node,
    process: Wrapped,
}

impl Node {
    /// Follows the packet filter from now on.
    pub fn monitor(&self) -> Monitor<'_> {
        let name = format!("nft-monitor-{}", unique_id());
        let process = self.spawn(&name, Path::new(NFT), &["monitor".to_owned()]);
        let monitor = Monitor {
            node: self,
            process,
        };
        // It follows once it tells of what is changed.
        let seen = wait::until(wait::LONG, || monitor.passes());
        assert!(
            seen,
            "nft monitor of {} tells nothing: {}",
            self.name,
            monitor.process.log()
        );
        monitor
    }
}

impl Monitor<'_> {
    /// Lines about what is Sluice's, so far.
    pub fn ours(&self) -> Vec<String> {
        assert!(
            wait::until(wait::LONG, || self.passes()),
            "nft monitor tells nothing"
        );
        let log = self.process.log();
        let ours = log.lines().filter(|line| line.contains(" sluice"));
        ours.map(str::to_owned).collect()
    }

    /// Makes a change of the test's own, and whether it has been told: so has all
    /// that was before it.
    fn passes(&self) -> bool {
        let table = format!("mark-{}", unique_id());
        for verb in ["add", "delete"] {
            self.node
                .run("nft", &[&format!("{verb} table inet {table}")]);
        }
        wait::until(Duration::from_millis(500), || {
            self.process
                .log()
                .contains(&format!("delete table inet {table}"))
        })
    }
}
