//! The authority: a certificate, its key, and what they sign.

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sluice_mtls::Identity;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// Clocks differ: a certificate is valid from a little before it was made.
const SKEW: Duration = Duration::from_secs(300);
/// An authority that we make lives ten years.
const AUTHORITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Certificate and key of an authority, PEM, as they are kept.
#[derive(Clone, Eq, PartialEq)]
pub struct Kept {
    /// The certificates; all are believed, and the key's own signs.
    pub cert: Vec<u8>,
    pub key: Vec<u8>,
}

/// A key must not end up in a log.
impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

/// Why an authority cannot be used, or cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("{place} holds no usable certificates; PEM is needed")]
    Certificates {
        place: String,
        source: rustls_pki_types::pem::Error,
    },
    #[error("{place} holds a certificate that cannot be read")]
    Certificate {
        place: String,
        source: x509_parser::nom::Err<x509_parser::error::X509Error>,
    },
    #[error("{place} holds no usable private key; PEM is needed, ECDSA at best")]
    Key { place: String, source: rcgen::Error },
    #[error(
        "no certificate of {place} belongs to its key; both must come from one issue, and the \
         certificates of older authorities may stand beside it"
    )]
    NoMatch { place: String },
    #[error(
        "the certificate of {place} is not an authority's (basic constraints CA, key usage \
         keyCertSign)"
    )]
    NotAnAuthority { place: String },
    #[error("the authority of {place} has expired; put a new one in its place")]
    Expired { place: String },
    #[error("cannot sign with the authority of {place}")]
    Sign { place: String, source: rcgen::Error },
    #[error("no random numbers are to be had")]
    Random,
}

/// A usable authority.
#[derive(Debug)]
pub struct Authority {
    kept: Kept,
    place: String,
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
    believed: Vec<CertificateDer<'static>>,
}

/// A certificate that was just made.
#[derive(Clone, Debug)]
pub struct Issued {
    pub der: CertificateDer<'static>,
    pub pem: String,
    pub not_after: SystemTime,
    /// Hexadecimal, as `openssl` prints it.
    pub serial: String,
}

impl Kept {
    /// A new authority, different from every other. Its name is its own: a
    /// revocation list is matched by name.
    pub fn generate(trust_domain: &str, now: SystemTime) -> Result<Self, AuthorityError> {
        let sign = |source| AuthorityError::Sign {
            place: "a new authority".to_owned(),
            source,
        };
        let (serial, hex) = serial()?;
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial);
        params.not_before = (now - SKEW).into();
        params.not_after = (now + AUTHORITY).into();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let short = hex.get(..8).unwrap_or_default();
        params.distinguished_name.push(
            DnType::CommonName,
            format!(
                "sluice {} {short}",
                trust_domain.get(..40).unwrap_or(trust_domain)
            ),
        );
        let key = KeyPair::generate().map_err(sign)?;
        let cert = params.self_signed(&key).map_err(sign)?;
        Ok(Self {
            cert: cert.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        })
    }
}

impl Authority {
    /// Checks what is kept; `place` names it in errors.
    pub fn new(kept: Kept, place: &str, now: SystemTime) -> Result<Self, AuthorityError> {
        let place = place.to_owned();
        let believed = CertificateDer::pem_slice_iter(&kept.cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| AuthorityError::Certificates {
                place: place.clone(),
                source,
            })?;
        let unusable = |source| AuthorityError::Key {
            place: place.clone(),
            source,
        };
        let text = String::from_utf8_lossy(&kept.key);
        let key = KeyPair::from_pem(&text).map_err(unusable)?;
        let (own, not_after) = own(&believed, &key, &place)?;
        if not_after <= now {
            return Err(AuthorityError::Expired { place });
        }
        let issuer = Issuer::from_ca_cert_der(own, key).map_err(unusable)?;
        Ok(Self {
            kept,
            place,
            issuer,
            not_after,
            believed,
        })
    }

    /// What it was made of, to tell whether it has changed.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Everybody who is believed, PEM.
    pub fn bundle(&self) -> &[u8] {
        &self.kept.cert
    }

    /// The same, DER.
    pub fn believed(&self) -> &[CertificateDer<'static>] {
        &self.believed
    }

    /// When its own certificate expires.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// A certificate for both sides of a connection; it does not outlive the
    /// authority.
    pub fn issue(
        &self,
        identity: &Identity,
        trust_domain: &str,
        key: &impl PublicKeyData,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Issued, AuthorityError> {
        let sign = |source| AuthorityError::Sign {
            place: self.place.clone(),
            source,
        };
        if self.not_after <= now {
            return Err(AuthorityError::Expired {
                place: self.place.clone(),
            });
        }
        let not_after = whole(self.not_after.min(now + lifetime));
        let (serial, hex) = serial()?;
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial);
        params.not_before = (now - SKEW).into();
        params.not_after = not_after.into();
        // For people; 64 bytes are what a common name may have.
        let name = identity.name();
        let common = name.get(..64).unwrap_or(name);
        params.distinguished_name.push(DnType::CommonName, common);
        let uri = identity.uri(trust_domain).try_into().map_err(sign)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let signed = params.signed_by(key, &self.issuer).map_err(sign)?;
        Ok(Issued {
            pem: signed.pem(),
            der: signed.into(),
            not_after,
            serial: hex,
        })
    }

    /// A key of our own and its certificate; the key is PEM.
    pub fn pair(
        &self,
        identity: &Identity,
        trust_domain: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(Issued, String), AuthorityError> {
        let key = KeyPair::generate().map_err(|source| AuthorityError::Sign {
            place: self.place.clone(),
            source,
        })?;
        let issued = self.issue(identity, trust_domain, &key, lifetime, now)?;
        Ok((issued, key.serialize_pem()))
    }
}

fn own<'a>(
    believed: &'a [CertificateDer<'static>],
    key: &KeyPair,
    place: &str,
) -> Result<(&'a CertificateDer<'static>, SystemTime), AuthorityError> {
    let public = key.subject_public_key_info();
    for der in believed {
        let parsed = X509Certificate::from_der(der);
        let (_, certificate) = parsed.map_err(|source| AuthorityError::Certificate {
            place: place.to_owned(),
            source,
        })?;
        if certificate.public_key().raw != public {
            continue;
        }
        // An authority without key usages may use its key for anything.
        let may_sign = match certificate.key_usage() {
            Ok(Some(usage)) => usage.value.key_cert_sign(),
            Ok(None) => true,
            Err(_) => false,
        };
        if !certificate.is_ca() || !may_sign {
            return Err(AuthorityError::NotAnAuthority {
                place: place.to_owned(),
            });
        }
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        return Ok((der, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)));
    }
    Err(AuthorityError::NoMatch {
        place: place.to_owned(),
    })
}

/// Random, positive, and its text.
fn serial() -> Result<(SerialNumber, String), AuthorityError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| AuthorityError::Random)?;
    // Neither negative nor shortened by a leading zero.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    let hex = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    Ok((SerialNumber::from_slice(&bytes), hex))
}

/// Certificates know no fractions of seconds.
fn whole(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests;
