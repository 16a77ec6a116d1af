//! Identities: `spiffe://<trust domain>/{node,operator,controller}/<name>`.

use std::fmt;

use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// Who a certificate speaks for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Identity {
    /// An agent, by the name of its node.
    Node(String),
    /// A person or tool that reads.
    Operator(String),
    /// A controller replica.
    Controller(String),
}

/// Why a certificate names nobody we know.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are no X.509 certificate.
    #[error("the certificate does not parse: {reason}")]
    Certificate { reason: String },
    /// Without a URI there is no identity, with two it is ambiguous.
    #[error(
        "the certificate has {count} URI names; it must have exactly one, \
         spiffe://{trust_domain}/{{node,operator,controller}}/<name>"
    )]
    UriCount { count: usize, trust_domain: String },
    /// Not `spiffe://`, or without a path.
    #[error("{uri:?} is not of the form spiffe://<trust domain>/<kind>/<name>")]
    Form { uri: String },
    /// Signed by our authority for somebody else's mesh.
    #[error("{uri:?} is not in trust domain {trust_domain:?}")]
    TrustDomain { uri: String, trust_domain: String },
    /// Neither node, operator nor controller.
    #[error("{uri:?} is of unknown kind {kind:?}; known are node, operator and controller")]
    Kind { uri: String, kind: String },
    /// Names are DNS-1123 subdomains of at most 253 bytes.
    #[error("{uri:?} has the name {name:?}, which is not a lower-case DNS name")]
    Name { uri: String, name: String },
}

impl Identity {
    /// The identity that `uri` spells in `trust_domain`, or what is wrong with it.
    pub fn parse(trust_domain: &str, uri: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Form { uri: shown(uri) };
        let rest = uri.strip_prefix("spiffe://").ok_or_else(form)?;
        let (domain, path) = rest.split_once('/').ok_or_else(form)?;
        if domain != trust_domain {
            return Err(IdentityError::TrustDomain {
                uri: shown(uri),
                trust_domain: trust_domain.to_owned(),
            });
        }
        let (kind, name) = path.split_once('/').ok_or_else(form)?;
        let made = match kind {
            "node" => Self::Node,
            "operator" => Self::Operator,
            "controller" => Self::Controller,
            _ => {
                return Err(IdentityError::Kind {
                    uri: shown(uri),
                    kind: shown(kind),
                });
            }
        };
        if !is_dns_subdomain(name) {
            return Err(IdentityError::Name {
                uri: shown(uri),
                name: shown(name),
            });
        }
        Ok(made(name.to_owned()))
    }

    /// The identity in the only URI name of a DER certificate.
    pub fn of_certificate(trust_domain: &str, der: &[u8]) -> Result<Self, IdentityError> {
        let malformed = |reason: String| IdentityError::Certificate { reason };
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| malformed(error.to_string()))?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        match uris[..] {
            [uri] => Self::parse(trust_domain, uri),
            _ => Err(IdentityError::UriCount {
                count: uris.len(),
                trust_domain: trust_domain.to_owned(),
            }),
        }
    }

    /// `node`, `operator` or `controller`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Operator(_) => "operator",
            Self::Controller(_) => "controller",
        }
    }

    /// The name without kind and trust domain.
    pub fn name(&self) -> &str {
        match self {
            Self::Node(name) | Self::Operator(name) | Self::Controller(name) => name,
        }
    }

    /// The identity as it stands in a certificate.
    pub fn uri(&self, trust_domain: &str) -> String {
        format!("spiffe://{trust_domain}/{}/{}", self.kind(), self.name())
    }
}

/// `node/<name>`, as logs and reports show it.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind(), self.name())
    }
}

/// RFC 1123 as Kubernetes reads it: what a node may be called.
fn is_dns_subdomain(name: &str) -> bool {
    let is_label = |label: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        bytes.len() <= 63
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// As much of a hostile text as belongs into an error.
fn shown(text: &str) -> String {
    const MOST: usize = 300;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
