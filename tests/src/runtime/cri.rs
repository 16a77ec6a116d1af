//! The runtime as a kubelet speaks to it: CRI over its socket.
//!
//! The messages are those of `k8s.io/cri-api` v1 with the fields that are used;
//! the crates that have all of them need protoc.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use tonic::{Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

use crate::lab::rpc;

/// Longer than any deadline of ours, and a kubelet's patience.
const LIMIT: Duration = Duration::from_secs(120);

/// What a sandbox is made of.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<PodSandboxMetadata>,
    #[prost(string, tag = "2")]
    pub hostname: String,
    #[prost(string, tag = "3")]
    pub log_directory: String,
    #[prost(message, repeated, tag = "5")]
    pub port_mappings: Vec<PortMapping>,
    #[prost(map = "string, string", tag = "7")]
    pub annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    pub linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, tag = "3")]
    pub namespace: String,
    #[prost(uint32, tag = "4")]
    pub attempt: u32,
}

/// TCP: the protocol's number is 0.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PortMapping {
    #[prost(int32, tag = "2")]
    pub container_port: i32,
    #[prost(int32, tag = "3")]
    pub host_port: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    pub cgroup_parent: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<PodSandboxConfig>,
}

/// Also what a sandbox is stopped and removed by, and the answer of the first.
#[derive(Clone, PartialEq, prost::Message)]
struct SandboxId {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SandboxStatusRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bool, tag = "2")]
    verbose: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {
    #[prost(bool, tag = "1")]
    verbose: bool,
}

/// Of the runtime and of a sandbox alike: what it tells more than CRI asks for.
#[derive(Clone, PartialEq, prost::Message)]
struct Verbose {
    #[prost(map = "string, string", tag = "2")]
    info: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

/// A runtime.
#[derive(Clone, Debug)]
pub struct Runtime {
    socket: PathBuf,
}

impl Runtime {
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Makes a sandbox; its id, or what the runtime says.
    pub fn run(&self, config: PodSandboxConfig) -> Result<String, String> {
        let config = Some(config);
        let made: SandboxId = self.call("RunPodSandbox", RunRequest { config })?;
        Ok(made.id)
    }

    pub fn stop(&self, id: &str) -> Result<(), String> {
        let id = id.to_owned();
        self.call::<_, Nothing>("StopPodSandbox", SandboxId { id })
            .map(|_| ())
    }

    pub fn remove(&self, id: &str) -> Result<(), String> {
        let id = id.to_owned();
        self.call::<_, Nothing>("RemovePodSandbox", SandboxId { id })
            .map(|_| ())
    }

    /// What the runtime knows of a sandbox beyond CRI: its process, its
    /// namespaces, the CNI result.
    pub fn sandbox(&self, id: &str) -> Result<serde_json::Value, String> {
        let (id, verbose) = (id.to_owned(), true);
        let answer: Verbose =
            self.call("PodSandboxStatus", SandboxStatusRequest { id, verbose })?;
        json(&answer.info, "info")
    }

    /// The network configuration that the runtime has loaded.
    pub fn network(&self) -> Result<serde_json::Value, String> {
        let answer: Verbose = self.call("Status", StatusRequest { verbose: true })?;
        json(&answer.info, "cniconfig")
    }

    fn call<Q, A>(&self, method: &str, request: Q) -> Result<A, String>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let path: PathAndQuery = format!("/runtime.v1.RuntimeService/{method}")
            .parse()
            .expect("a method's path");
        rpc::block_long(async {
            let call = async {
                let channel = rpc::unix(&self.socket).await;
                let channel = channel.map_err(|error| Status::unavailable(format!("{error:?}")))?;
                let mut client = Grpc::new(channel);
                client
                    .ready()
                    .await
                    .map_err(|error| Status::unavailable(error.to_string()))?;
                let codec = ProstCodec::<Q, A>::default();
                client
                    .unary(tonic::Request::new(request), path, codec)
                    .await
            };
            let answer = tokio::time::timeout(LIMIT, call).await;
            let answer = answer.unwrap_or_else(|_| panic!("{method} took longer than {LIMIT:?}"));
            answer
                .map(tonic::Response::into_inner)
                .map_err(|status| status.message().to_owned())
        })
    }
}

fn json(info: &HashMap<String, String>, key: &str) -> Result<serde_json::Value, String> {
    let keys: BTreeMap<_, _> = info.iter().collect();
    let text = info
        .get(key)
        .ok_or_else(|| format!("no {key} in {keys:?}"))?;
    serde_json::from_str(text).map_err(|error| format!("{key}: {error}: {text}"))
}
