//! Judging the other side's certificate inside the handshake, so that a wrong
//! one gets an alert and never a connection.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};

use crate::{
    identity::{Identity, IdentityError},
    reload::TlsError,
};

/// The provider, said explicitly so that no default of the process matters.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Accepts clients whose chain ends in our authorities, that no list revokes,
/// and whose identity is one of ours. What that identity may do is the
/// service's business.
#[derive(Debug)]
pub(crate) struct Clients {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: String,
    has_lists: bool,
    anonymous: bool,
}

impl Clients {
    /// With `anonymous`, clients without a certificate are let in too; a wrong
    /// one is refused all the same.
    pub(crate) fn new(
        roots: &Arc<RootCertStore>,
        lists: &[CertificateRevocationListDer<'static>],
        trust_domain: &str,
        anonymous: bool,
    ) -> Result<Self, TlsError> {
        // A list of one authority says nothing about another's certificates,
        // and an old list is better than none.
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider())
            .with_crls(lists.iter().cloned())
            .allow_unknown_revocation_status()
            .build()
            .map_err(TlsError::Verifier)?;
        Ok(Self {
            chain,
            trust_domain: trust_domain.to_owned(),
            has_lists: !lists.is_empty(),
            anonymous,
        })
    }

    pub(crate) fn has_lists(&self) -> bool {
        self.has_lists
    }

    /// Whether this chain would be accepted, were it a client's.
    pub(crate) fn vouch_for(&self, chain: &[CertificateDer<'_>]) -> bool {
        self.check(chain).is_ok()
    }

    /// Whether a list names a certificate of this chain.
    pub(crate) fn have_revoked(&self, chain: &[CertificateDer<'_>]) -> bool {
        let revoked = Err(Error::InvalidCertificate(CertificateError::Revoked));
        self.check(chain).map(drop) == revoked
    }

    fn check(&self, chain: &[CertificateDer<'_>]) -> Result<ClientCertVerified, Error> {
        let (leaf, intermediates) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        self.chain
            .verify_client_cert(leaf, intermediates, UnixTime::now())
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        !self.anonymous
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        Identity::of_certificate(&self.trust_domain, end_entity).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Accepts a server whose chain ends in our authorities and whose identity is
/// the expected one. Host names are not looked at: a controller is who its
/// certificate says, wherever it was dialled.
#[derive(Debug)]
pub(crate) struct Servers {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    trust_domain: String,
    expect: fn(&Identity) -> bool,
}

/// The chain is fine and the identity is ours, but it is not the one to talk to.
#[derive(Debug, thiserror::Error)]
#[error("the server is {identity}, which is not whom we meant to reach")]
struct Unexpected {
    identity: Identity,
}

impl Servers {
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        trust_domain: &str,
        expect: fn(&Identity) -> bool,
    ) -> Self {
        Self {
            roots,
            algorithms: provider().signature_verification_algorithms,
            trust_domain: trust_domain.to_owned(),
            expect,
        }
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let identity = Identity::of_certificate(&self.trust_domain, end_entity).map_err(refused)?;
        if (self.expect)(&identity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(other(Unexpected { identity }))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn refused(error: IdentityError) -> Error {
    other(error)
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// rustls shows our own reasons in their debug form; this shows them as text.
pub(crate) fn readable(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(reason)))) => {
            io::Error::new(error.kind(), reason.to_string())
        }
        _ => error,
    }
}

fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not offered".to_owned())
}
