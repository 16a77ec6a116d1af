//! Scenarios in a real Kubernetes: `cargo test -p sluice-tests --test cluster`.
//!
//! A name begins with the cluster it runs in. Each cluster is brought up once, for
//! the first of its scenarios, and taken down before the next one or at the end.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "scenarios fail where they stand; their harness is not the compiler's"
)]

mod bare;
mod failures;
mod mesh;
mod shared;

use libtest_mimic::Arguments;
use sluice_tests::cluster::{Family, Options, ProxyMode};

use self::shared::Scenarios;

fn main() {
    let mut arguments = Arguments::from_args();
    // Scenarios of a cluster are steps on the same cluster.
    arguments.test_threads = Some(1);
    let mut scenarios = Scenarios::default();
    let whole = [bare::SCENARIOS, mesh::SCENARIOS].concat();
    scenarios.cluster("dual-iptables", &Options::default(), &whole);
    scenarios.cluster("replicas", &Options::default(), mesh::REPLICAS);
    let short = [bare::SCENARIOS, mesh::SHORT].concat();
    scenarios.cluster(
        "ipv6-nftables",
        &Options {
            proxy_mode: ProxyMode::Nftables,
            family: Family::Ipv6,
            ..Options::default()
        },
        &short,
    );
    scenarios.cluster("failures", &failures::options(), failures::SCENARIOS);
    scenarios.run(&arguments);
}
