//! Signing requests: a key, and the proof that the caller has it.

use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _,
    SubjectPublicKeyInfo,
};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer as _};

/// Larger than any request with a key that we take.
const LARGEST: usize = 4 << 10;

/// Why a request is not signed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    #[error("the signing request has {0} bytes; at most {LARGEST} are taken")]
    TooLarge(usize),
    #[error("the signing request is no PKCS #10 in DER: {0}")]
    Form(String),
    #[error(
        "the key of the signing request is of a kind that is not taken; make one of ECDSA P-256, \
         ECDSA P-384 or Ed25519"
    )]
    Key,
    #[error("the signing request is not signed by its own key")]
    Proof,
}

/// The public key of a request. Nothing else in it counts: who asks is told by
/// the token.
pub fn key(der: &[u8]) -> Result<SubjectPublicKeyInfo, RequestError> {
    if der.len() > LARGEST {
        return Err(RequestError::TooLarge(der.len()));
    }
    let (rest, request) = X509CertificationRequest::from_der(der)
        .map_err(|error| RequestError::Form(error.to_string()))?;
    if !rest.is_empty() {
        return Err(RequestError::Form("something follows it".to_owned()));
    }
    let raw = request.certification_request_info.subject_pki.raw;
    let key = SubjectPublicKeyInfo::from_der(raw).map_err(|_| RequestError::Key)?;
    let taken = [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
    ];
    if !taken.contains(&key.algorithm()) {
        return Err(RequestError::Key);
    }
    request
        .verify_signature()
        .map_err(|_| RequestError::Proof)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P521_SHA512, PKCS_RSA_SHA256};

    use super::*;

    fn request(key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        // Whatever it calls itself.
        params.subject_alt_names = vec![rcgen::SanType::URI(
            "spiffe://td/controller/me".try_into().unwrap(),
        )];
        params.serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn good_keys_are_taken() {
        for algorithm in [
            &PKCS_ECDSA_P256_SHA256,
            &PKCS_ECDSA_P384_SHA384,
            &PKCS_ED25519,
        ] {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            let found = key(&request(&pair)).unwrap();
            assert_eq!(found.der_bytes(), pair.public_key_raw());
        }
    }

    #[test]
    fn other_keys_are_refused() {
        for algorithm in [&PKCS_RSA_SHA256, &PKCS_ECDSA_P521_SHA512] {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            assert_eq!(key(&request(&pair)), Err(RequestError::Key));
        }
    }

    #[test]
    fn the_proof_is_checked() {
        let mut der = request(&KeyPair::generate().unwrap());
        let last = der.len() - 1;
        der[last] ^= 1;
        assert!(key(&der).is_err());
        // The key of one in the request of another.
        let one = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let other = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut der = request(&one);
        let at = der
            .windows(32)
            .position(|window| window == one.public_key_raw())
            .unwrap();
        der[at..at + 32].copy_from_slice(other.public_key_raw());
        assert_eq!(key(&der), Err(RequestError::Proof));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let der = request(&KeyPair::generate().unwrap());
        for wrong in [&[][..], b"garbage", &der[..der.len() - 1]] {
            assert!(matches!(key(wrong), Err(RequestError::Form(_))));
        }
        let more = [&der[..], &[0]].concat();
        assert!(matches!(key(&more), Err(RequestError::Form(_))));
        assert_eq!(key(&[0; 5000]), Err(RequestError::TooLarge(5000)));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            at in 0_usize..300,
            with in any::<[u8; 4]>(),
            cut in 0_usize..400,
        ) {
            let mut der = request(&KeyPair::generate().unwrap());
            let end = (at + 4).min(der.len());
            let at = at.min(end);
            der[at..end].copy_from_slice(&with[..end - at]);
            der.truncate(cut);
            let _ = key(&der);
        }
    }
}
