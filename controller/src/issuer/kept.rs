//! Where the authority is kept: Secret `sluice-issuer`, or files. Whom to
//! believe is published in ConfigMap `sluice-trust`.

use std::{io, path::PathBuf, time::SystemTime};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::fs;
use tracing::info;

use super::authority::{AuthorityError, Kept};

/// The authority itself; whoever can read it can be anybody.
pub const SECRET: &str = "sluice-issuer";
/// Whom agents believe.
pub const TRUST: &str = "sluice-trust";
const CERT: &str = "ca.crt";
const KEY: &str = "ca.key";
const MANAGER: &str = "sluice-controller";

/// Where the authority is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// Secret `sluice-issuer`, made when there is none.
    Secret,
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
}

/// Why the authority cannot be had, or its certificate not published.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error("cannot {doing} {kind} {namespace}/{name}")]
    Api {
        doing: &'static str,
        kind: &'static str,
        namespace: String,
        name: &'static str,
        source: Box<kube::Error>,
    },
    #[error(
        "Secret {namespace}/{SECRET} has no {missing}; put the authority's certificate under \
         {CERT} and its key under {KEY}, or delete the Secret so that a new one is made"
    )]
    Incomplete {
        namespace: String,
        missing: &'static str,
    },
    #[error("cannot read the authority's {what} from {}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot make a new authority")]
    Generate(#[from] AuthorityError),
}

/// The place, and how to get there.
#[derive(Clone)]
pub struct Keeper {
    client: Client,
    namespace: String,
    place: Place,
    trust_domain: String,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("namespace", &self.namespace)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    pub fn new(client: Client, namespace: &str, place: Place, trust_domain: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            place,
            trust_domain: trust_domain.to_owned(),
        }
    }

    /// For errors.
    pub fn place(&self) -> String {
        match &self.place {
            Place::Secret => format!("Secret {}/{SECRET}", self.namespace),
            Place::Files { cert, .. } => cert.display().to_string(),
        }
    }

    /// The authority as it is kept now; a new one if there never was one.
    pub async fn load(&self) -> Result<Kept, KeepError> {
        match &self.place {
            Place::Secret => self.secret().await,
            Place::Files { cert, key } => Ok(Kept {
                cert: file("certificate", cert).await?,
                key: file("private key", key).await?,
            }),
        }
    }

    /// Makes the ConfigMap say whom to believe, unless it does.
    pub async fn publish(&self, bundle: &[u8]) -> Result<(), KeepError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let error = |doing| self.error(doing, "ConfigMap", TRUST);
        let found = maps.get_opt(TRUST).await.map_err(error("read"))?;
        let said = found.and_then(|map| map.data?.remove(CERT));
        let bundle = String::from_utf8_lossy(bundle);
        if said.as_deref() == Some(&*bundle) {
            return Ok(());
        }
        // Applied by its own fields: others may add theirs.
        let wanted = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": TRUST},
            "data": {CERT: bundle},
        });
        let params = PatchParams::apply(MANAGER).force();
        maps.patch(TRUST, &params, &Patch::Apply(&wanted))
            .await
            .map_err(error("write"))?;
        info!(
            namespace = self.namespace,
            "ConfigMap {TRUST} says whom to believe"
        );
        Ok(())
    }

    async fn secret(&self) -> Result<Kept, KeepError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let error = |doing| self.error(doing, "Secret", SECRET);
        if let Some(found) = secrets.get_opt(SECRET).await.map_err(error("read"))? {
            return self.parts(found);
        }
        let fresh = Kept::generate(&self.trust_domain, SystemTime::now())?;
        // Only created, never replaced: of two replicas that start at once, one
        // loses and reads what the other has made.
        let created = secrets
            .create(&PostParams::default(), &secret(&fresh))
            .await;
        match created {
            Ok(_) => {
                info!(place = self.place(), "made a new authority");
                Ok(fresh)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let theirs = secrets.get(SECRET).await.map_err(error("read"))?;
                self.parts(theirs)
            }
            Err(other) => Err(error("create")(other)),
        }
    }

    fn parts(&self, secret: Secret) -> Result<Kept, KeepError> {
        let mut data = secret.data.unwrap_or_default();
        let mut part = |missing| {
            let part = data.remove(missing).map(|ByteString(bytes)| bytes);
            part.ok_or_else(|| KeepError::Incomplete {
                namespace: self.namespace.clone(),
                missing,
            })
        };
        Ok(Kept {
            cert: part(CERT)?,
            key: part(KEY)?,
        })
    }

    fn error(
        &self,
        doing: &'static str,
        kind: &'static str,
        name: &'static str,
    ) -> impl FnOnce(kube::Error) -> KeepError {
        let namespace = self.namespace.clone();
        move |source| KeepError::Api {
            doing,
            kind,
            namespace,
            name,
            source: Box::new(source),
        }
    }
}

fn secret(kept: &Kept) -> Secret {
    let data = [(CERT, &kept.cert), (KEY, &kept.key)];
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(
            data.into_iter()
                .map(|(key, bytes)| (key.to_owned(), ByteString(bytes.clone())))
                .collect(),
        ),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

async fn file(what: &'static str, path: &PathBuf) -> Result<Vec<u8>, KeepError> {
    fs::read(path).await.map_err(|source| KeepError::File {
        what,
        path: path.clone(),
        source,
    })
}
