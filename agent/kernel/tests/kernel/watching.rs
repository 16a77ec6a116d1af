//! Changes wake whoever watches, and only those that concern us.

use std::time::Duration;

use tokio::{runtime::Builder, time::timeout};

use crate::lab::Lab;

#[test]
fn changes_of_ours_wake_and_others_do_not() {
    let mut lab = Lab::new();
    let node = lab.usual();
    let id = node.proxy.clone().unwrap().netns;
    let mut kernel = lab.kernel();
    kernel.reconcile(&node).unwrap();
    let mut watch = kernel.watch(Some(&id)).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let quiet = Duration::from_millis(150);
        assert!(
            timeout(quiet, watch.changed()).await.is_err(),
            "nothing changed"
        );
        for (namespace, command) in [
            ("node", "ip route add 10.55.0.0/16 dev out0"),
            ("node", "nft add table inet other"),
            (
                "node",
                "ip neigh replace 192.168.77.9 lladdr 02:00:00:00:00:01 dev out0",
            ),
        ] {
            lab.inside(namespace, command);
            assert!(timeout(quiet, watch.changed()).await.is_err(), "{command}");
        }
        for (namespace, command) in [
            ("node", "ip route flush table 8301"),
            ("node", "ip rule del priority 105"),
            ("node", "nft delete table netdev sluice"),
            ("node", "ip addr add 10.66.0.1/32 dev out0"),
            ("node", "ip link set sl-out down"),
            ("node", "ip neigh del fe80::2 dev sl-in"),
            ("proxy", "nft flush table inet sluice"),
            ("proxy", "ip -6 rule del priority 112"),
        ] {
            lab.inside(namespace, command);
            let woken = timeout(Duration::from_secs(5), watch.changed()).await;
            woken
                .unwrap_or_else(|_| panic!("`{command}` did not wake"))
                .unwrap();
            // What came along with it.
            while timeout(quiet, watch.changed()).await.is_ok() {}
        }
    });
}
