//! The container runtime.

use std::path::Path;

use crate::{
    cluster::{START, files, image},
    lab::{process::tail, wait},
};

use super::Node;

/// Without AppArmor, which the machine may not have, and without lowering
/// oom_score_adj, which needs a capability that it may not have either.
pub(crate) const CONFIG: &str = r#"version = 2
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[plugins."io.containerd.grpc.v1.cri"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  sandbox_image = "sluice.dev/pause:0.1.0"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
"#;

/// The last that it says before it serves kubelets.
const SERVES: &str = "Start streaming server";

impl Node {
    /// Starts containerd, and waits until it serves kubelets: that is later than
    /// it answers `ctr`, and a kubelet that comes earlier ends.
    pub fn start_containerd(&mut self) {
        self.stop_containerd();
        let before = self.log("containerd").matches(SERVES).count();
        let args = ["--config", "/etc/containerd/config.toml"].map(String::from);
        let mut containerd = self.spawn("containerd", Path::new("/usr/bin/containerd"), &args);
        wait::value("containerd to answer", START, || {
            assert!(
                !containerd.has_ended(),
                "containerd ended:\n{}",
                tail(&containerd.log(), 30)
            );
            let log = self.log("containerd");
            let serves = log.matches(SERVES).count() > before;
            serves.then_some(()).ok_or_else(|| tail(&log, 10))
        });
        self.containerd = Some(containerd);
    }

    /// Gives this node the image in an archive.
    pub fn import_image(&self, archive: &Path) {
        // The archive may be anywhere on the machine, also where the node's own
        // trees hide it.
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        let copy = format!("/run/image-{name}");
        files::copy(archive, &self.path(&copy));
        self.run("ctr", &["--namespace", "k8s.io", "images", "import", &copy]);
        self.run("rm", &[&copy]);
    }

    /// Names of the images that this node has.
    pub fn images(&self) -> Vec<String> {
        let text = self.run("ctr", &["--namespace", "k8s.io", "images", "ls", "-q"]);
        text.lines().map(str::to_owned).collect()
    }

    /// Whether the images that every pod needs are there.
    pub fn has_test_images(&self) -> bool {
        let images = self.images();
        [image::PAUSE, image::WORKLOAD]
            .iter()
            .all(|wanted| images.iter().any(|image| image == wanted))
    }
}
