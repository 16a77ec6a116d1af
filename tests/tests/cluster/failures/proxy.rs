//! A node without a proxy, and one whose proxy does not listen.

use sluice_tests::{
    cluster::{Cluster, SETTLE, stand_in},
    lab::wait,
};

use super::town::{self, MESH, PROXY};

/// Who starts meanwhile is told that there is no proxy, and starts when there is.
pub(super) fn away(cluster: &mut Cluster) {
    town::ready(cluster);
    let tap = cluster.tap();
    let gone = PROXY.away(cluster, "na");
    cluster.apply(&town::dialer(cluster, MESH, "early", "na"));
    let told = ["pod mesh/early cannot be captured yet", "proxy"];
    town::wait_told(cluster, MESH, "early", &told);
    assert_waited(cluster, "early");
    drop(gone);
    town::wait_arrived(cluster, &["early"]);
    town::assert_unread(&tap, &["early"]);
    town::delete(cluster, MESH, &["early"]);
}

/// The same for one that has died and is not started again for a while.
pub(super) fn not_listening(cluster: &mut Cluster) {
    town::ready(cluster);
    let tap = cluster.tap();
    let proxy = cluster.proxy_of("na");
    // The second time kubelet takes its time.
    for restarts in 1..=2 {
        wait::value("the proxy to run", SETTLE, || {
            let running = cluster.try_running(stand_in::NAMESPACE, &proxy)?;
            let count = running
                .identity
                .containers
                .values()
                .map(|(_, count)| *count);
            let count = count.sum::<u64>();
            if count + 1 < restarts {
                return Err(format!("{count} restarts"));
            }
            Ok(())
        });
        cluster.kill(stand_in::NAMESPACE, &proxy);
    }
    cluster.apply(&town::dialer(cluster, MESH, "hasty", "na"));
    let told = ["pod mesh/hasty cannot be captured yet", "15001"];
    town::wait_told(cluster, MESH, "hasty", &told);
    assert_waited(cluster, "hasty");
    town::wait_arrived(cluster, &["hasty"]);
    town::assert_unread(&tap, &["hasty"]);
    town::delete(cluster, MESH, &["hasty"]);
}

/// The error came within the deadline of the agent, not by the shim's own.
fn assert_waited(cluster: &Cluster, pod: &str) {
    let text = cluster.kubectl(&["describe", "pod", "-n", MESH, pod]);
    let waited = text
        .split("(waited ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let waited: u64 = waited
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("nothing waited in\n{text}"));
    assert!((1000..4000).contains(&waited), "waited {waited} ms");
}
