//! Callers of the controller that are made by hand: with a token of whoever's, over
//! TLS as agents do it, and with the certificate that comes of it.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use rcgen::{CertificateParams, KeyPair, SanType};
use sluice_mtls::{Held, Identity, Reload, TlsFiles, connect};
use sluice_proto::{
    capture::v1::{
        StreamCaptureStateRequest, StreamCaptureStateResponse,
        capture_discovery_service_client::CaptureDiscoveryServiceClient,
    },
    identity::v1::{IssueNodeCertificateRequest, identity_service_client::IdentityServiceClient},
};
use tonic::{Status, Streaming, transport::Channel};

use crate::lab::rpc;

use super::{Cluster, Node, files, sluice};

/// What agents' tokens are for.
pub const AUDIENCE: &str = "sluice-controller";
pub const TRUST_DOMAIN: &str = "cluster.local";
const PORT: u16 = 15010;
const NEVER: Duration = Duration::from_secs(3600);

/// What is presented for a certificate.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    pub token: String,
    /// What the caller says its node is.
    pub node_name: String,
    /// A name that it asks to have in its certificate.
    pub name: Option<String>,
}

/// Where a controller is called from, and which.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    node: &'a Node,
    at: SocketAddr,
    trust: PathBuf,
}

/// A certificate that was issued, with its key, PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    pub identity: Identity,
    held: Held,
    trust: PathBuf,
}

impl Cluster {
    /// A token of a service account, for an audience; of one of its pods, or of none.
    pub fn token(
        &self,
        namespace: &str,
        account: &str,
        audience: &str,
        pod: Option<&str>,
    ) -> String {
        let audience = format!("--audience={audience}");
        let mut args = vec!["create", "token", "-n", namespace, account, &audience];
        let bound;
        if let Some(pod) = pod {
            let uid = self.get(&["-n", namespace, "pod", pod])["metadata"]["uid"].clone();
            bound = [
                "--bound-object-kind=Pod".to_owned(),
                format!("--bound-object-name={pod}"),
                format!("--bound-object-uid={}", uid.as_str().unwrap_or_default()),
            ];
            args.extend(bound.iter().map(String::as_str));
        }
        self.kubectl(&args).trim().to_owned()
    }

    /// Calls from a node, to whichever replica the Service chooses.
    pub fn caller(&self, node: &str) -> Caller<'_> {
        let service = self.service_ips(sluice::NAMESPACE, sluice::CONTROLLER)[0];
        self.caller_of(node, service)
    }

    /// Calls from a node to one replica.
    pub fn caller_of(&self, node: &str, replica: IpAddr) -> Caller<'_> {
        let map = self.get(&["-n", sluice::NAMESPACE, "configmap", "sluice-trust"]);
        let trust = self.dir().join("sluice-trust.crt");
        files::write(&trust, map["data"]["ca.crt"].as_str().unwrap_or_default());
        Caller {
            node: self.node(node),
            at: SocketAddr::new(replica, PORT),
            trust,
        }
    }
}

impl Caller<'_> {
    /// Asks for a certificate.
    pub fn issue(&self, claim: Claim) -> Result<Issued, Status> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        let names = claim.name.as_deref().into_iter();
        params.subject_alt_names = names
            .map(|name| SanType::URI(name.try_into().expect("a name")))
            .collect();
        let request = params.serialize_request(&key).expect("a signing request");
        let request = IssueNodeCertificateRequest {
            signing_request: request.der().to_vec(),
            token: claim.token,
            node_name: claim.node_name,
        };
        let answer = rpc::inside(&self.node.netns, async {
            let channel = connect::anonymous_channel(
                &format!("https://{}", self.at),
                self.trust.clone(),
                TRUST_DOMAIN.into(),
                connect::any_controller,
            );
            let mut client = IdentityServiceClient::new(channel.expect("a channel"));
            client.issue_node_certificate(request).await
        })?;
        let certificates = answer.into_inner().certificates;
        let identity = Identity::of_certificate(TRUST_DOMAIN, &certificates[0]);
        let chain: String = certificates.iter().map(|der| pem(der)).collect();
        Ok(Issued {
            identity: identity.expect("a certificate with a name"),
            held: Held {
                pair: Some((chain.into_bytes(), key.serialize_pem().into_bytes())),
                authorities: None,
            },
            trust: self.trust.clone(),
        })
    }

    /// Calls with a certificate, to the end of what is done, within the time that
    /// a call may take.
    pub fn call<T: Send, F: Future<Output = T> + Send>(
        &self,
        issued: &Issued,
        work: impl FnOnce(Channel) -> F + Send,
    ) -> T {
        let channel = || issued.channel(self.at);
        rpc::inside(&self.node.netns, async { work(channel()).await })
    }

    /// Address and network of the calls, for threads that outlive this.
    pub fn at(&self) -> SocketAddr {
        self.at
    }
}

impl Issued {
    /// A channel over mutual TLS. Called on a runtime.
    pub fn channel(&self, at: SocketAddr) -> Channel {
        let files = TlsFiles {
            cert: "held".into(),
            key: "held".into(),
            ca: self.trust.clone(),
            crl: None,
            trust_domain: TRUST_DOMAIN.into(),
        };
        let reload: Arc<Reload> = Reload::start_held(files, NEVER);
        reload
            .hold(self.held.clone())
            .expect("a usable certificate");
        connect::channel(&format!("https://{at}"), reload, connect::any_controller)
            .expect("a channel")
    }
}

/// Opens an agent's stream with these messages, and stays when they are over.
pub async fn open(
    channel: Channel,
    messages: impl Stream<Item = StreamCaptureStateRequest> + Send + 'static,
) -> Result<Streaming<StreamCaptureStateResponse>, Status> {
    let messages = messages.chain(futures_util::stream::pending());
    let mut client = CaptureDiscoveryServiceClient::new(channel);
    Ok(client.stream_capture_state(messages).await?.into_inner())
}

fn pem(der: &[u8]) -> String {
    // The one base64 that is here already.
    let text = serde_json::to_value(k8s_openapi::ByteString(der.to_vec()));
    let text = text.expect("bytes").as_str().unwrap_or_default().to_owned();
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}
