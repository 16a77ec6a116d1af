//! Connections that were there before capture: both ends hear that it is over.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use sluice_kernel::{
    Kernel,
    model::{Node, Settings},
};
use socket2::{SockRef, TcpKeepalive};

use crate::lab::{Lab, uid};

const AT_ONCE: Duration = Duration::from_secs(1);
const PODS: [&str; 2] = ["10.91.0.2", "fd00:91::2"];

/// A node with a proxy, two pods that are not captured yet, and another one.
struct Joining {
    lab: Lab,
    node: Node,
    kernel: Kernel,
}

impl Joining {
    fn new() -> Self {
        let mut lab = Lab::new();
        let node = lab.usual();
        lab.attach("other", &["10.91.0.5", "fd00:91::5"]);
        let mut kernel = lab.kernel();
        let pods = Default::default();
        kernel
            .reconcile(&Node {
                pods,
                ..node.clone()
            })
            .unwrap();
        Self { lab, node, kernel }
    }

    fn capture(&mut self, pods: &[&str]) {
        let mut node = self.node.clone();
        node.pods
            .retain(|uid, _| pods.iter().any(|name| uid.as_str() == *name));
        for pod in pods {
            self.kernel.capture(&node, &uid(pod)).unwrap();
        }
    }

    /// A connection that has been used: the client's end and the server's.
    fn connection(&self, client: &str, server: &str, address: &str) -> [TcpStream; 2] {
        let listener = self.lab.listener(server, address, 9999, false);
        let to = SocketAddr::new(address.parse().unwrap(), 9999);
        let mut one = self.lab.enter(client, || TcpStream::connect(to).unwrap());
        let (mut two, _) = listener.accept().unwrap();
        two.write_all(b"a").unwrap();
        one.read_exact(&mut [0]).unwrap();
        one.write_all(b"b").unwrap();
        two.read_exact(&mut [0]).unwrap();
        [one, two]
    }

    /// Segments that a namespace's TCP has seen.
    fn segments(&self, namespace: &str) -> String {
        let counters = self.lab.inside(namespace, "nstat -asz TcpInSegs");
        counters.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// What a reader that says nothing gets, and when.
fn hears(stream: &mut TcpStream, within: Duration) -> (ErrorKind, Duration) {
    stream.set_read_timeout(Some(within)).unwrap();
    let start = Instant::now();
    let read = loop {
        match stream.read(&mut [0; 64]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => break read,
        }
    };
    // Bytes would be a delivery.
    (read.unwrap_err().kind(), start.elapsed())
}

fn reset(stream: &mut TcpStream, within: Duration, what: &str) {
    let (kind, after) = hears(stream, within);
    assert_eq!(kind, ErrorKind::ConnectionReset, "{what}, after {after:?}");
}

#[test]
fn a_pod_that_only_receives_is_reset_when_its_peer_sends() {
    for listening in [true, false] {
        let mut joining = Joining::new();
        let lab = &joining.lab;
        let _listeners = listening
            .then(|| [15001, 15006, 15008].map(|port| lab.listener("proxy", "::", port, true)));
        let mut connections = Vec::new();
        for address in ["10.91.0.5", "fd00:91::5"] {
            connections.push(joining.connection("one", "other", address));
        }
        for address in PODS {
            let [peer, pod] = joining.connection("other", "one", address);
            connections.push([pod, peer]);
        }
        joining.capture(&["one"]);
        for [pod, peer] in &mut connections {
            let what = format!("{:?} from {:?}", pod.local_addr(), peer.local_addr());
            peer.write_all(b"pushed").unwrap();
            reset(pod, AT_ONCE, &what);
            reset(peer, AT_ONCE, &what);
        }
    }
}

#[test]
fn so_is_one_whose_peer_closes_or_only_asks_whether_it_is_there() {
    let mut joining = Joining::new();
    let closing = ["10.91.0.5", "fd00:91::5"];
    let closing = closing.map(|address| joining.connection("one", "other", address));
    let asking = PODS.map(|address| joining.connection("other", "one", address));
    joining.capture(&["one"]);
    for [mut pod, peer] in closing {
        drop(peer);
        reset(&mut pod, AT_ONCE, "closed");
    }
    for [peer, mut pod] in asking {
        let every = Duration::from_secs(1);
        let keepalive = TcpKeepalive::new().with_time(every).with_interval(every);
        SockRef::from(&peer).set_tcp_keepalive(&keepalive).unwrap();
        reset(&mut pod, every + AT_ONCE, "asked");
    }
}

#[test]
fn segments_out_of_order_and_large_ones_reset_too() {
    let mut joining = Joining::new();
    let mut connections = PODS.map(|address| joining.connection("other", "one", address));
    for command in [
        "nft add table inet lossy",
        "nft add chain inet lossy forward { type filter hook forward priority 0 ; }",
        "nft add rule inet lossy forward oifname vone drop",
    ] {
        joining.lab.inside("node", command);
    }
    // The pod does not hear of the first ones.
    for [peer, _] in &mut connections {
        peer.set_nonblocking(true).unwrap();
        while peer.write(&[0; 65536]).is_ok() {}
    }
    joining.capture(&["one"]);
    for [_, pod] in &mut connections {
        reset(pod, Duration::from_secs(5), "with a backlog");
    }
}

#[test]
fn both_pods_of_a_connection_on_one_node_are_reset() {
    let mut joining = Joining::new();
    let connections = PODS.map(|address| joining.connection("two", "one", address));
    joining.capture(&["one", "two"]);
    for [mut two, mut one] in connections {
        two.write_all(b"pushed").unwrap();
        reset(&mut one, AT_ONCE, "the one that receives");
        reset(&mut two, AT_ONCE, "the one that sends");
    }
}

#[test]
fn nothing_of_it_goes_to_anybody_else() {
    let mut joining = Joining::new();
    let connections = ["10.91.0.5", "fd00:91::5"];
    let mut connections = connections.map(|address| joining.connection("one", "other", address));
    joining.capture(&["one"]);
    let before = joining.segments("other");
    for [one, other] in &mut connections {
        one.write_all(b"pushed").unwrap();
        reset(one, AT_ONCE, "the captured one");
        let (kind, _) = hears(other, Duration::from_millis(200));
        assert_eq!(kind, ErrorKind::WouldBlock);
    }
    assert_eq!(before, joining.segments("other"));
}

#[test]
fn connections_made_after_capture_are_none_of_its_business() {
    let mut joining = Joining::new();
    joining.capture(&["one"]);
    let inbound = joining.lab.listener("proxy", "::", 15006, true);
    let before = joining.segments("one");
    for address in PODS {
        let to = SocketAddr::new(address.parse().unwrap(), 8080);
        let mut client = joining
            .lab
            .enter("other", || TcpStream::connect(to).unwrap());
        let (mut proxy, _) = inbound.accept().unwrap();
        for _ in 0..50 {
            client.write_all(&[1; 9000]).unwrap();
            proxy.read_exact(&mut [0; 9000]).unwrap();
            proxy.write_all(&[2; 9000]).unwrap();
            client.read_exact(&mut [0; 9000]).unwrap();
        }
        // The proxy's end is the one that waits for late segments.
        drop(proxy);
        assert_eq!(client.read(&mut [0; 9]).unwrap(), 0);
        drop(client);
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(before, joining.segments("one"));
}

#[test]
fn a_mask_of_one_bit_is_enough_to_capture_and_the_limit_is_told() {
    let mut lab = Lab::new();
    let node = lab.usual();
    assert!(lab.kernel().limits().is_empty());
    let settings = Settings {
        mark: 1,
        mark_mask: 1,
        ..lab.settings()
    };
    let mut kernel = Kernel::open(settings).unwrap();
    assert_eq!(kernel.limits().len(), 2);
    assert!(kernel.limits()[0].contains("one bit only"));
    let outcome = kernel.reconcile(&node).unwrap();
    assert!(outcome.pods.values().all(Result::is_ok), "{outcome:#?}");
    assert!(kernel.reconcile(&node).unwrap().repairs.is_empty());
    assert!(!lab.ours("proxy").contains("table ip sluice"));
    // With more bits they come, and go again.
    let mut usual = lab.kernel();
    assert!(!usual.reconcile(&node).unwrap().repairs.is_empty());
    assert!(lab.ours("proxy").contains("table ip6 sluice"));
    assert!(!kernel.reconcile(&node).unwrap().repairs.is_empty());
    assert!(!lab.ours("proxy").contains("table ip6 sluice"));
}
