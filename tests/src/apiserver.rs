//! A real API server on this machine's loopback: etcd and kube-apiserver and
//! nothing else. Pods are objects in it that nobody runs.
//!
//! It can be ended, frozen and started again, its history compacted; and a
//! [`FaultyProxy`] in front of it answers wrongly on demand.

mod faulty_proxy;

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

pub use faulty_proxy::{Fault, FaultyProxy};

use crate::{
    cluster::{Family, files, pki::Pki, tools},
    lab::wait,
};

const START: Duration = Duration::from_secs(120);

/// A running API server. Everything ends with it.
#[derive(Debug)]
pub struct ApiServer {
    api_server: Child,
    _etcd: EndedOnDrop,
    etcd_port: u16,
    port: u16,
    pki: Pki,
    dir: TempDir,
}

#[derive(Debug)]
struct EndedOnDrop(Child);

impl Drop for EndedOnDrop {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        end(&mut self.api_server);
        if std::thread::panicking() {
            let log = std::fs::read(self.dir.path().join("kube-apiserver.log"));
            let log = String::from_utf8_lossy(&log.unwrap_or_default()).into_owned();
            eprintln!(
                "--- last words of the API server\n{}",
                crate::lab::process::tail(&log, 15)
            );
        }
    }
}

impl ApiServer {
    /// Starts etcd and the API server, and waits until it is ready.
    pub fn start() -> Self {
        let program = tools::kubernetes("kube-apiserver");
        assert!(
            program.is_file(),
            "{} is missing: run `scripts/setup cluster`",
            program.display()
        );
        let dir = tempfile::Builder::new()
            .prefix("sluice-apiserver-")
            .tempdir()
            .expect("make a directory for the API server");
        let pki = Pki::create(&dir.path().join("pki"), Family::Ipv4);
        let [etcd_port, peer_port, port] = free_ports();
        let etcd = start_etcd(dir.path(), etcd_port, peer_port);
        let api_server = start_api_server(dir.path(), &pki, etcd_port, port);
        let mut server = Self {
            api_server,
            _etcd: EndedOnDrop(etcd),
            etcd_port,
            port,
            pki,
            dir,
        };
        server.wait_ready();
        server
    }

    /// Its address, for those who bring a certificate.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// A kubeconfig of one who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.kubeconfig(&self.url(), "admin", "admin")
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        end(&mut self.api_server);
    }

    /// Starts it again on the same address and the same etcd.
    pub fn restart(&mut self) {
        self.kill();
        self.api_server = start_api_server(self.dir.path(), &self.pki, self.etcd_port, self.port);
        self.wait_ready();
    }

    /// It stays connected, and does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.api_server.id().cast_signed());
        kill(pid, signal).expect("signal the API server");
    }

    /// Has etcd forget everything before `revision`.
    pub fn compact(&self, revision: u64) {
        let body = format!(r#"{{"revision":"{revision}","physical":true}}"#);
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.etcd_port)).expect("connect to etcd");
        write!(
            stream,
            "POST /v3/kv/compaction HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("ask etcd");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("etcd's answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn wait_ready(&mut self) {
        let kubeconfig = self.kubeconfig();
        wait::value("the API server to be ready", START, || {
            if let Ok(Some(status)) = self.api_server.try_wait() {
                panic!("the API server has ended: {status}");
            }
            crate::cluster::kubectl::run(&kubeconfig, &["get", "--raw", "/readyz"], None)
        });
    }
}

fn end(child: &mut Child) {
    // Gone already is as good.
    let _ = child.kill();
    let _ = child.wait();
}

fn free_ports() -> [u16; 3] {
    let bound = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    bound.map(|listener| listener.local_addr().expect("its address").port())
}

// Dies with the thread that starts it, so that no ended test leaves one.
fn spawn(dir: &Path, program: &Path, arguments: &[String]) -> Child {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join(format!("{name}.log")))
        .expect("make a log file");
    let mut command = tools::program("/usr/bin/setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("duplicate a log file"))
        .stderr(log);
    command.spawn().expect("start a program of the API server")
}

fn start_etcd(dir: &Path, port: u16, peer_port: u16) -> Child {
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let arguments = [
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--logger=zap".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    spawn(dir, Path::new("/usr/bin/etcd"), &arguments)
}

fn start_api_server(dir: &Path, pki: &Pki, etcd_port: u16, port: u16) -> Child {
    files::directory(&dir.join("run"));
    let file = |name: &str| pki.file(name).display().to_string();
    let arguments = [
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", dir.join("run").display()),
        format!("--tls-cert-file={}", file("api-server.crt")),
        format!("--tls-private-key-file={}", file("api-server.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!(
            "--service-account-issuer={}",
            crate::cluster::pki::TOKEN_ISSUER
        ),
        format!("--service-account-key-file={}", file("tokens.pub")),
        format!("--service-account-signing-key-file={}", file("tokens.key")),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // Nobody makes service accounts here.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--profiling=false".to_owned(),
    ];
    spawn(dir, &tools::kubernetes("kube-apiserver"), &arguments)
}
