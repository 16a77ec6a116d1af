//! The archives that `scripts/images` makes, pushed to a real registry and read
//! back. That a runtime takes them is what the cluster tests show.

#![expect(clippy::expect_used, reason = "tests fail where they stand")]

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::Child,
};

use serde_json::Value;
use sluice_tests::{cluster::tools, lab::wait};
use tempfile::TempDir;

const IMAGES: [&str; 3] = ["sluice-agent", "sluice-controller", "sluice-stand-in"];

/// Debian's registry on a port of the loopback, its files in a folder of its own.
struct Registry {
    process: Child,
    address: String,
    _dir: TempDir,
}

impl Registry {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder for the registry");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("its address").to_string();
        drop(free);
        let config = dir.path().join("config.yml");
        let data = dir.path().join("data");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            data.display()
        );
        fs::write(&config, text).expect("write the registry's configuration");
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let mut command = tools::program("/usr/bin/docker-registry");
        let process = command
            .arg("serve")
            .arg(&config)
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("docker-registry, which `scripts/setup cluster` installs");
        let listening = wait::until(wait::LONG, || TcpStream::connect(&address).is_ok());
        let said = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        assert!(listening, "the registry does not listen:\n{said}");
        Self {
            process,
            address,
            _dir: dir,
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn skopeo(arguments: &[&str]) -> String {
    let output = tools::program("/usr/bin/skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .expect("skopeo, which `scripts/setup cluster` installs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// Both readings of an archive lead to the same image.
#[test]
fn a_registry_takes_the_archives() {
    let registry = Registry::start();
    for name in IMAGES {
        let archive = tools::project().join(format!("target/images/{name}.tar"));
        let mut layers = Vec::new();
        for form in ["docker-archive", "oci-archive"] {
            let from = format!("{form}:{}", archive.display());
            let to = format!("docker://{}/{form}/{name}:test", registry.address);
            skopeo(&["copy", "--dest-tls-verify=false", &from, &to]);
            let read = skopeo(&["inspect", "--config", "--tls-verify=false", &to]);
            let image: Value = serde_json::from_str(&read).expect("the image's configuration");
            assert_eq!(image["architecture"], "amd64", "{image:#}");
            let entrypoint = image["config"]["Entrypoint"][0].as_str();
            assert!(
                entrypoint.is_some_and(|path| path.starts_with("/usr/local/bin/")),
                "{image:#}"
            );
            layers.push(image["rootfs"]["diff_ids"].clone());
        }
        assert_eq!(layers[0], layers[1], "{name}");
        assert_eq!(layers[0].as_array().map(Vec::len), Some(1), "{name}");
    }
}
