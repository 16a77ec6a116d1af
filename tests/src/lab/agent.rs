//! The agent of a node.

use std::{net::IpAddr, path::PathBuf};

use sluice_proto::agent::v1::{
    GetStatusRequest, GetStatusResponse, ListPodsRequest, Pod, ResyncRequest,
    node_service_client::NodeServiceClient,
};

use super::{
    Lab, command,
    controller::{PORT, confined, log_filter, program},
    http, lan,
    netns::Netns,
    process::Process,
    rpc, wait,
};

/// Where every agent serves its metrics.
const METRICS: u16 = 15014;

/// An agent, running or not.
#[derive(Debug)]
pub struct Agent {
    pub process: Option<Process>,
    pub socket: PathBuf,
    netns: Netns,
    name: String,
    args: Vec<String>,
    log: PathBuf,
}

impl Lab {
    /// Starts the agent of a node with further flags, and waits until it
    /// answers.
    pub fn start_agent(&mut self, node: &str, extra: &[&str]) {
        let files = self.certificate("node", node);
        let log = self.log(&format!("agent-{node}"));
        let node = self.node_mut(node);
        let path = |path: PathBuf| path.display().to_string();
        let mut args: Vec<String> = [
            ("--node-name", node.name.clone()),
            (
                "--controller",
                format!("https://{}:{PORT}", lan::controller_address(node)),
            ),
            ("--trust-domain", super::TRUST_DOMAIN.into()),
            ("--tls-cert", path(files.cert)),
            ("--tls-key", path(files.key)),
            ("--tls-ca", path(files.ca)),
            ("--run-dir", path(node.run_dir())),
            ("--state-dir", path(node.state_dir())),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        args.extend(extra.iter().map(|&arg| arg.to_owned()));
        let mut agent = Agent {
            process: None,
            socket: node.socket(),
            netns: node.netns.clone(),
            name: format!("agent of {}", node.name),
            args,
            log,
        };
        agent.start();
        node.agent = Some(agent);
    }

    /// `sluice-agent cleanup` on a node whose agent was stopped.
    pub fn cleanup(&self, node: &str) {
        self.cleanup_with(node, &[]);
    }

    /// The same, told where the proxy is.
    pub fn cleanup_with_proxy(&self, node: &str) {
        let proxy = self.pod(&Self::proxy_name(node)).netns.path();
        self.cleanup_with(node, &["--proxy-netns", &proxy.display().to_string()]);
    }

    /// The same, of the files on the node too.
    pub fn cleanup_files(&self, node: &str) {
        let flags = self.install_flags(node);
        let shim = flags.iter().position(|flag| flag == "--cni-shim");
        let flags: Vec<&str> = flags[..shim.unwrap_or(flags.len())]
            .iter()
            .map(String::as_str)
            .collect();
        self.cleanup_with(node, &flags);
    }

    /// Flags with which the agent installs the shim for the node's runtime and
    /// keeps `config.json`.
    pub fn install_flags(&self, node: &str) -> Vec<String> {
        let node = self.node(node);
        let runtime = node.runtime.as_ref().expect("the node has a runtime");
        let shim = super::programs::find("sluice-cni");
        let pairs = [
            ("--cni-conf-dir", &runtime.conf),
            ("--cni-bin-dir", &runtime.bin),
            ("--ambient-config-dir", &node.dir.join("ambient-config")),
            ("--cni-shim", &shim),
        ];
        let pairs = pairs.map(|(flag, path)| [flag.to_owned(), path.display().to_string()]);
        pairs.into_iter().flatten().collect()
    }

    fn cleanup_with(&self, node: &str, extra: &[&str]) {
        let node = self.node(node);
        let mut command = program("sluice-agent");
        command
            .arg("cleanup")
            .arg("--run-dir")
            .arg(node.run_dir())
            .arg("--state-dir")
            .arg(node.state_dir())
            .args(extra);
        let output = node.netns.enter(|| command.output());
        let output = output.expect("run sluice-agent cleanup");
        command::stdout("sluice-agent cleanup", &output);
    }

    /// Flags that name the namespace of a node's proxy, for a proxy that no
    /// ADD ever told of.
    pub fn proxy_flags(&self, node: &str) -> Vec<String> {
        let proxy = self.pod(&Self::proxy_name(node));
        let mut flags = vec![
            "--proxy-netns".into(),
            proxy.netns.path().display().to_string(),
        ];
        for address in proxy.addresses() {
            flags.extend(["--proxy-address".into(), address.to_string()]);
        }
        flags
    }

    /// Takes away an agent that was stopped, and all that it remembers.
    pub fn forget_agent(&mut self, node: &str) {
        let node = self.node_mut(node);
        node.agent = None;
        for dir in [node.run_dir(), node.state_dir()] {
            // It may never have made one.
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    /// The agent's metrics, as a collector reads them.
    pub fn metrics(&self, node: &str) -> String {
        http::get(self.ns(node), METRICS, "/metrics").expect("the agent's metrics")
    }
}

impl Agent {
    /// One that somebody else starts, by its socket.
    pub(crate) fn at(socket: PathBuf, netns: &Netns) -> Self {
        Self {
            process: None,
            socket,
            netns: netns.clone(),
            name: "agent".into(),
            args: Vec::new(),
            log: PathBuf::new(),
        }
    }

    /// Starts it, again, with the same flags, and waits until it answers.
    pub fn start(&mut self) {
        self.launch();
        wait::value("the agent's socket", wait::LONG, || {
            let ended = self.process.as_mut().and_then(Process::has_ended);
            assert!(ended.is_none(), "the agent ended: {}", self.log());
            self.status().map(|_| ())
        });
    }

    /// Starts it without waiting.
    pub fn launch(&mut self) {
        let mut command = confined("sluice-agent");
        command
            .arg("run")
            .args(&self.args)
            .env("SLUICE_LOG", log_filter())
            // What is undone was noticed: no whole look found it. A flag goes before it.
            .env("SLUICE_RESYNC_INTERVAL", "60m")
            .env("NO_COLOR", "1");
        self.process = Some(Process::start(&self.netns, &self.name, command, &self.log));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM, and waits.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let status = process.stop(wait::LONG);
            assert!(status.is_some(), "{} does not end on SIGTERM", self.name);
        }
    }

    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    pub fn status(&self) -> Result<GetStatusResponse, String> {
        self.call(async |mut client| client.get_status(GetStatusRequest {}).await)
    }

    pub fn pods(&self) -> Result<Vec<Pod>, String> {
        self.call(async |mut client| client.list_pods(ListPodsRequest {}).await)
            .map(|response| response.pods)
    }

    /// Looks at everything and repairs; what was repaired.
    pub fn resync(&self) -> Result<Vec<String>, String> {
        self.call(async |mut client| client.resync(ResyncRequest {}).await)
            .map(|response| response.repairs)
    }

    fn call<T>(
        &self,
        ask: impl AsyncFnOnce(
            NodeServiceClient<tonic::transport::Channel>,
        ) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, String> {
        rpc::block(async {
            let channel = rpc::unix(&self.socket)
                .await
                .map_err(|error| format!("connect: {error:?}"))?;
            ask(NodeServiceClient::new(channel))
                .await
                .map(tonic::Response::into_inner)
                .map_err(|status| format!("{status:?}"))
        })
    }

    /// One pod, by name.
    pub fn pod(&self, name: &str) -> Result<Pod, String> {
        let pods = self.pods()?;
        let names: Vec<String> = pods.iter().map(|pod| pod.name.clone()).collect();
        pods.into_iter()
            .find(|pod| pod.name == name)
            .ok_or_else(|| format!("the agent knows {names:?}, not {name}"))
    }

    /// Waits until a pod is in a state, by the agent's own word. What a test
    /// asserts it looks up elsewhere; this only says when to look.
    pub fn wait_state(&self, name: &str, state: sluice_proto::capture::v1::PodState) -> Pod {
        wait::value(&format!("{name} to be {state:?}"), wait::LONG, || {
            let pod = self.pod(name)?;
            match &pod.status {
                Some(status) if status.state() == state => Ok(pod),
                other => Err(format!("{other:?}")),
            }
        })
    }
}

/// The addresses of a pod as the agent lists them.
pub fn addresses(pod: &Pod) -> Vec<IpAddr> {
    pod.addresses
        .iter()
        .filter_map(|address| address.parse().ok())
        .collect()
}
