//! What is known about the cluster that is up: a folder under `target`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sluice_tests::{
    cluster::{Cluster, tools},
    lab::sweep,
};

/// The folder, whether or not there is a cluster.
pub(crate) struct State {
    dir: PathBuf,
}

/// Who holds the cluster, and what its things are called.
#[derive(Deserialize, Serialize)]
struct Keeper {
    pid: u32,
    /// Nothing until the cluster is up.
    id: Option<String>,
    dir: Option<PathBuf>,
}

impl State {
    pub(crate) fn of_project() -> Self {
        Self {
            dir: tools::project().join("target/cluster"),
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn create(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("make {}", self.dir.display()))
    }

    /// Process id of the background process, if it still runs.
    pub(crate) fn keeper(&self) -> Option<u32> {
        let pid = self.read()?.pid;
        // After a reboot the number may be anybody's.
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0);
        let is_keeper = words.next()?.ends_with(b"cluster") && words.next()? == b"keep";
        is_keeper.then_some(pid)
    }

    /// Says that this process is the one.
    pub(crate) fn claim(&self) -> anyhow::Result<()> {
        self.write(&Keeper {
            pid: std::process::id(),
            id: None,
            dir: None,
        })
    }

    /// Leaves everything that people need to look around.
    pub(crate) fn publish(&self, cluster: &Cluster) -> anyhow::Result<()> {
        self.write(&Keeper {
            pid: std::process::id(),
            id: Some(cluster.id().into()),
            dir: Some(cluster.dir().into()),
        })?;
        link(&cluster.kubeconfig(), &self.file("kubeconfig"))?;
        link(&cluster.dir().join("log"), &self.file("log"))?;
        for name in ["kubectl", "helm"] {
            let text = format!(
                "#!/bin/sh\nKUBECONFIG={} exec {} \"$@\"\n",
                self.file("kubeconfig").display(),
                tools::kubernetes(name).display()
            );
            script(&self.file(name), &text)?;
        }
        script(&self.file("node"), &node_script(cluster))?;
        fs::write(self.file("guide"), self.guide_text(cluster)).context("write the guide")
    }

    /// How to look around.
    pub(crate) fn guide(&self) -> anyhow::Result<String> {
        fs::read_to_string(self.file("guide")).context("the cluster is still coming up")
    }

    /// Removes the folder, and whatever a cluster without its process has left.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        sweep::once();
        if let Some(Keeper {
            id: Some(id), dir, ..
        }) = self.read()
        {
            sweep::remove(&id);
            dir.map_or(Ok(()), |dir| remove(&dir))?;
        }
        remove(&self.dir)
    }

    fn read(&self) -> Option<Keeper> {
        let text = fs::read_to_string(self.file("keeper.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn write(&self, keeper: &Keeper) -> anyhow::Result<()> {
        let path = self.file("keeper.json");
        let fresh = path.with_extension("new");
        fs::write(&fresh, serde_json::to_string(keeper)?)
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("write {}", path.display()))
    }

    fn guide_text(&self, cluster: &Cluster) -> String {
        let here = self.dir.display();
        let options = &cluster.options;
        format!(
            "A Kubernetes of {} nodes is up ({:?} addresses, kube-proxy in {} mode).

  export KUBECONFIG={here}/kubeconfig
  {here}/kubectl get nodes -o wide
  {here}/helm list -A
  {here}/node na          a shell on a node; with words after it, that program
  {here}/log/             what every part says
  make cluster-down       takes everything away
",
            cluster.nodes.len(),
            options.family,
            options.proxy_mode.name()
        )
    }
}

fn node_script(cluster: &Cluster) -> String {
    let mut cases = String::new();
    for node in &cluster.nodes {
        cases += &format!("  {}) pid={} ;;\n", node.name, node.init_pid());
    }
    format!(
        "#!/bin/sh
case ${{1:-}} in
{cases}  *) echo \"usage: $0 NODE [PROGRAM...]\" >&2; exit 2 ;;
esac
shift
[ $# -gt 0 ] || set -- sh
exec nsenter --target $pid --mount --net --pid --uts --ipc -- \"$@\"
"
    )
}

fn script(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("write {}", path.display()))
}

fn link(to: &Path, path: &Path) -> anyhow::Result<()> {
    std::os::unix::fs::symlink(to, path).with_context(|| format!("link {}", path.display()))
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
