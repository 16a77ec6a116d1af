use super::*;

fn texts(texts: &[&str]) -> Vec<Text> {
    let text = |(number, text): (usize, &&str)| Text {
        file: format!("/{number}.toml"),
        text: (*text).into(),
    };
    texts.iter().enumerate().map(text).collect()
}

#[test]
fn every_version_of_containerds_configuration_is_read() {
    for (text, bins) in [
        (
            "[plugins.cri.cni]\nbin_dir = '/b'\nconf_dir = '/c'",
            vec!["/b"],
        ),
        (
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = '/b'\nconf_dir = '/c'",
            vec!["/b"],
        ),
        (
            "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/b', '/d']\nbin_dir = ''\nconf_dir = '/c'",
            vec!["/b", "/d"],
        ),
    ] {
        let said = containerd(&texts(&[text])).unwrap();
        assert_eq!(said.conf_dir.as_deref(), Some("/c"), "{text}");
        assert_eq!(said.bin_dirs, bins, "{text}");
        assert!(!said.takes.several);
    }
    let two = texts(&[
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir='/b'\nconf_dir='/c'\nmax_conf_num=1",
        "[plugins.'io.containerd.grpc.v1.cri'.cni]\nconf_dir='/later'\nmax_conf_num=0",
    ]);
    let said = containerd(&two).unwrap();
    assert_eq!(said.conf_dir.as_deref(), Some("/later"));
    assert_eq!(said.bin_dirs, ["/b"]);
    assert!(said.takes.several);
    assert_eq!(said.files.len(), 2);
    assert_eq!(
        containerd(&texts(&["version = 2"])).unwrap(),
        Said::default()
    );
}

#[test]
fn crio_names_its_network() {
    let said = crio(&texts(&[
        "[crio.network]\nnetwork_dir = '/a'\nplugin_dirs = ['/x', '/y']\ncni_default_network = 'pods'",
        "[crio.network]\nnetwork_dir = '/b/'",
        "[crio.image]\npause_image = 'x'",
    ]))
    .unwrap();
    assert_eq!(said.conf_dir.as_deref(), Some("/b/"));
    assert_eq!(said.bin_dirs, ["/x", "/y"]);
    assert_eq!(said.takes.network.as_deref(), Some("pods"));
}

#[test]
fn what_makes_no_sense_is_refused_with_the_file_and_the_remedy() {
    for text in [
        "{",
        "[plugins.cri.cni]\nconf_dir = 7",
        "[plugins.cri.cni]\nconf_dir = 'net.d'",
        "[plugins.cri.cni]\nbin_dirs = ['/a', 1]",
        "[plugins.cri.cni]\nbin_dir = '${SNAP_DATA}/opt/cni/bin'",
        "a = 1\na = 2",
    ] {
        let error = containerd(&texts(&[text])).unwrap_err().to_string();
        assert!(
            error.contains("/0.toml") && error.contains("--cni-conf-dir"),
            "{error}"
        );
    }
}

struct Node(tempfile::TempDir);

impl Node {
    fn new(files: &[(&str, &str)]) -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            let path = node.0.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        node
    }

    fn found(&self) -> (String, Vec<String>, String) {
        let found = discover(&Host::new(self.0.path())).unwrap();
        let text = |path: &PathBuf| path.display().to_string();
        let bins = found.bin_dirs.iter().map(text).collect();
        (text(&found.conf_dir), bins, found.from)
    }

    #[track_caller]
    fn finds(&self, conf: &str, bin: &str, from: &str) {
        let (found_conf, bins, said) = self.found();
        assert_eq!((found_conf.as_str(), bins.join(",").as_str()), (conf, bin));
        assert!(said.contains(from), "{said}");
    }
}

#[test]
fn the_runtime_that_runs_is_asked_and_imports_are_followed() {
    let imports = "version = 2\nimports = ['/etc/containerd/conf.d/*.toml', 'more.toml', 'config.toml', 'gone.toml']";
    let node = Node::new(&[
        ("/etc/containerd/config.toml", imports),
        (
            "/etc/containerd/conf.d/10-a.toml",
            "[plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir='/ten'\nbin_dir='/b'",
        ),
        ("/etc/containerd/conf.d/20-b.toml.off", "{"),
        (
            "/etc/containerd/more.toml",
            "[plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir='/more'",
        ),
        // Installed, and not running.
        ("/etc/crio/crio.conf", "[crio.network]\nnetwork_dir='/crio'"),
        ("/run/containerd/containerd.sock", ""),
    ]);
    node.finds(
        "/more",
        "/b",
        "/etc/containerd/conf.d/10-a.toml, /etc/containerd/more.toml",
    );
}

#[test]
fn platforms_have_their_places_and_so_has_a_node_that_says_nothing() {
    Node::new(&[]).finds(CONF, BIN, "no configuration of a runtime");
    Node::new(&[("/etc/containerd/config.toml", "version = 2")]).finds(
        CONF,
        BIN,
        "the usual place of containerd for configurations and plugins",
    );
    let gke = Node::new(&[
        ("/etc/containerd/config.toml", "version = 2"),
        ("/home/kubernetes/bin/ptp", ""),
    ]);
    gke.finds(CONF, "/home/kubernetes/bin", "usual place");
    let openshift = Node::new(&[
        ("/run/crio/crio.sock", ""),
        (
            "/etc/crio/crio.conf.d/00-default",
            "[crio.network]\nnetwork_dir='/etc/kubernetes/cni/net.d/'\nplugin_dirs=['/var/lib/cni/bin','/usr/libexec/cni']",
        ),
    ]);
    openshift.finds(
        "/etc/kubernetes/cni/net.d/",
        "/var/lib/cni/bin,/usr/libexec/cni",
        "/etc/crio/crio.conf.d/00-default",
    );
    let k3s = Node::new(&[
        ("/run/k3s/containerd/containerd.sock", ""),
        (
            "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
            "[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir='/bin'\nconf_dir='/var/lib/rancher/k3s/agent/etc/cni/net.d'",
        ),
        (
            "/etc/containerd/config.toml",
            "[plugins.cri.cni]\nconf_dir='/wrong'",
        ),
    ]);
    k3s.finds(
        "/var/lib/rancher/k3s/agent/etc/cni/net.d",
        "/bin",
        "/var/lib/rancher/k3s/",
    );
    let rke2 = Node::new(&[
        ("/run/k3s/containerd/containerd.sock", ""),
        (
            "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
            "version = 2",
        ),
    ]);
    rke2.finds(CONF, BIN, "rke2");
    let microk8s = Node::new(&[
        ("/var/snap/microk8s/1/args/containerd.toml", "version = 2"),
        (
            "/var/snap/microk8s/1/args/cni-network/10-calico.conflist",
            "",
        ),
    ]);
    std::os::unix::fs::symlink("1", microk8s.0.path().join("var/snap/microk8s/current")).unwrap();
    microk8s.finds(
        "/var/snap/microk8s/current/args/cni-network",
        BIN,
        "microk8s",
    );
}

#[test]
fn hostile_files_are_refused() {
    let huge = "#".repeat(2 << 20);
    for text in [huge.as_str(), "\u{0}", "imports = ['config.toml'"] {
        let node = Node::new(&[("/etc/containerd/config.toml", text)]);
        assert!(discover(&Host::new(node.0.path())).is_err());
    }
    let node = Node::new(&[("/etc/containerd/x", "")]);
    let file = node.0.path().join("etc/containerd/config.toml");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = discover(&Host::new(node.0.path())).unwrap_err().to_string();
    assert!(error.contains("not an ordinary file"), "{error}");
    assert!(
        is_match("*.toml", "a.toml")
            && is_match("a*b*c", "axbxc")
            && !is_match("*.toml", "a.toml.off")
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", keys in "[\\[\\]a-z._='\"/ \n]{0,80}") {
        let _ = containerd(&texts(&[&text]));
        let _ = crio(&texts(&[&format!("[crio.network]\n{keys}")]));
    }
}
