//! The cluster's authority, the certificates of its parts, and kubeconfigs.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

use super::{address, files, options::Family};

/// Issuer of service-account tokens, and the audience they have by default.
pub const TOKEN_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// One authority for everything; files `NAME.crt` and `NAME.key` in `dir`.
#[derive(Debug)]
pub struct Pki {
    pub dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub fn create(dir: &Path, family: Family) -> Self {
        let mut params = named("kubernetes-ca", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let pki = Self {
            dir: dir.into(),
            issuer,
        };
        files::write(&pki.file("ca.crt"), pki.issuer.pem());
        files::write(&pki.file("ca.key"), pki.issuer.key().serialize_pem());
        let tokens = KeyPair::generate().expect("a key for tokens");
        files::write(&pki.file("tokens.key"), tokens.serialize_pem());
        files::write(&pki.file("tokens.pub"), tokens.public_key_pem());
        pki.api_server(family);
        pki.client("admin", "admin", Some("system:masters"));
        pki.client(
            "api-server-to-kubelet",
            "api-server",
            Some("system:masters"),
        );
        for part in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
            pki.client(part, &format!("system:{part}"), None);
        }
        pki
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn api_server(&self, family: Family) {
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let mut addresses: Vec<IpAddr> =
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        addresses.extend(family.pick::<IpAddr>(address::CONTROL4.into(), address::CONTROL6.into()));
        addresses.extend(family.pick::<IpAddr>(address::API4.into(), address::API6.into()));
        let mut params = named("kube-apiserver", &[]);
        params.subject_alt_names = names
            .iter()
            .map(|name| SanType::DnsName((*name).try_into().expect("a name")))
            .chain(addresses.into_iter().map(SanType::IpAddress))
            .collect();
        self.sign("api-server", params, ExtendedKeyUsagePurpose::ServerAuth);
    }

    /// The two certificates of a kubelet: as a client of the API server, which
    /// knows it as the node, and as a server.
    pub fn kubelet(&self, node: &str, addresses: &[IpAddr]) {
        let user = format!("system:node:{node}");
        self.client(&format!("kubelet-{node}"), &user, Some("system:nodes"));
        let mut params = named(&user, &["system:nodes"]);
        let name = SanType::DnsName(node.try_into().expect("a name"));
        params.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
        params.subject_alt_names.push(name);
        let file = format!("kubelet-{node}-server");
        self.sign(&file, params, ExtendedKeyUsagePurpose::ServerAuth);
    }

    /// A client's certificate: its user, and the group it is in.
    pub fn client(&self, file: &str, user: &str, group: Option<&str>) {
        let groups: Vec<&str> = group.into_iter().collect();
        let params = named(user, &groups);
        self.sign(file, params, ExtendedKeyUsagePurpose::ClientAuth);
    }

    fn sign(&self, file: &str, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        files::write(&self.file(&format!("{file}.crt")), certificate.pem());
        files::write(&self.file(&format!("{file}.key")), key.serialize_pem());
    }

    /// Writes `NAME.kubeconfig` for the certificate `client`.
    pub fn kubeconfig(&self, server: &str, name: &str, client: &str) -> PathBuf {
        let path = self.file(&format!("{name}.kubeconfig"));
        files::write_json(&path, &kubeconfig(server, &self.dir, client));
        path
    }
}

/// A kubeconfig that names the files of a certificate in `dir`.
pub fn kubeconfig(server: &str, dir: &Path, client: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "sluice",
        "clusters": [{"name": "sluice", "cluster": {
            "server": server,
            "certificate-authority": dir.join("ca.crt"),
        }}],
        "users": [{"name": client, "user": {
            "client-certificate": dir.join(format!("{client}.crt")),
            "client-key": dir.join(format!("{client}.key")),
        }}],
        "contexts": [{"name": "sluice", "context": {"cluster": "sluice", "user": client}}],
    })
}

fn named(user: &str, groups: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for group in groups {
        params
            .distinguished_name
            .push(DnType::OrganizationName, *group);
    }
    params.distinguished_name.push(DnType::CommonName, user);
    params
}
