//! `FleetService`.

use std::sync::Arc;

use sluice_proto::{
    capture::v1::NodeCondition,
    controller::v1::{
        GetNodeRequest, GetNodeResponse, GetPodRequest, GetPodResponse, ListNodesRequest,
        ListNodesResponse, ListPodsRequest, ListPodsResponse, Node, Pod, WrittenCondition,
        fleet_service_server::FleetService,
    },
};
use tonic::{Request, Response, Status, async_trait};

use super::{caller, wire};
use crate::{
    fleet::{Fleet, NodeView, PodView, Written},
    writeback::{Condition, Ternary, decide},
};

/// Pods in a response, when nothing is said of it; and at most.
const PAGE: usize = 1000;
const LARGEST_PAGE: u32 = 5000;

pub(super) struct Operators {
    fleet: Arc<Fleet>,
}

impl Operators {
    pub(super) fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet }
    }
}

#[async_trait]
impl FleetService for Operators {
    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        caller::operator(&request)?;
        let nodes = self.fleet.nodes().into_iter().map(node).collect();
        let problems = self.fleet.problems();
        Ok(Response::new(ListNodesResponse {
            nodes,
            source_errors: problems.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn get_node(
        &self,
        request: Request<GetNodeRequest>,
    ) -> Result<Response<GetNodeResponse>, Status> {
        caller::operator(&request)?;
        let name = &request.get_ref().name;
        let found = self.fleet.node(name).ok_or_else(|| {
            Status::not_found(format!(
                "node {name:?} has neither pods, nor a stream here, nor a condition"
            ))
        })?;
        Ok(Response::new(GetNodeResponse {
            node: Some(node(found)),
        }))
    }

    async fn list_pods(
        &self,
        request: Request<ListPodsRequest>,
    ) -> Result<Response<ListPodsResponse>, Status> {
        caller::operator(&request)?;
        let ListPodsRequest {
            node,
            namespace,
            page_size,
            page_token,
        } = request.into_inner();
        let after = match page_token.split_once('/') {
            None if page_token.is_empty() => None,
            None => return Err(Status::invalid_argument("page_token is not one of ours")),
            after => after,
        };
        let limit = match page_size {
            0 => PAGE,
            asked => asked.min(LARGEST_PAGE) as usize,
        };
        let (pods, more) = self.fleet.pods(after, limit, |intent| {
            let on = intent.pod.node.as_deref().unwrap_or_default();
            (node.is_empty() || *node == *on)
                && (namespace.is_empty() || *namespace == *intent.pod.namespace)
        });
        let last = pods.last().filter(|_| more).map(|last| &last.intent.pod);
        let next_page_token = last.map(|pod| format!("{}/{}", pod.namespace, pod.name));
        Ok(Response::new(ListPodsResponse {
            pods: pods.into_iter().map(pod).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }

    async fn get_pod(
        &self,
        request: Request<GetPodRequest>,
    ) -> Result<Response<GetPodResponse>, Status> {
        caller::operator(&request)?;
        let asked = &request.get_ref().pod;
        let found = match asked.split_once('/') {
            Some((namespace, name)) => self.fleet.pod_named(namespace, name),
            None => self.fleet.pod(asked),
        };
        let found = found.ok_or_else(|| {
            Status::not_found(format!(
                "no pod {asked:?} is known; ask by uid, or by namespace/name"
            ))
        })?;
        Ok(Response::new(GetPodResponse {
            pod: Some(pod(found)),
        }))
    }
}

fn node(view: NodeView) -> Node {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut node = Node {
        name: view.name,
        pods: count(view.pods),
        enrolled: count(view.enrolled),
        captured: count(view.captured),
        ..Node::default()
    };
    if let Some(stream) = view.stream {
        node.connected = true;
        node.agent_version = stream.agent_version;
        node.connected_at = Some(wire::timestamp(stream.connected_at));
        node.sent_sequence = stream.sent;
        node.stored_sequence = stream.stored;
        node.last_rejection = stream.last_rejection;
        node.condition = stream.condition;
    } else if let Some(written) = &view.written {
        node.condition = reported(&written.condition);
    }
    node.written = view.written.map(written);
    node
}

// As the agent said it, as far as that can be told from what is written.
fn reported(condition: &Condition) -> Option<NodeCondition> {
    let capture_ready = match condition.status {
        Ternary::True => true,
        Ternary::False => false,
        Ternary::Unknown => return None,
    };
    Some(NodeCondition {
        capture_ready,
        message: condition.message.clone(),
        left: condition.reason == decide::LEFT,
    })
}

fn written(written: Written) -> WrittenCondition {
    let Condition {
        status,
        reason,
        message,
        last_transition,
    } = written.condition;
    WrittenCondition {
        status: status.word().to_owned(),
        reason,
        message,
        last_transition_time: last_transition,
        stream: written.claim.unwrap_or_default(),
    }
}

fn pod(view: PodView) -> Pod {
    Pod {
        node: view
            .intent
            .pod
            .node
            .as_deref()
            .unwrap_or_default()
            .to_owned(),
        intent: Some(wire::pod(&view.intent)),
        status: view.status,
        redirection: view.written.as_deref().unwrap_or_default().to_owned(),
    }
}
