//! What reaches the agent of a sandbox: by a call, and by a note.

use std::{net::IpAddr, path::Path};

use sluice_agent::{
    capture::{Journal, Sandbox, journal::Entry, sandbox::is_container_id},
    cni::{
        notes::line::{self, Line},
        request,
    },
};
use sluice_proto::agent::v1 as proto;

/// Lines: of a sandbox the container, namespace, interface and the pod's uid,
/// namespace and name; then `i NAME SANDBOX` for an interface and
/// `a CIDR INTERFACE` for an address.
pub(super) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default().to_owned();
    let message = proto::Sandbox {
        container_id: next(),
        netns: next(),
        ifname: next(),
        pod_uid: next(),
        pod_namespace: next(),
        pod_name: next(),
        ..proto::Sandbox::default()
    };
    let (mut interfaces, mut addresses) = (Vec::new(), Vec::new());
    for line in lines {
        let (kind, rest) = line.split_at_checked(2).unwrap_or_default();
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        match kind {
            "i " => interfaces.push(proto::Interface {
                name: first.into(),
                mac: String::new(),
                sandbox: second.into(),
            }),
            "a " => addresses.push(proto::Address {
                cidr: first.into(),
                interface: second.parse().ok(),
            }),
            _ => {}
        }
    }
    if let Ok((container, _)) = request::gone(Some(message.clone())) {
        assert!(is_container_id(&container));
    }
    match request::sandbox(Some(message), &interfaces, &addresses) {
        Ok(Some(sandbox)) => sound(&sandbox),
        Ok(None) => {}
        Err(invalid) => assert!(invalid.to_string().len() < 4096, "{invalid}"),
    }
}

/// A file of notes. Whatever is in it, a good line behind it counts. Lines that
/// look like documents get their checksum here.
pub(super) fn notes(input: &[u8]) {
    let mut file = Vec::new();
    for text in input.split(|byte| *byte == b'\n') {
        match text.strip_suffix(b"}").filter(|_| text.starts_with(b"{")) {
            Some(open) => file.extend(sealed(open)),
            None => file.extend([text, b"\n"].concat()),
        }
    }
    file.extend(sealed(
        br#"{"verb":"DEL","containerId":"last","netns":"","ifname":"eth0""#,
    ));
    let mut last = None;
    for (text, line) in line::parse(&file) {
        assert!(!text.is_empty());
        match &line {
            Line::Del { container_id, .. } => assert!(is_container_id(container_id)),
            Line::Passed(sandbox) => sound(sandbox),
            Line::Rejected(why) => assert!(!why.is_empty() && why.len() < 4096, "{why}"),
            Line::Nothing | Line::Lost => {}
        }
        last = Some(line);
    }
    assert!(matches!(last, Some(Line::Del { container_id, .. }) if container_id == "last"));
}

/// A document that lacks its closing brace, as the shim writes it.
fn sealed(open: &[u8]) -> Vec<u8> {
    let crc = format!(",\"crc\":\"{:08x}\"}}\n", crc32fast::hash(open));
    [open, crc.as_bytes()].concat()
}

/// What was let in harms nothing, and can be remembered.
fn sound(sandbox: &Sandbox) {
    assert!(is_container_id(&sandbox.container_id));
    assert!(
        sandbox.netns.is_absolute()
            && sandbox
                .netns
                .components()
                .all(|part| part.as_os_str() != "..")
    );
    assert!(!sandbox.namespace.contains('/') && !sandbox.name.contains('/'));
    let plain =
        |name: &str| !name.is_empty() && name.len() < 16 && !name.contains(['/', '\0', ' ']);
    assert!(plain(&sandbox.ifname));
    assert!(sandbox.host_link.as_deref().is_none_or(plain));
    for address in &sandbox.addresses {
        let own = match address {
            IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_broadcast(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
        };
        assert!(
            own && !address.is_loopback() && !address.is_multicast() && !address.is_unspecified()
        );
    }
    let journal = Journal::open_for_boot(Path::new("/run"), "boot").expect("a journal");
    let entry = Entry {
        sandbox: sandbox.clone(),
        uid: None,
        netns: None,
        order: 1,
        link: None,
        digest: None,
        intent: None,
    };
    journal.write(&entry).expect("it is remembered");
    assert_eq!(journal.load(), [entry]);
    journal
        .remove(&sandbox.container_id)
        .expect("it is forgotten");
}
