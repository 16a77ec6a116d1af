//! Proxies that were there before the agent, found on the real kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use sluice_agent::{desired::Wanted, status::PodState};

use crate::lab::{Node, uid};

/// As Kubernetes makes them.
const POD: &str = "0f3a5b12-9c1d-4e77-8a01-1234567890ab";
/// Of which nobody makes processes.
const NOWHERE: &str = "0f3a5b12-9c1d-4e77-8a01-1234567890a7";
const OTHER: &str = "11111111-2222-3333-4444-555555555555";
const CGROUPS: &str = "/sys/fs/cgroup/unified";

/// A process in a network namespace and in a control group, which both go with
/// it.
struct Process {
    child: Child,
    group: PathBuf,
}

impl Process {
    /// In the group that kubelet would make for a container of this pod.
    #[expect(clippy::disallowed_methods, reason = "tests use the native tools")]
    fn of_pod(test: &str, pod: &str, container: &str, netns: &Path) -> Self {
        let slice = format!("kubepods-burstable-pod{}.slice", pod.replace('-', "_"));
        let top = format!("sluice-{test}-{}.slice", std::process::id());
        let group = Path::new(CGROUPS)
            .join(top)
            .join(slice)
            .join(format!("cri-containerd-{container}.scope"));
        fs::create_dir_all(&group).unwrap();
        let name = netns.file_name().unwrap().to_str().unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", name, "sleep", "600"])
            .spawn()
            .unwrap();
        fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
        let process = Self { child, group };
        // `ip` becomes `sleep` once it is in the namespace.
        let there = || fs::metadata(process.proc().join("ns/net")).ok();
        let wanted = std::os::unix::fs::MetadataExt::ino(&fs::metadata(netns).unwrap());
        while there().is_none_or(|found| std::os::unix::fs::MetadataExt::ino(&found) != wanted) {
            std::thread::yield_now();
        }
        process
    }

    fn proc(&self) -> PathBuf {
        format!("/proc/{}", self.child.id()).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for group in self.group.ancestors().take(3) {
            let _ = fs::remove_dir(group);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_found_where_runtimes_bind_namespaces_and_no_impostor_is() {
    let mut node = Node::new();
    let proxy = node.proxy_before("zt", 200);
    // A pod that has given itself the proxy's address, and a name before it.
    node.attach("aa", 9);
    node.inside("aa", "ip addr add 10.93.0.200/32 dev eth0");
    let bound = tempfile::tempdir().unwrap();
    for name in ["aa", "node", "zt"] {
        // A runtime binds; a link would not count as a namespace's own name.
        let to = bound.path().join(name);
        fs::write(&to, "").unwrap();
        let from = node.path(name);
        mount(&from, &to);
    }
    fs::write(bound.path().join("0-empty"), "").unwrap();
    nix::unistd::mkfifo(&bound.path().join("0-pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    node.search("/nonexistent".into(), vec![bound.path().into()]);
    node.want("zt", Wanted::Proxy, &["10.93.0.200", "fd93::200"]);
    let status = node.until(|status| status.proxy.ready).await;
    let found = status.proxy.netns.clone().unwrap();
    assert_eq!(found.path, bound.path().join("zt"));
    node.want("a", Wanted::Captured, &[]);
    let sandbox = node.attach("a", 4);
    node.add(&sandbox).await.unwrap();
    node.until_pod("a", PodState::Captured, None).await;
    // It is remembered.
    node.search("/nonexistent".into(), Vec::new());
    node.send();
    node.until(|status| status.proxy.ready).await;
    // Its own ADD, late, changes nothing.
    node.capture.noted(proxy).await;
    node.until(|status| status.proxy.ready).await;
    for name in ["aa", "node", "zt"] {
        unmount(&bound.path().join(name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_found_by_the_control_group_of_its_processes() {
    let mut node = Node::new();
    node.proxy_before("zt", 200);
    node.attach("aa", 9);
    // Of another pod in its place, of the pod and not in it, and the right one.
    let _other = Process::of_pod("cg", OTHER, "c1", &node.path("aa"));
    let _astray = Process::of_pod("cg", POD, "c2", &node.path("aa"));
    let right = Process::of_pod("cg", POD, "c3", &node.path("zt"));
    let _later = Process::of_pod("cg", POD, "c4", &node.path("zt"));
    node.search("/proc".into(), Vec::new());
    node.want_as(POD, "zt", Wanted::Proxy, &["10.93.0.200", "fd93::200"]);
    let status = node.until(|status| status.proxy.ready).await;
    assert_eq!(status.proxy.pod_uid, Some(uid(POD)));
    let found = status.proxy.netns.clone().unwrap();
    assert_eq!(found.path, right.proc().join("ns/net"));
    // The process ends and the pod lives on: found again by the next one.
    drop(right);
    node.until(|status| {
        let netns = status.proxy.netns.as_ref();
        status.proxy.ready && netns.is_some_and(|netns| netns.path != found.path)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_nowhere_is_told_of() {
    let mut node = Node::new();
    node.proxy_before("zt", 200);
    node.search("/proc".into(), Vec::new());
    node.want_as(NOWHERE, "zt", Wanted::Proxy, &["10.93.0.200"]);
    let status = node
        .until(|status| status.proxy.message.contains("was looked for"))
        .await;
    assert!(status.proxy.message.contains("0 processes"), "{status:?}");
    // One that is reached over a bridge says so.
    node.want_as(NOWHERE, "zt", Wanted::Proxy, &["10.93.99.99"]);
    node.until(|status| status.proxy.message.contains("no route"))
        .await;
}

fn mount(from: &Path, to: &Path) {
    use nix::mount::{MsFlags, mount};
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

fn unmount(path: &Path) {
    nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH).unwrap();
}
