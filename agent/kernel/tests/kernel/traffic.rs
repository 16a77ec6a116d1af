//! Packets go where the kernel's state says.

use std::{
    io,
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use socket2::SockRef;

use crate::lab::{Lab, uid};

#[test]
fn a_captured_pods_connections_reach_the_proxy_with_their_addresses() {
    let mut lab = Lab::new();
    let node = lab.usual();
    lab.attach("other", &["10.91.0.5", "fd00:91::5"]);
    lab.inside("node", "ip route add default via 192.168.77.2 dev out0");
    lab.inside("node", "ip -6 route add default via fd00:77::2 dev out0");
    lab.inside(
        "node",
        "ip neigh replace 192.168.77.2 lladdr 02:00:00:00:00:09 dev out0",
    );
    let mut kernel = lab.kernel();
    let outcome = kernel.reconcile(&node).unwrap();
    assert!(outcome.pods.values().all(Result::is_ok), "{outcome:#?}");

    let outbound = lab.listener("proxy", "::", 15001, true);
    let inbound = lab.listener("proxy", "::", 15006, true);
    let hbone = lab.listener("proxy", "::", 15008, true);
    let own = lab.listener("one", "::", 8080, false);
    let host = lab.listener("node", "::", 9000, false);

    for (from, to, listener) in [
        // The pod's own calls, to addresses nobody has.
        ("one", "203.0.113.5:80", &outbound),
        ("one", "[2001:db8::5]:80", &outbound),
        ("one", "10.91.0.3:80", &outbound),
        ("one", "10.91.0.2:8080", &own),
        // The node's NodePorts and hostPorts go through the proxy.
        ("one", "192.168.77.1:30080", &outbound),
        ("one", "192.168.77.1:8081", &outbound),
        // Calls to it.
        ("other", "10.91.0.2:8080", &inbound),
        ("other", "[fd00:91::2]:8080", &inbound),
        ("other", "10.91.0.2:15008", &hbone),
        ("other", "[fd00:91::2]:15008", &hbone),
        // The node's own traffic both ways passes by.
        ("node", "10.91.0.2:8080", &own),
        ("node", "[fd00:91::2]:8080", &own),
        ("one", "192.168.77.1:9000", &host),
        ("one", "10.91.0.1:9000", &host),
        ("one", "[fd00:77::1]:9000", &host),
    ] {
        let to: SocketAddr = to.parse().unwrap();
        let client = dial(&lab, from, to);
        let client = client.unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
        let (stream, peer) = accept(listener).unwrap_or_else(|| panic!("{from} to {to}"));
        let reached = plain(stream.local_addr().unwrap());
        assert_eq!(reached, to, "{from} to {to}");
        assert_eq!(
            plain(peer),
            plain(client.local_addr().unwrap()),
            "{from} to {to}"
        );
    }

    // Nobody listens: said. Closed alone it would listen on in children that other
    // tests have just forked.
    let ended = SockRef::from(&outbound).shutdown(Shutdown::Both);
    ended.unwrap();
    let refused = dial(&lab, "one", "203.0.113.5:80".parse().unwrap()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    // A released pod is plain again.
    let mut without = node.clone();
    without.pods.remove(&uid("one"));
    kernel.reconcile(&without).unwrap();
    let _client = dial(&lab, "other", "10.91.0.2:8080".parse().unwrap()).unwrap();
    assert!(accept(&own).is_some());
}

#[test]
fn without_the_proxys_namespace_nothing_passes() {
    let mut lab = Lab::new();
    let mut node = lab.usual();
    lab.attach("other", &["10.91.0.5", "fd00:91::5"]);
    let mut kernel = lab.kernel();
    kernel.reconcile(&node).unwrap();
    let own = lab.listener("one", "::", 8080, false);
    let other = lab.listener("other", "::", 8080, false);
    let closed = |lab: &Lab, when: &str| {
        for (from, to, listener) in [
            ("other", "10.91.0.2:8080", &own),
            ("other", "[fd00:91::2]:8080", &own),
            ("one", "10.91.0.5:8080", &other),
            ("one", "[fd00:91::5]:8080", &other),
        ] {
            let dialled = dial(lab, from, to.parse().unwrap());
            assert!(dialled.is_err(), "{when}: {from} to {to}");
            assert!(accept(listener).is_none(), "{when}: {from} to {to}");
        }
        let _probe = dial(lab, "node", "10.91.0.2:8080".parse().unwrap()).unwrap();
        assert!(accept(&own).is_some(), "{when}");
    };
    lab.remove("proxy");
    while lab.inside("node", "ip link show").contains("sl-in") {}
    closed(&lab, "before anybody noticed");
    kernel.reconcile(&node).unwrap();
    closed(&lab, "after a reconcile");
    node.proxy = None;
    kernel.reconcile(&node).unwrap();
    closed(&lab, "with no proxy wanted");
}

fn dial(lab: &Lab, from: &str, to: SocketAddr) -> io::Result<TcpStream> {
    lab.enter(from, || {
        TcpStream::connect_timeout(&to, Duration::from_secs(1))
    })
}

/// The connection that waits, if there is one.
fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true).unwrap();
    (0..20).find_map(|_| {
        let accepted = listener.accept().ok();
        if accepted.is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        accepted
    })
}

/// IPv4 as a socket for both families shows it.
fn plain(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(IpAddr::V6(six), IpAddr::V4),
        four => four,
    };
    SocketAddr::new(ip, address.port())
}
