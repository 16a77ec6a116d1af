//! One request for a certificate.

use std::{fmt::Write as _, io, path::PathBuf, sync::Arc, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use sluice_mtls::{Identity, IdentityError, Reload, TlsError, connect, connect::ConnectError};
use sluice_proto::identity::v1::{
    IssueNodeCertificateRequest, identity_service_client::IdentityServiceClient,
};
use tokio::{fs, time::timeout};
use tonic::{Code, Status, transport::Channel};

use super::Options;
use crate::error::chain;

/// A controller that does not answer is given up after this.
const ANSWER: Duration = Duration::from_secs(15);
/// Certificates and authorities are small.
const LARGEST: usize = 1 << 20;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("no controller is configured")]
    Nobody,
    #[error("cannot read the token {} (--token-file)", path.display())]
    Token { path: PathBuf, source: io::Error },
    #[error("cannot make a key and a signing request")]
    Key(#[from] rcgen::Error),
    #[error("cannot ask {endpoint}")]
    Endpoint {
        endpoint: String,
        source: ConnectError,
    },
    #[error("{endpoint} gave no certificate, {code:?}: {message}")]
    Refused {
        endpoint: String,
        code: Code,
        message: String,
    },
    #[error("{endpoint} has not answered within {ANSWER:?}")]
    Slow { endpoint: String },
    #[error("{endpoint} answered without a certificate")]
    Empty { endpoint: String },
    #[error("the certificate from {endpoint} names nobody we know")]
    Name {
        endpoint: String,
        source: IdentityError,
    },
    #[error(
        "this pod runs on {found} by its token, and --node-name is {wanted}; set --node-name from \
         spec.nodeName"
    )]
    Another { found: Identity, wanted: String },
    #[error("the certificate that was issued cannot be used")]
    Unusable(#[source] Arc<TlsError>),
}

impl AskError {
    /// For the metric.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Token { .. } | Self::Key(_) => "no_token",
            Self::Refused {
                code: Code::Unavailable | Code::ResourceExhausted | Code::Unknown,
                ..
            }
            | Self::Nobody
            | Self::Endpoint { .. }
            | Self::Slow { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::Empty { .. } | Self::Name { .. } | Self::Another { .. } | Self::Unusable(_) => {
                "unusable"
            }
        }
    }
}

/// A new key and its certificate, PEM, from this controller; over a connection
/// with the certificate in use, if there is one.
pub(super) async fn ask(
    options: &Options,
    endpoint: &str,
    known: Option<&Arc<Reload>>,
) -> Result<Vec<u8>, AskError> {
    let path = &options.token_file;
    let token = fs::read_to_string(path).await;
    let token = token.map_err(|source| AskError::Token {
        path: path.clone(),
        source,
    })?;
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let request = IssueNodeCertificateRequest {
        signing_request: request.der().to_vec(),
        token: token.trim().to_owned(),
        node_name: options.node_name.clone(),
    };
    let channel = channel(options, endpoint, known)?;
    let mut client = IdentityServiceClient::new(channel).max_decoding_message_size(LARGEST);
    let answer = timeout(ANSWER, client.issue_node_certificate(request)).await;
    let answer = answer.map_err(|_| AskError::Slow {
        endpoint: endpoint.to_owned(),
    })?;
    let issued = answer.map_err(|status| refused(endpoint, &status))?;
    let certificates = issued.into_inner().certificates;
    check(options, endpoint, certificates.first())?;
    Ok(pem(&certificates, &key))
}

fn channel(
    options: &Options,
    endpoint: &str,
    known: Option<&Arc<Reload>>,
) -> Result<Channel, AskError> {
    let made = match known {
        Some(reload) => connect::channel(endpoint, Arc::clone(reload), connect::any_controller),
        None => connect::anonymous_channel(
            endpoint,
            options.trust.clone(),
            options.trust_domain.clone(),
            connect::any_controller,
        ),
    };
    made.map_err(|source| AskError::Endpoint {
        endpoint: endpoint.to_owned(),
        source,
    })
}

fn refused(endpoint: &str, status: &Status) -> AskError {
    let cause = std::error::Error::source(status).map(chain);
    AskError::Refused {
        endpoint: endpoint.to_owned(),
        code: status.code(),
        message: cause.unwrap_or_else(|| status.message().to_owned()),
    }
}

fn check(options: &Options, endpoint: &str, leaf: Option<&Vec<u8>>) -> Result<(), AskError> {
    let leaf = leaf.ok_or_else(|| AskError::Empty {
        endpoint: endpoint.to_owned(),
    })?;
    let found = Identity::of_certificate(&options.trust_domain, leaf);
    let found = found.map_err(|source| AskError::Name {
        endpoint: endpoint.to_owned(),
        source,
    })?;
    match found {
        Identity::Node(name) if name == options.node_name => Ok(()),
        found => Err(AskError::Another {
            found,
            wanted: options.node_name.clone(),
        }),
    }
}

fn pem(certificates: &[Vec<u8>], key: &KeyPair) -> Vec<u8> {
    let mut text = String::new();
    for der in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in base64(der).as_bytes().chunks(64) {
            let line = str::from_utf8(line).unwrap_or_default();
            // Writing to a string does not fail.
            let _ = writeln!(text, "{line}");
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text.push_str(&key.serialize_pem());
    text.into_bytes()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { digit.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_everybody_s() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (b"\xff\xfe\xfd", "//79"),
        ] {
            assert_eq!(base64(bytes), text);
        }
    }
}
