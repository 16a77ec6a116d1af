//! Someone who calls the tunnel port without being a proxy.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use sluice_tests::stand_in::CaFiles;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(crate) struct Caller(Arc<ClientConfig>);

impl Caller {
    /// With a certificate of `ca` for `uri`.
    pub(crate) fn of(ca: &CaFiles, uri: &str) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap();
        let ca_key = KeyPair::from_pem(&read(&ca.key)).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&read(&ca.cert), ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let key: PrivateKeyDer<'_> = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Self::with(Some((certificate.der().clone(), key)))
    }

    /// Without a certificate.
    pub(crate) fn anonymous() -> Self {
        Self::with(None)
    }

    fn with(leaf: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>) -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone));
        let mut config = match leaf {
            Some((certificate, key)) => builder
                .with_client_auth_cert(vec![certificate], key)
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self(Arc::new(config))
    }

    /// The status of the answer, or why there is none.
    pub(crate) fn request(
        &self,
        to: SocketAddr,
        method: &str,
        authority: &str,
    ) -> Result<u16, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime
            .block_on(self.ask(to, method, authority))
            .map_err(|error| error.to_string())
    }

    async fn ask(&self, to: SocketAddr, method: &str, authority: &str) -> anyhow::Result<u16> {
        let tcp = TcpStream::connect(to).await?;
        let name = ServerName::IpAddress(to.ip().into());
        let tls = TlsConnector::from(Arc::clone(&self.0))
            .connect(name, tcp)
            .await?;
        let (requests, connection) = h2::client::handshake(tls).await?;
        tokio::spawn(connection);
        let uri = match method {
            "CONNECT" => authority.to_owned(),
            _ => format!("https://{authority}/"),
        };
        let request = http::Request::builder().method(method).uri(uri).body(())?;
        let (response, _body) = requests.ready().await?.send_request(request, false)?;
        Ok(response.await?.status().as_u16())
    }
}

/// Trusts whoever answers: these callers are the ones not to be trusted.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
