//! What makes a node a machine of its own: mount, PID, UTS and IPC namespaces,
//! held open by a process that is the node's init. When it ends, everything on
//! the node ends with it, and its mounts are gone.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::lab::{
    command::{self, Bounded as _},
    netns::Netns,
    wait,
};

use super::{exec::Wrapped, files, tools};

/// Run as `sh -ec SCRIPT holder DIRECTORY NAME`, as the first process of the
/// namespaces. Mounts do not reach the machine, but those made later on the node
/// reach its pods (HostToContainer), and the other way round.
///
/// kubelet wants some sysctls of the machine itself to have certain values: it
/// finds files that say so.
const SCRIPT: &str = r#"
dir=$1
echo "$2" >/proc/sys/kernel/hostname
mount --make-rshared /
mount -t proc proc /proc
for tree in etc opt var; do
  mount -t overlay -o "lowerdir=/$tree,upperdir=$dir/$tree.upper,workdir=$dir/$tree.work" overlay "/$tree"
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock /var/lib/containerd /var/lib/kubelet
mount --bind "$dir/containerd" /var/lib/containerd
mount --bind "$dir/kubelet" /var/lib/kubelet
while read -r file value; do
  echo "$value" >"$dir/sysctl.${file##*/}"
  mount --bind "$dir/sysctl.${file##*/}" "/proc/sys/$file"
done <<TUNABLES
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
TUNABLES
echo node is made
exec env --ignore-signal=CHLD sleep infinity
"#;

/// The namespaces of a node.
#[derive(Debug)]
pub struct Holder {
    init: Wrapped,
}

impl Holder {
    /// Makes them; the node's network namespace is `netns`, its files are in
    /// `dir`.
    pub fn start(netns: &Netns, name: &str, dir: &Path, log: &Path) -> Self {
        for tree in ["etc", "opt", "var"] {
            files::directory(&dir.join(format!("{tree}.upper")));
            files::directory(&dir.join(format!("{tree}.work")));
        }
        files::directory(&dir.join("containerd"));
        files::directory(&dir.join("kubelet"));
        let mut command = tools::program("unshare");
        command
            .args(["--mount", "--pid", "--uts", "--ipc", "--fork"])
            .args(["--kill-child", "--propagation", "slave"])
            .args(["sh", "-ec", SCRIPT, "holder"])
            .arg(dir)
            .arg(name);
        let mut init = Wrapped::start(netns, &format!("node {name}"), command, log);
        init.wait_for("node is made", wait::LONG);
        Self { init }
    }

    pub fn pid(&self) -> u32 {
        self.init.pid()
    }

    /// A path of the node as seen from the machine.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init.pid())).join(path.trim_start_matches('/'))
    }

    /// Makes a command run on the node (but for its network namespace, which is
    /// the caller's).
    pub fn inside(&self, command: &mut Command) {
        let entered = ["mount", "pid", "uts", "ipc"].map(|what| format!("--{what}"));
        command
            .args(["--target", &self.init.pid().to_string()])
            .args(entered)
            .arg("--");
    }

    /// Runs a program on the node whose network namespace is `netns`; its output,
    /// whatever its exit status.
    pub fn output(&self, netns: &Netns, program: &str, args: &[&str]) -> Output {
        let mut command = command::bounded_by("nsenter", 60);
        self.inside(&mut command);
        command.arg(program).args(args);
        netns.enter(|| command.run())
    }

    /// Ends everything on the node.
    pub fn kill(&mut self) {
        self.init.kill();
    }
}
