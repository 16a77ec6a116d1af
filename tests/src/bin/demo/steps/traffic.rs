//! Calls between pods, and where they were seen.

use std::net::{IpAddr, SocketAddr};

use sluice_tests::lab::{APP, Lab, client::Call, observe::ping, rows::Addresses, wire::Wire};

use super::super::report::Report;

/// Calls in the clear, both families, seen as such on the wire.
pub(crate) fn plain(lab: &Lab, tag: &str) -> Result<String, String> {
    let wire = lab.record("na", "wire", "tcp");
    for family in [lab.v4(), lab.v6()] {
        saw(lab, "a1", family.b1, APP, tag, "b1", family.a1)?;
        saw(lab, "a1", family.vip_b1, 80, tag, "b1", family.a1)?;
    }
    match wire.count(&format!("hello-plain {tag}\n")) {
        4 => Ok("4 requests, and 4 times their text on the wire".into()),
        count => Err(format!("4 requests, {count} times their text on the wire")),
    }
}

/// A call, and the source that its server must see.
fn saw(
    lab: &Lab,
    from: &str,
    to: IpAddr,
    port: u16,
    tag: &str,
    who: &str,
    whom: IpAddr,
) -> Result<String, String> {
    match lab.hello(from, to, port, tag) {
        Ok(answer) if answer == format!("{who} saw {whom}") => Ok(answer),
        other => Err(format!("{from} -> {to}:{port}: {other:?}")),
    }
}

/// Looks whether every pod's calls go through its node's proxy by now.
pub(crate) fn captured_yet(lab: &Lab) -> Result<String, String> {
    for (from, to) in [("a1", "b1"), ("a2", "b2"), ("b1", "a1"), ("b2", "a2")] {
        let seen = lab.try_through_proxy(from, to);
        if !seen.map_err(|error| format!("{from}: {error:?}"))? {
            return Err(format!("{from} does not go through its node's proxy"));
        }
    }
    Ok("calls of all four pods are in their proxies' logs".into())
}

/// Calls whose every station is looked at.
pub(crate) fn through_the_proxies(report: &mut Report, lab: &Lab) {
    let wire = lab.record("na", "wire", "tcp");
    for family in [lab.v4(), lab.v6()] {
        let mark = lab.proxy("na").mark();
        let name = family.family;
        let (pod, service) = ((family.b1, APP), (family.vip_b1, 80));
        let answers =
            [pod, service].map(|(to, port)| saw(lab, "a1", to, port, "captured", "b1", family.a1));
        let answers: Result<Vec<String>, String> = answers.into_iter().collect();
        report.prove(
            &format!("{name}: the application sees the pod's own address"),
            answers.map(|answers| answers.join(", ")),
        );
        report.prove(
            &format!("{name}: the proxy sees pod and service address as dialled"),
            logged(lab, mark, &family, &[pod, service]),
        );
    }
    report.prove("the wire carries TLS on 15008", tls(&wire));
    report.prove(
        "the wire does not carry the requests' text",
        absent(&wire, "captured"),
    );
}

fn logged(
    lab: &Lab,
    mark: usize,
    family: &Addresses,
    dialled: &[(IpAddr, u16)],
) -> Result<String, String> {
    let proxy = lab.proxy("na");
    let mut words = Vec::new();
    for &to in dialled {
        let to = SocketAddr::from(to);
        if !proxy.saw_outbound(mark, family.a1, to, true) {
            return Err(format!("no log line {} -> {to}", family.a1));
        }
        words.push(format!("{} -> {to}", family.a1));
    }
    Ok(words.join(", "))
}

fn tls(wire: &Wire) -> Result<String, String> {
    // Application data of TLS 1.2 and 1.3.
    let records = wire
        .bytes()
        .windows(3)
        .filter(|bytes| *bytes == [0x17, 3, 3])
        .count();
    let packets = wire.packets("tcp port 15008");
    if packets == 0 || records == 0 {
        return Err(format!("{packets} packets on 15008, {records} TLS records"));
    }
    Ok(format!("{packets} packets on 15008, {records} TLS records"))
}

fn absent(wire: &Wire, tag: &str) -> Result<String, String> {
    match wire.count(&format!("hello-plain {tag}")) {
        0 => Ok(format!("{} packets searched", wire.packets("tcp"))),
        count => Err(format!("found {count} times")),
    }
}

/// The node asks its pods, as a kubelet does.
pub(crate) fn probes(lab: &Lab) -> Result<String, String> {
    let mut words = Vec::new();
    for (node, pod) in [("na", "a1"), ("nb", "b1")] {
        let pod = lab.pod(pod);
        for to in pod.addresses() {
            let answer = lab.hello(node, to, APP, "probe");
            words.push(answer.map_err(|error| format!("{node} -> {to}: {error:?}"))?);
        }
    }
    Ok(words.join(", "))
}

pub(crate) fn datagrams(lab: &Lab) -> Result<String, String> {
    for family in [lab.v4(), lab.v6()] {
        let answer = Call::to(family.b1, APP).datagram(lab.ns("a1"));
        if answer != Ok(format!("b1 saw {}", family.a1)) {
            return Err(format!("UDP to {}: {answer:?}", family.b1));
        }
        if !ping(lab.ns("a1"), family.b1) {
            return Err(format!("no echo from {}", family.b1));
        }
    }
    Ok("answers to datagrams and pings, from a1 to b1, in both families".into())
}

/// Looks whether a pod's calls go in the clear by now.
pub(crate) fn left(lab: &Lab, from: &str, tag: &str) -> Result<String, String> {
    let wire = lab.record("na", "wire", "tcp");
    let (pod, to) = (lab.pod(from), lab.pod("b1"));
    let answer = saw(lab, from, to.ip6.into(), APP, tag, "b1", pod.ip6.into())?;
    match wire.count(&format!("hello-plain {tag}\n")) {
        0 => Err(format!("{from} still goes through the proxy")),
        _ => Ok(format!("{answer}, and the request's text is on the wire")),
    }
}

/// A call that must not be readable on the wire.
pub(crate) fn hidden(lab: &Lab, from: &str, tag: &str) -> Result<String, String> {
    let wire = lab.record("na", "wire", "tcp");
    let to = lab.pod("b1");
    let answer = saw(
        lab,
        from,
        to.ip6.into(),
        APP,
        tag,
        "b1",
        lab.pod(from).ip6.into(),
    )?;
    absent(&wire, tag).map(|searched| format!("{answer}; {searched}"))
}
