use proptest::prelude::*;

use super::*;

#[test]
fn the_three_kinds_are_read() {
    let parse = |uri| Identity::parse("cluster.local", uri);
    assert_eq!(
        parse("spiffe://cluster.local/node/worker-1.example"),
        Ok(Identity::Node("worker-1.example".into()))
    );
    assert_eq!(
        parse("spiffe://cluster.local/operator/jo"),
        Ok(Identity::Operator("jo".into()))
    );
    assert_eq!(
        parse("spiffe://cluster.local/controller/c0"),
        Ok(Identity::Controller("c0".into()))
    );
}

#[test]
fn everything_else_is_an_error_that_names_it() {
    let say = |uri: &str| {
        Identity::parse("cluster.local", uri)
            .expect_err(uri)
            .to_string()
    };
    for uri in [
        "",
        "node/a",
        "https://cluster.local/node/a",
        "spiffe://cluster.local",
        "spiffe://cluster.local/node",
        "spiffe://other/node/a",
        "spiffe://cluster.local.evil/node/a",
        "spiffe://cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/Node/a",
        "spiffe://cluster.local/node/",
        "spiffe://cluster.local/node/a/b",
        "spiffe://cluster.local/node/A",
        "spiffe://cluster.local/node/-a",
        "spiffe://cluster.local/node/a-",
        "spiffe://cluster.local/node/a..b",
        "spiffe://cluster.local/node/a?x",
        "spiffe://cluster.local/node/a%2fb",
        "spiffe://cluster.local//node/a",
        "SPIFFE://cluster.local/node/a",
    ] {
        assert!(say(uri).contains(uri), "{uri}: {}", say(uri));
    }
    let long = format!("spiffe://cluster.local/node/{}", "a".repeat(10_000));
    assert!(say(&long).len() < 1_000);
    let label = format!("spiffe://cluster.local/node/{}", "a".repeat(64));
    assert!(Identity::parse("cluster.local", &label).is_err());
}

proptest! {
    #[test]
    fn what_is_written_is_read(name in "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\\.[a-z0-9]{1,9}){0,3}") {
        for identity in [
            Identity::Node(name.clone()),
            Identity::Operator(name.clone()),
            Identity::Controller(name),
        ] {
            prop_assert_eq!(Identity::parse("td", &identity.uri("td")), Ok(identity));
        }
    }

    #[test]
    fn no_text_panics(domain in ".{0,10}", uri in ".{0,400}") {
        let _ = Identity::parse(&domain, &uri);
        let _ = Identity::parse("td", &format!("spiffe://td/node/{uri}"));
    }

    #[test]
    fn no_certificate_panics(der in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Identity::of_certificate("td", &der).is_err());
    }
}
