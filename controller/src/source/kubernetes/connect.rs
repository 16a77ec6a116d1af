//! The client of the API server.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no client. That the API server is there is not tried.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot use the kubeconfig {path}; correct it, or name another with --kubeconfig")]
    Kubeconfig {
        path: PathBuf,
        source: kube::config::KubeconfigError,
    },
    #[error(
        "this does not seem to be a pod with a service account; \
         run it as one, or name a kubeconfig with --kubeconfig"
    )]
    InCluster(#[from] kube::config::InClusterError),
    #[error("cannot make a client of the API server")]
    Client(#[from] kube::Error),
}

/// A client by this kubeconfig, or, without one, as the pod that this is.
///
/// Tokens and authorities in files are read again by themselves.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    // kube takes the default of the process; the same provider as everywhere.
    // An error only says that there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = match kubeconfig {
        Some(path) => from_file(path)
            .await
            .map_err(|source| ConnectError::Kubeconfig {
                path: path.to_owned(),
                source,
            })?,
        None => Config::incluster()?,
    };
    config.connect_timeout = Some(CONNECT);
    // Tries are ours to count and to space.
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

async fn from_file(path: &Path) -> Result<Config, kube::config::KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
}
