//! The certificates of workloads: issued when first needed by the mesh's CA,
//! which every proxy of a test shares (what istiod would be).

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use super::{identity::WorkloadIdentity, verify::ExpectServer};

const ALPN: &[u8] = b"h2";

/// The CA's files.
#[derive(Clone, Debug)]
pub struct CaFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum CertError {
    #[error("failed to read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} is not a PEM certificate")]
    Certificate {
        path: PathBuf,
        source: rustls_pki_types::pem::Error,
    },
    #[error("the mesh's CA is not usable")]
    Ca(#[source] rcgen::Error),
    #[error("failed to issue a certificate for {identity}")]
    Issue {
        identity: WorkloadIdentity,
        source: rcgen::Error,
    },
    #[error("the TLS library refused the configuration")]
    Tls(#[from] rustls::Error),
    #[error("the TLS library refused the mesh's CA")]
    Verifier(#[from] VerifierBuilderError),
}

impl CaFiles {
    /// Makes a CA and writes it into `directory`.
    pub fn create(directory: &Path) -> Result<Self, CertError> {
        let key = KeyPair::generate().map_err(CertError::Ca)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("Sluice test mesh");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let cert = params.self_signed(&key).map_err(CertError::Ca)?;
        let files = Self {
            cert: directory.join("mesh-ca.pem"),
            key: directory.join("mesh-ca-key.pem"),
        };
        write(&files.cert, &cert.pem())?;
        write(&files.key, &key.serialize_pem())?;
        Ok(files)
    }
}

/// Issues and remembers.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    servers: Mutex<HashMap<WorkloadIdentity, Arc<ServerConfig>>>,
    clients: Mutex<HashMap<(WorkloadIdentity, WorkloadIdentity), Arc<ClientConfig>>>,
}

type Leaf = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    pub(super) fn load(files: &CaFiles) -> Result<Self, CertError> {
        let pem = read(&files.cert)?;
        let key = KeyPair::from_pem(&read(&files.key)?).map_err(CertError::Ca)?;
        let root = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|source| {
            let path = files.cert.clone();
            CertError::Certificate { path, source }
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(root)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(&pem, key).map_err(CertError::Ca)?,
            roots: Arc::new(roots),
            provider: Arc::new(aws_lc_rs::default_provider()),
            servers: Mutex::default(),
            clients: Mutex::default(),
        })
    }

    /// For the workload `identity` to be called.
    pub(super) fn server(
        &self,
        identity: &WorkloadIdentity,
    ) -> Result<Arc<ServerConfig>, CertError> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = servers.get(identity) {
            return Ok(Arc::clone(config));
        }
        let (chain, key) = self.issue(identity)?;
        let clients = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::clone(&self.provider),
        );
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(clients.build()?)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        let config = Arc::new(config);
        servers.insert(identity.clone(), Arc::clone(&config));
        Ok(config)
    }

    /// For `identity` to call `server`, and nobody else.
    pub(super) fn client(
        &self,
        identity: &WorkloadIdentity,
        server: &WorkloadIdentity,
    ) -> Result<Arc<ClientConfig>, CertError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = (identity.clone(), server.clone());
        if let Some(config) = clients.get(&pair) {
            return Ok(Arc::clone(config));
        }
        let (chain, key) = self.issue(identity)?;
        let expect = ExpectServer::new(
            server.clone(),
            Arc::clone(&self.roots),
            Arc::clone(&self.provider),
        );
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(expect))
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        // SPIFFE names are not DNS names.
        config.enable_sni = false;
        let config = Arc::new(config);
        clients.insert(pair, Arc::clone(&config));
        Ok(config)
    }

    fn issue(&self, identity: &WorkloadIdentity) -> Result<Leaf, CertError> {
        let failed = |source| CertError::Issue {
            identity: identity.clone(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let uri = identity.to_string().try_into().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("workload");
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((vec![cert.der().clone()], key.into()))
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn read(path: &Path) -> Result<String, CertError> {
    fs::read_to_string(path).map_err(|source| CertError::Read {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, text: &str) -> Result<(), CertError> {
    fs::write(path, text).map_err(|source| CertError::Write {
        path: path.to_owned(),
        source,
    })
}
