//! The command.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Node, Pod},
};
use kube::{
    Api as Objects, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{AGENTS, ASKED, DEPLOYMENT, FINISHED, MARKER};
use crate::{
    config::UninstallArgs,
    select::REDIRECTION,
    source::kubernetes,
    writeback::{
        ANNOTATION_ENABLED, Api as _, ApiError, Board, FIELD_MANAGER, KubeApi, PodRef, SeenNode,
        decide, follow_nodes, now,
    },
};

/// Requests at the same time.
const CONCURRENT: usize = 8;
/// Pods per page.
const PAGE: u32 = 500;

/// Why it did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    #[error("cannot reach the API server")]
    Connect(#[from] kubernetes::ConnectError),
    #[error("cannot {what}")]
    Request {
        what: String,
        source: Box<kube::Error>,
    },
    #[error("cannot take away what is written")]
    Write(#[from] ApiError),
    #[error(
        "the nodes could not be listed within --timeout; nothing was changed but that the nodes \
         are asked to leave; run it again, or with --cancel"
    )]
    NoNodes,
    #[error(
        "every node has left, but the condition of these comes back: {}; run this again",
        .0.join(", ")
    )]
    NotCleaned(Vec<String>),
    #[error(
        "not every node has left: {}. Pods there may still be captured. Look at their sluice-agent \
         pods and run this again; or remove nodes that are gone for good (kubectl delete node); \
         or withdraw it with --cancel",
        .0.join(", ")
    )]
    NotLeft(Vec<String>),
}

/// Asks, waits, and cleans up; or withdraws.
pub async fn run(args: UninstallArgs) -> Result<(), UninstallError> {
    let client = kubernetes::connect(args.kubeconfig.as_deref()).await?;
    let markers: Objects<ConfigMap> = Objects::namespaced(client.clone(), &args.namespace);
    if args.cancel {
        return cancel(&markers).await;
    }
    let until = Instant::now() + args.timeout;
    ask(&client, &markers, &args.namespace).await?;
    println!(
        "asked every node to leave; waiting at most {:?}",
        args.timeout
    );
    let stop = CancellationToken::new();
    let _stopping = stop.clone().drop_guard();
    let board = Arc::new(Board::new("uninstall"));
    tokio::spawn(follow_nodes(
        client.clone(),
        Arc::clone(&board),
        String::new(),
        stop,
    ));
    let agents = agents(&client, &args.namespace).await?;
    wait(&board, &agents, until).await?;
    finish(&markers).await?;
    clean_pods(&client).await?;
    clean_nodes(
        &client,
        &board,
        until.max(Instant::now() + Duration::from_secs(10)),
    )
    .await?;
    println!("every node has left; what is left of Sluice can be deleted");
    Ok(())
}

pub(super) fn is_finished(marker: &ConfigMap) -> bool {
    let data = marker.data.as_ref();
    data.is_some_and(|data| data.contains_key(FINISHED))
}

fn failed(what: impl Into<String>) -> impl FnOnce(kube::Error) -> UninstallError {
    |source| UninstallError::Request {
        what: what.into(),
        source: Box::new(source),
    }
}

async fn cancel(markers: &Objects<ConfigMap>) -> Result<(), UninstallError> {
    let marker = markers.get_opt(MARKER).await;
    let marker = marker.map_err(failed(format!("read ConfigMap {MARKER}")))?;
    if marker.is_some_and(|marker| is_finished(&marker)) {
        // A finished one that is only deleted goes with the installation.
        write_marker(markers, json!({}), json!({ (ASKED): now() })).await?;
    }
    match markers.delete(MARKER, &DeleteParams::default()).await {
        Ok(_) => println!("withdrawn: the nodes join again"),
        Err(kube::Error::Api(status)) if status.code == 404 => println!("it was not asked for"),
        Err(error) => return Err(failed(format!("delete ConfigMap {MARKER}"))(error)),
    }
    Ok(())
}

async fn ask(
    client: &Client,
    markers: &Objects<ConfigMap>,
    namespace: &str,
) -> Result<(), UninstallError> {
    let deployments: Objects<Deployment> = Objects::namespaced(client.clone(), namespace);
    let owner = deployments.get_opt(DEPLOYMENT).await;
    let owner = owner.map_err(failed(format!("read Deployment {DEPLOYMENT}")))?;
    if owner.is_none() {
        println!(
            "there is no Deployment {DEPLOYMENT} in {namespace}: delete ConfigMap {MARKER} \
             yourself before Sluice is installed again"
        );
    }
    let owners: Vec<Value> = owner
        .iter()
        .map(|owner| {
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": DEPLOYMENT,
                    "uid": owner.uid() })
        })
        .collect();
    write_marker(
        markers,
        json!({ "ownerReferences": owners }),
        json!({ (ASKED): now() }),
    )
    .await
}

async fn finish(markers: &Objects<ConfigMap>) -> Result<(), UninstallError> {
    let marker = markers.get(MARKER).await;
    let marker = marker.map_err(failed(format!(
        "read ConfigMap {MARKER}; was it withdrawn?"
    )))?;
    let asked = marker.data.and_then(|mut data| data.remove(ASKED));
    write_marker(
        markers,
        json!({ "ownerReferences": marker.metadata.owner_references }),
        json!({ (ASKED): asked, (FINISHED): now() }),
    )
    .await
}

async fn write_marker(
    markers: &Objects<ConfigMap>,
    mut metadata: Value,
    data: Value,
) -> Result<(), UninstallError> {
    metadata["name"] = MARKER.into();
    let marker = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = markers.patch(MARKER, &params, &Patch::Apply(marker)).await;
    written.map_err(failed(format!("write ConfigMap {MARKER}")))?;
    Ok(())
}

// Nodes on which an agent runs, whether it has ever been heard of or not.
async fn agents(client: &Client, namespace: &str) -> Result<BTreeSet<String>, UninstallError> {
    let pods: Objects<Pod> = Objects::namespaced(client.clone(), namespace);
    let pods = pods.list(&ListParams::default().labels(AGENTS)).await;
    let pods = pods.map_err(failed("list the agents"))?;
    let nodes = pods.into_iter().filter_map(|pod| pod.spec?.node_name);
    Ok(nodes.collect())
}

/// What a node says.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Said {
    Left,
    Not(String),
}

fn said(node: Option<&SeenNode>) -> Said {
    let condition = node.and_then(|node| node.condition.as_ref());
    match condition {
        Some(condition) if condition.reason == decide::LEFT => Said::Left,
        Some(condition) => Said::Not(format!("{}: {}", condition.reason, condition.message)),
        None => Said::Not("nothing has been heard of it".to_owned()),
    }
}

// By node; those that never had to do with us are not among them.
fn survey(board: &Board, agents: &BTreeSet<String>) -> BTreeMap<String, Said> {
    let seen = board.node_names().into_iter().filter_map(|name| {
        let node = board.node(&name)?;
        let ours = node.condition.is_some() || node.claim.is_some() || agents.contains(&*name);
        ours.then(|| (name.to_string(), said(Some(&node))))
    });
    seen.collect()
}

async fn wait(
    board: &Board,
    agents: &BTreeSet<String>,
    until: Instant,
) -> Result<(), UninstallError> {
    let mut told = BTreeSet::new();
    loop {
        board.take_marks();
        let nodes = survey(board, agents);
        for (name, said) in &nodes {
            if *said == Said::Left && told.insert(name.clone()) {
                println!("{name}: has left");
            }
        }
        let all = nodes.values().all(|said| *said == Said::Left);
        if board.nodes_in_sync() && all {
            return Ok(());
        }
        if timeout_at(until, board.marked()).await.is_err() {
            if !board.nodes_in_sync() {
                return Err(UninstallError::NoNodes);
            }
            let late = nodes.into_iter().filter_map(|(name, said)| match said {
                Said::Left => None,
                Said::Not(why) => {
                    println!("{name}: has not left: {why}");
                    Some(name)
                }
            });
            return Err(UninstallError::NotLeft(late.collect()));
        }
    }
}

// Annotations of pods that have been let go of, but could not be written.
async fn clean_pods(client: &Client) -> Result<(), UninstallError> {
    let api = KubeApi::new(client.clone(), "", "uninstall");
    let pods: Objects<Pod> = Objects::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = pods.list_metadata(&page).await;
        let listed = listed.map_err(failed("list the pods"))?;
        let next = listed.metadata.continue_.clone();
        let ours = listed.into_iter().filter_map(|pod| {
            let value = pod.annotations().get(REDIRECTION)?;
            (value == ANNOTATION_ENABLED).then(|| PodRef {
                namespace: pod.namespace().unwrap_or_default(),
                name: pod.name_any(),
                uid: pod.uid().unwrap_or_default(),
            })
        });
        let ours: Vec<PodRef> = ours.collect();
        stream::iter(ours)
            .map(|pod| remove(&api, pod))
            .buffer_unordered(CONCURRENT)
            .try_collect::<()>()
            .await?;
        match next.filter(|next| !next.is_empty()) {
            Some(next) => page.continue_token = Some(next),
            None => return Ok(()),
        }
    }
}

async fn remove(api: &KubeApi, pod: PodRef) -> Result<(), ApiError> {
    match api.remove_own_annotation(&pod, None).await {
        Ok(_) | Err(ApiError::Gone { .. } | ApiError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

// Until no condition is left: a replica that does not know yet that it is over
// may write one once more.
async fn clean_nodes(client: &Client, board: &Board, until: Instant) -> Result<(), UninstallError> {
    let nodes: Objects<Node> = Objects::all(client.clone());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    loop {
        board.take_marks();
        let ours = board.node_names().into_iter().filter(|name| {
            let node = board.node(name);
            node.is_some_and(|node| node.condition.is_some() || node.claim.is_some())
        });
        let ours: Vec<_> = ours.collect();
        if ours.is_empty() {
            return Ok(());
        }
        for name in &ours {
            let empty =
                json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": &**name } });
            let cleaned = nodes
                .patch_status(name, &params, &Patch::Apply(empty))
                .await;
            match cleaned {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(failed(format!("clean node {name}"))(error)),
            }
        }
        // The watch says when it is seen to be gone.
        if timeout_at(until, board.marked()).await.is_err() {
            return Err(UninstallError::NotCleaned(
                ours.iter().map(ToString::to_string).collect(),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Board, Said, survey};
    use crate::writeback::{Condition, SeenNode, Ternary};

    fn node(reason: Option<&str>, revision: u64) -> SeenNode {
        SeenNode {
            uid: "u".into(),
            revision,
            condition: reason.map(|reason| Condition {
                status: Ternary::False,
                reason: reason.into(),
                message: "m".into(),
                last_transition: String::new(),
            }),
            ..SeenNode::default()
        }
    }

    #[test]
    fn every_node_that_had_to_do_with_us_is_waited_for() {
        let board = Board::new("x");
        board.see_node("left", node(Some("Left"), 1));
        board.see_node("not", node(Some("CannotCapture"), 1));
        board.see_node("silent", node(None, 1));
        board.see_node("never", node(None, 1));
        let agents = ["silent".to_owned(), "left".to_owned()].into();
        let said = survey(&board, &agents);
        let names: Vec<_> = said.keys().map(String::as_str).collect();
        assert_eq!(names, ["left", "not", "silent"]);
        assert_eq!(said["left"], Said::Left);
        assert_eq!(said["not"], Said::Not("CannotCapture: m".into()));
    }
}
