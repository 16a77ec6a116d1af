//! One loaded set of certificate, key and authorities.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, ServerConfig,
    client::{Resumption, WantsClientCert},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject as _,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::{Held, TlsError, TlsFiles};
use crate::{
    identity::{Identity, IdentityError},
    verify::{Clients, Servers, provider},
};

/// No certificate, key or bundle of authorities is larger.
const LARGEST_FILE: u64 = 1 << 20;

/// The files as they were read, to tell whether they have changed.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
    crl: Vec<u8>,
}

/// A key must not end up in a log.
impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

/// Everything that is made of one reading of the files.
#[derive(Debug)]
pub(crate) struct Material {
    pub(crate) contents: Contents,
    pub(crate) identity: Identity,
    pub(crate) not_after: SystemTime,
    /// Our own authorities vouch for our own certificate.
    pub(crate) vouched: bool,
    pub(crate) clients: Arc<Clients>,
    /// For clients with a certificate only, and for any.
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) open_server: Arc<ServerConfig>,
    pair: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
}

impl Material {
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Self::new(files, read(files, Held::default())?)
    }

    pub(crate) fn new(files: &TlsFiles, contents: Contents) -> Result<Self, TlsError> {
        let chain = certificates("certificate", &files.cert, &contents.cert)?;
        let roots = Arc::new(roots(&files.ca, &contents.ca)?);
        let lists = lists(files, &contents.crl)?;
        let (identity, not_after) = own_identity(files, &chain)?;
        let verifier =
            |anonymous| Clients::new(&roots, &lists, &files.trust_domain, anonymous).map(Arc::new);
        let (clients, any) = (verifier(false)?, verifier(true)?);
        let vouched = clients.vouch_for(&chain);
        let pair = Arc::new(pair(files, chain, &contents.key)?);
        Ok(Self {
            contents,
            identity,
            not_after,
            vouched,
            server: Arc::new(server(&pair, Arc::clone(&clients))?),
            open_server: Arc::new(server(&pair, any)?),
            clients,
            pair,
            roots,
        })
    }

    /// For a client that connects now and expects such a server.
    pub(crate) fn client(
        &self,
        trust_domain: &str,
        expect: fn(&Identity) -> bool,
    ) -> Result<ClientConfig, TlsError> {
        let verifier = Servers::new(Arc::clone(&self.roots), trust_domain, expect);
        let pair = SingleCertAndKey::from(Arc::clone(&self.pair));
        let config = client(verifier)?.with_client_cert_resolver(Arc::new(pair));
        Ok(finished(config))
    }
}

/// For a client that has no certificate yet. The authorities are read now.
pub(crate) fn anonymous_client(
    ca: &Path,
    trust_domain: &str,
    expect: fn(&Identity) -> bool,
) -> Result<ClientConfig, TlsError> {
    let roots = roots(ca, &read_part("the authorities", ca)?)?;
    let verifier = Servers::new(Arc::new(roots), trust_domain, expect);
    Ok(finished(client(verifier)?.with_no_client_auth()))
}

fn client(verifier: Servers) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Controllers are told apart by identity, not by the name dialled.
    config.enable_sni = false;
    config
}

fn server(pair: &Arc<CertifiedKey>, clients: Arc<Clients>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Config)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(pair))));
    // A resumed session restores the client's certificate unchecked.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// What is held, and the files of the rest.
pub(crate) fn read(files: &TlsFiles, held: Held) -> Result<Contents, TlsError> {
    let (cert, key) = match held.pair {
        Some(pair) => pair,
        None => (
            read_part("the certificate", &files.cert)?,
            read_part("the private key", &files.key)?,
        ),
    };
    let ca = match held.authorities {
        Some(authorities) => authorities,
        None => read_part("the authorities", &files.ca)?,
    };
    let crl = files.crl.as_deref();
    let crl = crl.map(|path| read_part("the revocation lists", path));
    Ok(Contents {
        cert,
        key,
        ca,
        crl: crl.transpose()?.unwrap_or_default(),
    })
}

fn read_part(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    read_file(path).map_err(|source| TlsError::Read {
        what,
        path: path.to_owned(),
        source,
    })
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    File::open(path)?
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut contents)?;
    if contents.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {LARGEST_FILE} bytes"),
        ));
    }
    Ok(contents)
}

fn certificates(
    what: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem {
            what,
            path: path.to_owned(),
            source,
        })?;
    if found.is_empty() {
        return Err(TlsError::Empty {
            what,
            path: path.to_owned(),
        });
    }
    Ok(found)
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates("authority", path, pem)? {
        roots.add(authority).map_err(|source| TlsError::Authority {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(roots)
}

/// An empty file is a list that nobody is on: so it can be mounted before
/// anybody has to be revoked.
fn lists(
    files: &TlsFiles,
    pem: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let Some(path) = &files.crl else {
        return Ok(Vec::new());
    };
    let found = CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem {
            what: "revocation list",
            path: path.clone(),
            source,
        })?;
    if found.is_empty() && !pem.trim_ascii().is_empty() {
        return Err(TlsError::Empty {
            what: "revocation list",
            path: path.clone(),
        });
    }
    Ok(found)
}

fn pair(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    key: &[u8],
) -> Result<CertifiedKey, TlsError> {
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Pem {
        what: "private key",
        path: files.key.clone(),
        source,
    })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|source| TlsError::Pair {
        cert: files.cert.clone(),
        key: files.key.clone(),
        source,
    })
}

fn own_identity(
    files: &TlsFiles,
    chain: &[CertificateDer<'_>],
) -> Result<(Identity, SystemTime), TlsError> {
    let wrong = |source| TlsError::Identity {
        path: files.cert.clone(),
        source,
    };
    let leaf = chain.first().map_or(&[][..], |leaf| leaf.as_ref());
    let identity = Identity::of_certificate(&files.trust_domain, leaf).map_err(wrong)?;
    Ok((identity, not_after(leaf).map_err(wrong)?))
}

/// When a DER certificate expires.
pub(crate) fn not_after(der: &[u8]) -> Result<SystemTime, IdentityError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| IdentityError::Certificate {
            reason: error.to_string(),
        })?;
    // Before 1970 is as expired as 1970.
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
