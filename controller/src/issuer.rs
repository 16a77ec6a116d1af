//! The controller as the authority of its cluster.
//!
//! An agent shows a token of its pod, made for us ([`admit::AUDIENCE`]); the
//! API server says whose it is ([`review`]); the node that the pod runs on is
//! the one in the certificate ([`service`]). What the agent says about itself
//! does not count. [`authority`] signs, [`kept`] is where it comes from, and
//! the controller's own certificate is made and renewed here, in memory.

pub mod admit;
pub mod authority;
mod cache;
pub mod kept;
mod limits;
pub mod operator;
pub mod request;
pub mod review;
pub mod service;
mod signer;

use std::{path::PathBuf, sync::Arc, time::Duration};

use kube::Client;
use sluice_mtls::{Reload, TlsFiles};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use admit::Rules;
use kept::Keeper;
pub use kept::Place;
use review::ApiServer;
use service::Service;
pub use signer::{SignError, Signer};

/// The authority and the lists are looked at this often.
const POLL: Duration = Duration::from_secs(10);
/// Between tries of an API server that does not answer.
const PAUSE: Duration = Duration::from_secs(2);

/// What the issuer is to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    pub authority: Place,
    /// Of this pod and of the agents.
    pub namespace: String,
    /// The name in the controller's own certificate.
    pub pod_name: String,
    pub agent_service_account: String,
    /// Of nodes' certificates and of the controller's own.
    pub lifetime: Duration,
    pub crl: Option<PathBuf>,
    pub trust_domain: String,
}

/// Waits until the authority can be had, and keeps up with it until `stop`;
/// nothing when that comes first. The set is the controller's own.
pub async fn start(
    options: Options,
    client: Client,
    stop: &CancellationToken,
) -> Option<(Service, Arc<Reload>)> {
    let Options {
        authority,
        namespace,
        pod_name,
        agent_service_account,
        lifetime,
        crl,
        trust_domain,
    } = options;
    let keeper = Keeper::new(client.clone(), &namespace, authority, &trust_domain);
    let reload = Reload::start_held(
        TlsFiles {
            cert: keeper.place().into(),
            key: keeper.place().into(),
            ca: keeper.place().into(),
            crl,
            trust_domain: trust_domain.clone(),
        },
        POLL,
    );
    let signer = Arc::new(Signer::new(
        trust_domain,
        pod_name,
        lifetime,
        Arc::clone(&reload),
    ));
    while !look(&keeper, &signer).await {
        stop.run_until_cancelled(sleep(PAUSE)).await?;
    }
    info!(place = keeper.place(), "certificates are issued");
    let following = Arc::clone(&signer);
    let until = stop.clone();
    tokio::spawn(async move {
        // The controller's own certificate may live a few seconds only.
        while until
            .run_until_cancelled(sleep(following.pause(POLL)))
            .await
            .is_some()
        {
            look(&keeper, &following).await;
        }
    });
    let rules = Rules {
        namespace: namespace.clone(),
        service_account: agent_service_account,
    };
    let reviewer = ApiServer::new(client, &namespace);
    Some((Service::new(signer, rules, reviewer), reload))
}

/// Takes a new authority over, renews our own certificate, publishes whom to
/// believe. True if there is an authority to sign with.
async fn look(keeper: &Keeper, signer: &Signer) -> bool {
    let seen = match keeper.load().await {
        Ok(kept) => signer.take(kept, &keeper.place()),
        Err(error) => {
            warn!(
                error = &error as &dyn std::error::Error,
                "the issuer's authority cannot be read"
            );
            signer.renew()
        }
    };
    if let Err(error) = seen {
        warn!(
            error = &error as &dyn std::error::Error,
            "the issuer's authority cannot be used"
        );
    }
    let Some(bundle) = signer.bundle() else {
        return false;
    };
    if let Err(error) = keeper.publish(&bundle).await {
        warn!(
            error = &error as &dyn std::error::Error,
            "agents are not told whom to believe"
        );
    }
    true
}
