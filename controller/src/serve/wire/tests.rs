use std::{collections::BTreeSet, net::Ipv6Addr, sync::Arc};

use prost::Message as _;

use super::{PART, shortened, snapshot};
use crate::{
    model::{Intent, Pod, Wanted},
    serve::{MAX_MESSAGE, outbox::Snapshot},
};

// As large as the source lets a pod be.
fn largest() -> Pod {
    let addresses = (1..=16u16).map(|n| {
        let mut segments = [0xffff; 8];
        segments[7] = 0xf000 + n;
        Ipv6Addr::from(segments).into()
    });
    Pod {
        uid: "u".repeat(128).into(),
        namespace: "n".repeat(63).into(),
        name: "p".repeat(253).into(),
        node: Some("a".into()),
        service_account: "default".into(),
        labels: [].into(),
        annotations: [].into(),
        host_network: true,
        completed: false,
        addresses: addresses.collect(),
        host_ports: (65000..65256).collect::<BTreeSet<u16>>(),
        static_uid: Some("s".repeat(128).into()),
        version: 0.into(),
    }
}

#[test]
fn the_largest_part_fits() {
    let message = "m".repeat(600).into();
    let intent = Intent::new(Arc::new(largest()), Wanted::Unsupported, Some(message));
    let full = Snapshot {
        pods: std::iter::repeat_n(Arc::new(intent), PART + 1).collect(),
        namespaces: vec![("n".repeat(63).into(), true); PART + 1],
        ..Snapshot::default()
    };
    let parts = snapshot(&full);
    assert_eq!(parts.len(), 2);
    assert!(
        parts[0].encoded_len() < MAX_MESSAGE - 1024,
        "{}",
        parts[0].encoded_len()
    );
    assert_eq!(parts[0].end, None);
    let end = parts[1].end.as_ref().unwrap();
    assert_eq!((end.total_pods, end.total_namespaces), (1001, 1001));
    assert_eq!(parts[1].pods.len(), 1);
}

#[test]
fn nothing_at_all_is_a_snapshot_too() {
    let parts = snapshot(&Snapshot::default());
    assert_eq!(parts.len(), 1);
    assert!(parts[0].end.is_some());
}

#[test]
fn text_is_cut_between_characters() {
    assert_eq!(shortened("a\u{20ac}b".into(), 2), "a");
    assert_eq!(shortened("a\u{20ac}b".into(), 4), "a\u{20ac}");
    assert_eq!(shortened("ab".into(), 9), "ab");
}
