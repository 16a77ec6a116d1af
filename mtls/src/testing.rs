//! A certificate authority for tests and demonstrations. Not for anything else:
//! it panics where a product would explain.
#![expect(clippy::expect_used, reason = "tests fail where they stand")]

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{
    certificate::X509Certificate, certification_request::X509CertificationRequest,
    prelude::FromDer as _,
};

use crate::reload::TlsFiles;

/// An authority that lives as long as the value.
#[derive(Debug)]
pub struct TestCa {
    trust_domain: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl TestCa {
    /// A new authority, different from every other.
    pub fn new(trust_domain: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(
            DnType::CommonName,
            format!("test authority of {trust_domain}"),
        );
        let key = KeyPair::generate().expect("a key");
        Self {
            trust_domain: trust_domain.to_owned(),
            issuer: CertifiedIssuer::self_signed(params, key).expect("an authority"),
        }
    }

    /// The authority's own certificate.
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key, both PEM, for both sides of a connection, with
    /// `uri_san` as the only name.
    pub fn issue(&self, uri_san: &str) -> (String, String) {
        self.issue_with(&[uri_san], |_| {})
    }

    /// The same with any number of URI names, and with changes before it is signed.
    pub fn issue_with(
        &self,
        uri_sans: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let mut params = params(uri_sans);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// A certificate (DER) for the key of a signing request (DER), good so long.
    pub fn sign(&self, request: &[u8], uri_san: &str, lifetime: Duration) -> Vec<u8> {
        let (_, parsed) = X509CertificationRequest::from_der(request).expect("a request");
        let key = parsed.certification_request_info.subject_pki.raw;
        let key = SubjectPublicKeyInfo::from_der(key).expect("a key");
        let mut params = params(&[uri_san]);
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + lifetime).into();
        let signed = params.signed_by(&key, &self.issuer);
        signed.expect("a certificate").der().to_vec()
    }

    /// A revocation list with these certificates (PEM) on it, as PEM.
    pub fn revoke(&self, certificates: &[&str]) -> String {
        let now = SystemTime::now();
        let serial = |pem: &&str| {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
            let (_, parsed) = X509Certificate::from_der(&der).expect("a certificate");
            SerialNumber::from_slice(parsed.raw_serial())
        };
        let revoked = |pem| RevokedCertParams {
            serial_number: serial(pem),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + Duration::from_secs(3600)).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: certificates.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = list.signed_by(&self.issuer).expect("a list");
        signed.pem().expect("PEM")
    }

    /// Issues for `uri_san` and writes `<name>.crt`, `<name>.key` and
    /// `<name>-ca.crt` into `dir`, each by rename.
    pub fn write(&self, dir: &Path, name: &str, uri_san: &str) -> TlsFiles {
        let (cert, key) = self.issue(uri_san);
        let files = TlsFiles {
            cert: dir.join(format!("{name}.crt")),
            key: dir.join(format!("{name}.key")),
            ca: dir.join(format!("{name}-ca.crt")),
            crl: None,
            trust_domain: self.trust_domain.clone(),
        };
        put(&files.cert, &cert);
        put(&files.key, &key);
        put(&files.ca, &self.ca_pem());
        files
    }
}

fn params(uri_sans: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uri_sans
        .iter()
        .map(|uri| SanType::URI((*uri).try_into().expect("an ASCII name")))
        .collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    params
}

fn put(path: &Path, contents: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, contents).expect("a writable folder");
    fs::rename(&fresh, path).expect("a writable folder");
}
