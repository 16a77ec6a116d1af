use rcgen::PKCS_RSA_SHA256;
use sluice_mtls::testing::TestCa;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn fresh() -> Kept {
    Kept::generate("td", SystemTime::now()).unwrap()
}

fn authority(kept: Kept) -> Result<Authority, AuthorityError> {
    Authority::new(kept, "Secret sluice-issuer", SystemTime::now())
}

#[test]
fn what_it_signs_says_who_and_for_how_long() {
    let authority = authority(fresh()).unwrap();
    let now = SystemTime::now();
    let node = Identity::Node("worker-1".into());
    let (issued, _) = authority.pair(&node, "td", HOUR, now).unwrap();
    assert_eq!(Identity::of_certificate("td", &issued.der).unwrap(), node);
    assert!(issued.not_after <= now + HOUR);
    assert!(issued.not_after > now + HOUR - Duration::from_secs(2));
    let (_, parsed) = X509Certificate::from_der(&issued.der).unwrap();
    assert!(!parsed.is_ca());
    assert!(parsed.validity().not_before.timestamp() < parsed.validity().not_after.timestamp());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    assert_eq!(
        parsed
            .raw_serial_as_string()
            .replace(':', "")
            .to_uppercase(),
        issued.serial
    );
    let (again, _) = authority.pair(&node, "td", HOUR, now).unwrap();
    assert_ne!(again.serial, issued.serial);
}

#[test]
fn nothing_outlives_the_authority() {
    let authority = authority(fresh()).unwrap();
    let node = Identity::Node("a".into());
    let long = AUTHORITY * 2;
    let (issued, _) = authority
        .pair(&node, "td", long, SystemTime::now())
        .unwrap();
    assert_eq!(issued.not_after, authority.not_after());
    let late = authority.not_after() + HOUR;
    let refused = authority.pair(&node, "td", HOUR, late);
    assert!(matches!(refused, Err(AuthorityError::Expired { .. })));
}

#[test]
fn the_key_s_own_certificate_signs_and_the_others_are_believed() {
    let (old, new) = (fresh(), fresh());
    let both = Kept {
        cert: [&old.cert[..], &new.cert].concat(),
        key: new.key.clone(),
    };
    let rotating = authority(both).unwrap();
    assert_eq!(rotating.believed().len(), 2);
    let (issued, _) = rotating
        .pair(&Identity::Node("a".into()), "td", HOUR, SystemTime::now())
        .unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.der).unwrap();
    let (_, signer) = X509Certificate::from_der(&rotating.believed()[1]).unwrap();
    leaf.verify_signature(Some(signer.public_key())).unwrap();
}

#[test]
fn what_cannot_sign_is_refused() {
    let good = fresh();
    let with = |cert: &[u8], key: &[u8]| {
        authority(Kept {
            cert: cert.to_vec(),
            key: key.to_vec(),
        })
        .unwrap_err()
        .to_string()
    };
    let (leaf, leaf_key) = TestCa::new("td").issue("spiffe://td/node/a");
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    for (cert, key, reason) in [
        (&b"garbage"[..], &good.key[..], "belongs to its key"),
        (&good.cert, b"garbage", "no usable private key"),
        (&good.cert, &fresh().key, "belongs to its key"),
        (
            &good.cert,
            rsa.serialize_pem().as_bytes(),
            "belongs to its key",
        ),
        (leaf.as_bytes(), leaf_key.as_bytes(), "not an authority's"),
        (
            b"-----BEGIN CERTIFICATE-----\n%",
            &good.key,
            "no usable certificates",
        ),
    ] {
        let error = with(cert, key);
        assert!(error.contains(reason), "{error}");
        assert!(error.contains("Secret sluice-issuer"), "{error}");
    }
    let late = SystemTime::now() + AUTHORITY * 2;
    let expired = Authority::new(good, "x", late).unwrap_err();
    assert!(matches!(expired, AuthorityError::Expired { .. }));
}

#[test]
fn authorities_have_names_of_their_own() {
    let name = |kept: Kept| {
        let authority = authority(kept).unwrap();
        let (_, parsed) = X509Certificate::from_der(&authority.believed()[0]).unwrap();
        parsed.subject().to_string()
    };
    assert_ne!(name(fresh()), name(fresh()));
}
