//! A node that loses power, and comes back with what its disk has.

use crate::lab::wait;

use super::Node;

/// Everything but the node's first process ends, and with it what only memory
/// had: mounts of pods, `/run`, packet rules, policy routes.
const OFF: &str = r#"
kill -KILL -1 || true
for at in $(grep -o ' /var/lib/kubelet/pods/[^ ]*' /proc/self/mountinfo); do umount -l "$at"; done
umount -l -R /run
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock
nft flush ruleset
for family in -4 -6; do
  ip $family rule flush
  ip $family rule add pref 32766 lookup main
  ip $family route flush table all proto 83 || true
done
ip -4 rule add pref 32767 lookup default
"#;

impl Node {
    /// Ends everything that runs, at once.
    pub fn power_off(&mut self) {
        // Killed first, so that nothing is tidied up.
        for process in [
            &mut self.kubelet,
            &mut self.kube_proxy,
            &mut self.containerd,
        ] {
            if let Some(mut process) = process.take() {
                process.kill();
            }
        }
        self.run("bash", &["-ec", OFF]);
        wait::value("the links of pods to go", wait::LONG, || {
            let links = self.run("ip", &["-o", "link", "show", "type", "veth"]);
            let others = links.lines().filter(|line| !line.contains(": eth0@"));
            match others.count() {
                0 => Ok(()),
                _ => Err(links),
            }
        });
        // kubelet would look at each of them for seconds before it does anything.
        self.remove_cgroups();
    }

    /// Starts what a machine starts by itself.
    pub fn power_on(&mut self) {
        self.start_containerd();
        self.start_kubelet();
        self.start_kube_proxy();
    }
}
