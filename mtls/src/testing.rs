//! A certificate authority for tests and demonstrations. Not for anything else:
//! it panics where a product would explain.
#![expect(clippy::expect_used, reason = "tests fail where they stand")]

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
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
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// Issues for `uri_san` and writes `<name>.crt`, `<name>.key` and
    /// `<name>-ca.crt` into `dir`, each by rename.
    pub fn write(&self, dir: &Path, name: &str, uri_san: &str) -> TlsFiles {
        let (cert, key) = self.issue(uri_san);
        let files = TlsFiles {
            cert: dir.join(format!("{name}.crt")),
            key: dir.join(format!("{name}.key")),
            ca: dir.join(format!("{name}-ca.crt")),
            trust_domain: self.trust_domain.clone(),
        };
        put(&files.cert, &cert);
        put(&files.key, &key);
        put(&files.ca, &self.ca_pem());
        files
    }
}

fn put(path: &Path, contents: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, contents).expect("a writable folder");
    fs::rename(&fresh, path).expect("a writable folder");
}
