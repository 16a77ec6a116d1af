//! The control plane, in a namespace of its own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::lab::{
    netns::Netns,
    process::{Process, tail},
    wait,
};

use super::{
    START, address, audit, files, kubectl,
    options::{Family, Options},
    pki::{Pki, TOKEN_ISSUER},
    tools,
};

/// Where the API server listens, on every address of its namespace.
pub const PORT: u16 = 6443;
const ETCD: &str = "http://127.0.0.1:2379";
const STOP: Duration = Duration::from_secs(5);

/// etcd, API server, controller manager and scheduler.
#[derive(Debug)]
pub struct Control {
    // In the order in which they are taken down.
    scheduler: Process,
    controller_manager: Process,
    /// None while a test has ended it.
    api_server: Option<Process>,
    etcd: Process,
    api_server_args: Vec<String>,
    pub netns: Netns,
    logs: PathBuf,
}

impl Control {
    /// Starts everything; the API server will be ready some time later.
    pub fn start(netns: Netns, pki: &Pki, options: &Options, dir: &Path) -> Self {
        lan(&netns, options.family);
        let logs = dir.join("log");
        files::directory(&logs);
        let run = |name: &str, args: &[String]| start(&netns, name, args, &logs);
        let etcd = run("etcd", &etcd(&dir.join("etcd")));
        let api_server_args = api_server(pki, options, dir);
        let api_server = Some(run("kube-apiserver", &api_server_args));
        let [manager, scheduler] = ["kube-controller-manager", "kube-scheduler"]
            .map(|part| pki.kubeconfig(&local(), part, part));
        let controller_manager = run(
            "kube-controller-manager",
            &controller_manager(pki, options, &manager),
        );
        let scheduler = run(
            "kube-scheduler",
            &words([
                ("--kubeconfig", scheduler.display().to_string()),
                ("--leader-elect", "false".into()),
                ("--bind-address", "127.0.0.1".into()),
            ]),
        );
        Self {
            scheduler,
            controller_manager,
            api_server,
            etcd,
            api_server_args,
            netns,
            logs,
        }
    }

    /// Waits until the API server answers that it is ready.
    pub fn wait_ready(&mut self, kubeconfig: &Path) {
        wait::value("the API server to be ready", START, || {
            self.check_alive();
            kubectl::run(kubeconfig, &["get", "--raw", "/readyz"], None)
                .map_err(|error| format!("{error}\n{}", self.last_words()))
        });
    }

    /// Ends the API server: nobody can reach it.
    pub fn stop_api_server(&mut self) {
        if let Some(mut process) = self.api_server.take() {
            process.stop(STOP);
        }
    }

    /// Starts it again, on the same data.
    pub fn start_api_server(&mut self) {
        self.stop_api_server();
        let process = start(
            &self.netns,
            "kube-apiserver",
            &self.api_server_args,
            &self.logs,
        );
        self.api_server = Some(process);
    }

    /// Process ids of the four parts, by name.
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        let mut pids = vec![
            ("etcd", self.etcd.pid()),
            ("kube-controller-manager", self.controller_manager.pid()),
            ("kube-scheduler", self.scheduler.pid()),
        ];
        pids.extend(
            self.api_server
                .iter()
                .map(|process| ("kube-apiserver", process.pid())),
        );
        pids
    }

    fn check_alive(&mut self) {
        let parts = [
            &mut self.etcd,
            &mut self.controller_manager,
            &mut self.scheduler,
        ];
        for process in parts.into_iter().chain(self.api_server.as_mut()) {
            assert!(
                process.has_ended().is_none(),
                "part of the control plane ended; its last words:\n{}",
                tail(&process.log(), 30)
            );
        }
    }

    fn last_words(&self) -> String {
        let log = self
            .api_server
            .as_ref()
            .map(Process::log)
            .unwrap_or_default();
        tail(&log, 15)
    }
}

/// The API server as it is called inside its namespace.
pub fn local() -> String {
    format!("https://127.0.0.1:{PORT}")
}

fn start(netns: &Netns, name: &str, args: &[String], logs: &Path) -> Process {
    let path = if name == "etcd" {
        PathBuf::from("/usr/bin/etcd")
    } else {
        tools::kubernetes(name)
    };
    let mut command = tools::program(path);
    command.args(args);
    Process::start(netns, name, command, &logs.join(format!("{name}.log")))
}

/// The nodes' network: a bridge in the control namespace.
fn lan(netns: &Netns, family: Family) {
    netns.ip("link add lan type bridge mcast_snooping 0\nlink set lan up");
    for address in family.pick(
        format!("{}/24", address::CONTROL4),
        format!("{}/64", address::CONTROL6),
    ) {
        netns.ip(&format!("addr add {address} dev lan"));
    }
    netns.sysctl("net.ipv4.ip_forward", "1");
    netns.sysctl("net.ipv6.conf.all.forwarding", "1");
}

fn words<const N: usize>(flags: [(&str, String); N]) -> Vec<String> {
    flags
        .into_iter()
        .map(|(flag, value)| format!("{flag}={value}"))
        .collect()
}

fn etcd(data: &Path) -> Vec<String> {
    words([
        ("--data-dir", data.display().to_string()),
        ("--listen-client-urls", ETCD.into()),
        ("--advertise-client-urls", ETCD.into()),
        ("--listen-peer-urls", "http://127.0.0.1:2380".into()),
        ("--logger", "zap".into()),
        ("--log-level", "warn".into()),
        // What a crash of the machine would lose is lost anyway.
        ("--unsafe-no-fsync", "true".into()),
    ])
}

fn api_server(pki: &Pki, options: &Options, dir: &Path) -> Vec<String> {
    let family = options.family;
    let file = |name: &str| pki.file(name).display().to_string();
    words([
        ("--etcd-servers", ETCD.into()),
        ("--secure-port", PORT.to_string()),
        (
            "--bind-address",
            if family.has_v6() { "::" } else { "0.0.0.0" }.into(),
        ),
        ("--advertise-address", address::control(family).to_string()),
        ("--cert-dir", dir.join("api-server").display().to_string()),
        ("--tls-cert-file", file("api-server.crt")),
        ("--tls-private-key-file", file("api-server.key")),
        ("--client-ca-file", file("ca.crt")),
        ("--kubelet-certificate-authority", file("ca.crt")),
        (
            "--kubelet-client-certificate",
            file("api-server-to-kubelet.crt"),
        ),
        ("--kubelet-client-key", file("api-server-to-kubelet.key")),
        ("--kubelet-preferred-address-types", "InternalIP".into()),
        ("--service-account-issuer", TOKEN_ISSUER.into()),
        ("--service-account-key-file", file("tokens.pub")),
        ("--service-account-signing-key-file", file("tokens.key")),
        (
            "--service-cluster-ip-range",
            family.list(address::SERVICES4, address::SERVICES6),
        ),
        ("--authorization-mode", "Node,RBAC".into()),
        ("--enable-admission-plugins", "NodeRestriction".into()),
        // Webhooks are called at their pods: there is no kube-proxy here.
        ("--enable-aggregator-routing", "true".into()),
        ("--allow-privileged", "true".into()),
        ("--profiling", "false".into()),
    ])
    .into_iter()
    .chain(words(audit::flags(dir)))
    .collect()
}

fn controller_manager(pki: &Pki, options: &Options, kubeconfig: &Path) -> Vec<String> {
    let family = options.family;
    let file = |name: &str| pki.file(name).display().to_string();
    words([
        ("--kubeconfig", kubeconfig.display().to_string()),
        ("--leader-elect", "false".into()),
        ("--bind-address", "127.0.0.1".into()),
        ("--use-service-account-credentials", "true".into()),
        ("--service-account-private-key-file", file("tokens.key")),
        ("--root-ca-file", file("ca.crt")),
        ("--cluster-signing-cert-file", file("ca.crt")),
        ("--cluster-signing-key-file", file("ca.key")),
        (
            "--service-cluster-ip-range",
            family.list(address::SERVICES4, address::SERVICES6),
        ),
        // Every node's range is fixed by its index.
        ("--allocate-node-cidrs", "false".into()),
        ("--profiling", "false".into()),
    ])
}
