//! The issuer: real tokens, reviewed by a real API server, with the rights that
//! the controller is given and no more.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{ConfigMap, Pod, Secret, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{
    Api, Client, Config, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use rcgen::{CertificateParams, KeyPair};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sluice_controller::{
    fleet::Fleet,
    issuer::{
        self, Options, Place,
        authority::Kept,
        operator::{self, Wish},
    },
    select::Rules,
    serve,
};
use sluice_mtls::{AcceptLimits, Identity, Reload, TlsFiles, connect};
use sluice_proto::{
    controller::v1::{ListNodesRequest, fleet_service_client::FleetServiceClient},
    identity::v1::{IssueNodeCertificateRequest, identity_service_client::IdentityServiceClient},
};
use sluice_tests::apiserver::ApiServer;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status};

use crate::objects::Objects;

const NAMESPACE: &str = "sluice-system";
const AGENT: &str = "sluice-agent";
const AUDIENCE: &str = "sluice-controller";
const PATIENCE: Duration = Duration::from_secs(120);

struct World {
    server: ApiServer,
    admin: Client,
    dir: TempDir,
}

/// A replica of the controller, as far as it issues.
struct Replica {
    address: SocketAddr,
    _stop: DropGuard,
}

async fn make<K>(api: Api<K>, object: Value)
where
    K: Clone + Serialize + DeserializeOwned + std::fmt::Debug + Resource,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

impl World {
    async fn start() -> Self {
        let server = ApiServer::start();
        let kubeconfig = server.kubeconfig();
        let admin = sluice_controller::source::kubernetes::connect(Some(&kubeconfig))
            .await
            .unwrap();
        let objects = Objects::of(&server).await;
        objects.namespace(NAMESPACE).await;
        let world = Self {
            server,
            admin,
            dir: tempfile::tempdir().unwrap(),
        };
        for name in [AGENT, "sluice-controller", "other"] {
            let accounts: Api<ServiceAccount> = world.ours();
            make(accounts, json!({"metadata": {"name": name}})).await;
        }
        world.rights().await;
        world
    }

    fn ours<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.admin.clone(), NAMESPACE)
    }

    /// What the issuer needs, and nothing else.
    async fn rights(&self) {
        let name = json!({"name": "sluice-controller"});
        let subjects = json!([{
            "kind": "ServiceAccount",
            "name": "sluice-controller",
            "namespace": NAMESPACE,
        }]);
        let role = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "sluice-controller"});
        let cluster: Api<ClusterRole> = Api::all(self.admin.clone());
        let rules = json!([{
            "apiGroups": ["authentication.k8s.io"],
            "resources": ["tokenreviews"],
            "verbs": ["create"],
        }]);
        make(cluster, json!({"metadata": name, "rules": rules})).await;
        let bindings: Api<ClusterRoleBinding> = Api::all(self.admin.clone());
        let binding =
            json!({"metadata": name, "roleRef": role("ClusterRole"), "subjects": subjects});
        make(bindings, binding).await;
        let rule = |resource: &str, names: &[&str], verbs: &[&str]| json!({"apiGroups": [""], "resources": [resource], "resourceNames": names, "verbs": verbs});
        let rules = json!([
            rule("secrets", &["sluice-issuer"], &["get"]),
            rule("secrets", &[], &["create"]),
            rule("configmaps", &["sluice-trust"], &["get", "patch"]),
            rule("configmaps", &[], &["create"]),
            rule("pods", &[], &["get"]),
        ]);
        let roles: Api<Role> = self.ours();
        make(roles, json!({"metadata": name, "rules": rules})).await;
        let bindings: Api<RoleBinding> = self.ours();
        let binding = json!({"metadata": name, "roleRef": role("Role"), "subjects": subjects});
        make(bindings, binding).await;
    }

    /// The API server as the controller's service account sees it.
    async fn as_controller(&self) -> Client {
        let mut kubeconfig = Kubeconfig::read_from(self.server.kubeconfig()).unwrap();
        let user = format!("system:serviceaccount:{NAMESPACE}:sluice-controller");
        for named in &mut kubeconfig.auth_infos {
            if let Some(info) = &mut named.auth_info {
                info.impersonate = Some(user.clone());
            }
        }
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options);
        Client::try_from(config.await.unwrap()).unwrap()
    }

    async fn replica(&self, pod_name: &str) -> Replica {
        let stop = CancellationToken::new();
        let options = Options {
            authority: Place::Secret,
            namespace: NAMESPACE.into(),
            pod_name: pod_name.into(),
            agent_service_account: AGENT.into(),
            lifetime: Duration::from_secs(60),
            crl: None,
            trust_domain: "td".into(),
        };
        let started = issuer::start(options, self.as_controller().await, &stop);
        let (service, own) = timeout(PATIENCE, started).await.unwrap().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fleet = Arc::new(Fleet::new(Rules::default(), Duration::from_secs(1)));
        tokio::spawn(serve::serve(
            listener,
            own,
            Some(service),
            AcceptLimits::default(),
            fleet,
            stop.clone(),
        ));
        Replica {
            address,
            _stop: stop.drop_guard(),
        }
    }

    async fn pod(&self, name: &str, node: &str, account: &str) -> String {
        let pods: Api<Pod> = self.ours();
        let pod = json!({
            "metadata": {"name": name},
            "spec": {
                "nodeName": node,
                "serviceAccountName": account,
                "automountServiceAccountToken": false,
                "containers": [{"name": "c", "image": "none"}],
            },
        });
        let pod = serde_json::from_value(pod).unwrap();
        let made = pods.create(&PostParams::default(), &pod).await.unwrap();
        made.metadata.uid.unwrap()
    }

    /// A token as the kubelet gets it, bound to a pod.
    async fn token(&self, account: &str, audience: &str, pod: Option<(&str, &str)>) -> String {
        let bound = pod.map(
            |(name, uid)| json!({"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}),
        );
        let request = json!({
            "metadata": {},
            "spec": {"audiences": [audience], "expirationSeconds": 600, "boundObjectRef": bound},
        });
        let request: TokenRequest = serde_json::from_value(request).unwrap();
        let accounts: Api<ServiceAccount> = self.ours();
        let params = PostParams::default();
        let made = accounts.create_token_request(account, &params, &request);
        made.await.unwrap().status.unwrap().token
    }

    async fn trust(&self) -> String {
        let maps: Api<ConfigMap> = self.ours();
        let map = maps.get("sluice-trust").await.unwrap();
        map.data.unwrap().remove("ca.crt").unwrap()
    }

    /// As mounted into an agent.
    async fn trust_file(&self) -> PathBuf {
        let path = self.dir.path().join("ca.crt");
        fs::write(&path, self.trust().await).unwrap();
        path
    }

    async fn ask(&self, replica: &Replica, token: &str, node: &str) -> Result<Identity, Status> {
        let endpoint = format!("https://{}", replica.address);
        let trust = self.trust_file().await;
        let channel =
            connect::anonymous_channel(&endpoint, trust, "td".into(), connect::any_controller);
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key);
        let request = IssueNodeCertificateRequest {
            signing_request: request.unwrap().der().to_vec(),
            token: token.into(),
            node_name: node.into(),
        };
        let mut client = IdentityServiceClient::new(channel.unwrap());
        let issued = client.issue_node_certificate(request).await?.into_inner();
        Ok(Identity::of_certificate("td", &issued.certificates[0]).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_open_what_they_should_and_nothing_else() {
    let world = World::start().await;
    let replica = world.replica("c-0").await;
    let uid = world.pod("agent-a", "node-a", AGENT).await;
    let bound = Some(("agent-a", uid.as_str()));
    let good = world.token(AGENT, AUDIENCE, bound).await;
    let identity = world.ask(&replica, &good, "node-a").await.unwrap();
    assert_eq!(identity, Identity::Node("node-a".into()));

    let other_uid = world.pod("other-a", "node-a", "other").await;
    let other = Some(("other-a", other_uid.as_str()));
    let b_uid = world.pod("agent-b", "node-b", AGENT).await;
    let on_b = world
        .token(AGENT, AUDIENCE, Some(("agent-b", b_uid.as_str())))
        .await;
    let api_audience = "https://kubernetes.default.svc.cluster.local";
    let mut tampered = good.clone();
    tampered.replace_range(good.len() - 4.., "AAAA");
    let table = [
        ("of node b", on_b.clone(), Code::PermissionDenied),
        (
            "of another account",
            world.token("other", AUDIENCE, other).await,
            Code::PermissionDenied,
        ),
        (
            "bound to nothing",
            world.token(AGENT, AUDIENCE, None).await,
            Code::PermissionDenied,
        ),
        (
            "for another audience",
            world.token(AGENT, "vault", bound).await,
            Code::Unauthenticated,
        ),
        (
            "for the API server",
            world.token(AGENT, api_audience, bound).await,
            Code::Unauthenticated,
        ),
        ("garbage", "garbage".to_owned(), Code::Unauthenticated),
        ("tampered with", tampered, Code::Unauthenticated),
    ];
    for (what, token, code) in table {
        let refused = world.ask(&replica, &token, "node-a").await.unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {refused:?}");
        assert!(
            !refused.message().contains(&token) || token == "garbage",
            "{what}"
        );
    }
    let identity = world.ask(&replica, &on_b, "").await.unwrap();
    assert_eq!(
        identity,
        Identity::Node("node-b".into()),
        "its own it may have"
    );

    goes_with_its_pod(&world, &replica, &good).await;
}

// A pod that is gone takes its token with it, once caches have run out.
async fn goes_with_its_pod(world: &World, replica: &Replica, token: &str) {
    let pods: Api<Pod> = world.ours();
    let now = DeleteParams::default().grace_period(0);
    pods.delete("agent-a", &now).await.unwrap();
    let gone = async {
        loop {
            match world.ask(replica, token, "node-a").await {
                Err(status) if status.code() == Code::Unauthenticated => break,
                _ => sleep(Duration::from_secs(2)).await,
            }
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_have_one_authority_and_it_can_be_replaced() {
    let world = World::start().await;
    let (one, two) = tokio::join!(world.replica("c-0"), world.replica("c-1"));
    let uid = world.pod("agent-a", "node-a", AGENT).await;
    let token = world
        .token(AGENT, AUDIENCE, Some(("agent-a", uid.as_str())))
        .await;
    for replica in [&one, &two] {
        world.ask(replica, &token, "node-a").await.unwrap();
    }
    let before = world.trust().await;
    assert_eq!(before.matches("BEGIN CERTIFICATE").count(), 1);

    // Published first, used afterwards.
    let fresh = Kept::generate("td", std::time::SystemTime::now()).unwrap();
    let fresh_cert = String::from_utf8(fresh.cert.clone()).unwrap();
    let both = format!("{before}{fresh_cert}");
    let fresh_key = String::from_utf8(fresh.key.clone()).unwrap();
    let secrets: Api<Secret> = world.ours();
    let params = PatchParams::default();
    let patch = Patch::Merge(json!({"stringData": {"ca.crt": both}}));
    secrets
        .patch("sluice-issuer", &params, &patch)
        .await
        .unwrap();
    let published = async {
        while world.trust().await != both {
            sleep(Duration::from_millis(500)).await;
        }
    };
    timeout(PATIENCE, published).await.unwrap();
    let patch = Patch::Merge(json!({"stringData": {"ca.key": fresh_key}}));
    secrets
        .patch("sluice-issuer", &params, &patch)
        .await
        .unwrap();
    // The new one alone vouches for the controllers, in the end.
    let only = world.dir.path().join("only.crt");
    fs::write(&only, &fresh_cert).unwrap();
    for replica in [&one, &two] {
        let endpoint = format!("https://{}", replica.address);
        let taken = async {
            loop {
                let channel = connect::anonymous_channel(
                    &endpoint,
                    only.clone(),
                    "td".into(),
                    connect::any_controller,
                );
                let mut client = IdentityServiceClient::new(channel.unwrap());
                let asked = client.issue_node_certificate(IssueNodeCertificateRequest::default());
                if asked.await.unwrap_err().code() == Code::InvalidArgument {
                    break;
                }
                sleep(Duration::from_millis(500)).await;
            }
        };
        timeout(PATIENCE, taken).await.unwrap();
        world.ask(replica, &token, "node-a").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_and_an_operator_are_known_to_the_controller() {
    let world = World::start().await;
    let replica = world.replica("c-0").await;
    let uid = world.pod("agent-a", "node-a", AGENT).await;
    let token = world
        .token(AGENT, AUDIENCE, Some(("agent-a", uid.as_str())))
        .await;
    let token_file = world.dir.path().join("token");
    fs::write(&token_file, token).unwrap();
    let endpoint = format!("https://{}", replica.address);
    let (reload, mut standing) = sluice_agent::identity::start(sluice_agent::identity::Options {
        node_name: "node-a".into(),
        controllers: vec![endpoint.clone()],
        token_file,
        trust: world.trust_file().await,
        crl: None,
        trust_domain: "td".into(),
        state_dir: world.dir.path().to_owned(),
    });
    let issued = standing.wait_for(|standing| standing.not_after.is_some());
    timeout(PATIENCE, issued).await.unwrap().unwrap();
    let of_node = reload.clone();
    let channel = connect::channel(&endpoint, of_node, connect::any_controller).unwrap();
    let refused = FleetServiceClient::new(channel)
        .list_nodes(ListNodesRequest::default())
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(
        refused.code(),
        Code::PermissionDenied,
        "a node is no operator"
    );

    let wish = Wish {
        name: "alice".into(),
        lifetime: Duration::from_secs(60),
        namespace: NAMESPACE.into(),
        authority: Place::Secret,
        trust_domain: "td".into(),
    };
    let made = operator::make(world.as_controller().await, wish)
        .await
        .unwrap();
    let dir = world.dir.path().join("alice");
    fs::create_dir(&dir).unwrap();
    let written = made.write(&dir).unwrap();
    let [cert, key, ca] = &written[..] else {
        panic!("{written:?}");
    };
    let files = TlsFiles {
        cert: cert.clone(),
        key: key.clone(),
        ca: ca.clone(),
        crl: None,
        trust_domain: "td".into(),
    };
    let alice = Reload::start(files, PATIENCE).unwrap();
    let channel = connect::channel(&endpoint, alice, connect::any_controller).unwrap();
    FleetServiceClient::new(channel)
        .list_nodes(ListNodesRequest::default())
        .await
        .unwrap();
}
