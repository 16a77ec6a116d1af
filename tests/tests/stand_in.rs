//! The stand-in proxy, with packets: it must do what a ztunnel does before
//! anything else may be tested with it.
//!
//! These tests are about the stand-in itself and run it whatever `ZTUNNEL_BIN`
//! says. They steer by a few TPROXY rules of their own, not by the agent.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which clippy does not take for tests"
)]

#[path = "stand_in/caller.rs"]
mod caller;
#[path = "stand_in/world.rs"]
mod world;

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use sluice_tests::{
    lab::client::{Call, CallError},
    stand_in::{CaFiles, ConnectionLog, Direction},
    workloads::Policy,
};

use socket2::SockRef;

use caller::Caller;
use world::{APP, Family, World};

const SOON: Duration = Duration::from_secs(60);
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn spiffe(name: &str) -> Option<String> {
    Some(format!("spiffe://cluster.local/ns/d/sa/{name}"))
}

#[test]
fn pods_reach_each_other_through_the_tunnel_and_keep_their_addresses() {
    let world = World::new(&[]);
    for family in FAMILIES {
        let (a1, b1) = (world.address("a1", family), world.address("b1", family));
        assert_eq!(world.hello("a1", b1, APP), Ok(format!("b1 saw {a1}")));

        let line = world.line("na", |line| line.dst.ip() == b1);
        assert_eq!(line.direction, Direction::Outbound);
        assert_eq!((line.src.ip(), line.dst.port()), (a1, APP));
        assert_eq!(line.tunnel, Some(SocketAddr::new(b1, 15008)));
        assert_eq!(
            (line.src_identity, line.dst_identity),
            (spiffe("a1"), spiffe("b1"))
        );
        assert!(line.encrypted && line.error.is_none());

        let line = world.line("nb", |line| line.dst.ip() == b1);
        assert_eq!((line.direction, line.src.ip()), (Direction::Inbound, a1));
        assert_eq!(line.target, Some(SocketAddr::new(b1, APP)));
        assert_eq!(
            (line.src_identity, line.dst_identity),
            (spiffe("a1"), spiffe("b1"))
        );
        assert!(line.encrypted);
    }
    assert_eq!(
        world.untunnelled_packets(),
        0,
        "packets outside the tunnel on the wire"
    );
}

#[test]
fn a_service_address_leads_to_its_endpoint() {
    let world = World::new(&[]);
    for family in FAMILIES {
        let (a1, vip) = (world.address("a1", family), world.vip(family));
        assert_eq!(world.hello("a1", vip, 80), Ok(format!("b1 saw {a1}")));
        let line = world.line("na", |line| line.dst.ip() == vip);
        assert_eq!(line.service.as_deref(), Some("d/b1.d.svc.cluster.local"));
        assert_eq!(
            line.target,
            Some(SocketAddr::new(world.address("b1", family), APP))
        );
    }
    let error = world.hello("a1", world.vip(Family::V4), 81).unwrap_err();
    assert!(is_ended(&error), "{error:?}");
}

#[test]
fn a_pod_of_the_own_node_is_reached_through_the_tunnel_too() {
    let world = World::new(&[]);
    for family in FAMILIES {
        let (a1, a2) = (world.address("a1", family), world.address("a2", family));
        assert_eq!(world.hello("a1", a2, APP), Ok(format!("a2 saw {a1}")));
        let inbound =
            |line: &ConnectionLog| line.direction == Direction::Inbound && line.dst.ip() == a2;
        let line = world.line("na", inbound);
        assert!(line.encrypted);
        assert_eq!(line.src_identity, spiffe("a1"));
    }
}

#[test]
fn outside_the_mesh_traffic_passes_in_plain_text() {
    let world = World::new(&[]);
    for family in FAMILIES {
        let (a1, b1, u) = (
            world.address("a1", family),
            world.address("b1", family),
            world.address("u", family),
        );
        assert_eq!(world.hello("a1", u, APP), Ok(format!("u saw {a1}")));
        let line = world.line("na", |line| line.dst.ip() == u);
        assert!(!line.encrypted && line.tunnel.is_none());

        assert_eq!(world.hello("u", b1, APP), Ok(format!("b1 saw {u}")));
        let line = world.line("nb", |line| line.src.ip() == u);
        assert_eq!(line.direction, Direction::InboundPlain);
        assert!(!line.encrypted && line.src_identity.is_none());
    }
}

#[test]
fn strict_refuses_plain_text_and_takes_effect_while_running() {
    let world = World::new(&[]);
    let (b1, u) = (
        world.address("b1", Family::V4),
        world.address("u", Family::V4),
    );
    assert_eq!(world.hello("u", b1, APP), Ok(format!("b1 saw {u}")));

    world.set_policies(&[Policy::strict("d")]);
    let end = Instant::now() + SOON;
    while world.hello("u", b1, APP).is_ok() {
        assert!(Instant::now() < end, "STRICT had no effect");
    }
    for family in FAMILIES {
        let (a1, b1) = (world.address("a1", family), world.address("b1", family));
        assert_eq!(world.hello("u", b1, APP), Err(CallError::Reset));
        assert_eq!(world.hello("a1", b1, APP), Ok(format!("b1 saw {a1}")));
    }
    let line = world.line("nb", |line| line.denied);
    assert_eq!(line.error.as_deref(), Some("denied by policy d/strict"));
}

#[test]
fn policies_decide_by_the_callers_identity() {
    let principal = "cluster.local/ns/d/sa/a1";
    let world = World::new(&[Policy::deny("no-a1", "d", &[principal])]);
    for family in FAMILIES {
        let (a2, b1) = (world.address("a2", family), world.address("b1", family));
        let error = world.hello("a1", b1, APP).unwrap_err();
        assert!(is_ended(&error), "{error:?}");
        assert_eq!(world.hello("a2", b1, APP), Ok(format!("b1 saw {a2}")));
        let line = world.line("nb", |line| line.denied && line.dst.ip() == b1);
        assert_eq!(line.src_identity, spiffe("a1"));
        assert!(
            world
                .line("na", |line| line.denied && line.dst.ip() == b1)
                .encrypted
        );
    }
    world.set_policies(&[Policy::allow("a1-only", "d", &[principal])]);
    let b1 = world.address("b1", Family::V4);
    let end = Instant::now() + SOON;
    while world.hello("a1", b1, APP).is_err() {
        assert!(Instant::now() < end, "the new policy had no effect");
    }
    assert!(world.hello("a2", b1, APP).is_err());
    assert_eq!(world.hello("u", b1, APP), Err(CallError::Reset));
}

#[test]
fn twenty_megabytes_arrive_whole_in_both_directions() {
    let world = World::new(&[]);
    for family in FAMILIES {
        for (from, to) in [("a1", "b1"), ("a1", "a2"), ("a1", "u"), ("u", "b1")] {
            let call = Call::to(world.address(to, family), APP).patience(Duration::from_secs(30));
            let put = call.put(world.netns(from), 20);
            assert!(put.is_ok(), "{from} to {to} {family:?}: {put:?}");
            let get = call.get(world.netns(from), 20);
            assert!(get.is_ok(), "{to} to {from} {family:?}: {get:?}");
        }
    }
}

#[test]
fn each_direction_may_end_on_its_own() {
    let world = World::new(&[]);
    const BULK: usize = 5_000_000;
    for (from, to) in [("a1", "b1"), ("a1", "u")] {
        let address = SocketAddr::new(world.address(to, Family::V4), 9999);
        let listener = world
            .netns(to)
            .enter(|| TcpListener::bind(address))
            .unwrap();
        // Answers only when the question has ended, and with more than any buffer holds.
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = Vec::new();
            stream.read_to_end(&mut question).unwrap();
            stream.write_all(&vec![b'x'; BULK]).unwrap();
            question.len()
        });
        let mut stream = world
            .netns(from)
            .enter(|| TcpStream::connect(address))
            .unwrap();
        stream.write_all(&vec![b'q'; BULK]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(
            (answer.len(), server.join().unwrap()),
            (BULK, BULK),
            "{from} to {to}"
        );
    }
}

#[test]
fn what_cannot_be_reached_is_reset_at_once() {
    let world = World::new(&[]);
    let start = Instant::now();
    for (to, port) in [("b1", 9), ("u", 9), ("b1", 15008)] {
        let error = world
            .hello("a1", world.address(to, Family::V4), port)
            .unwrap_err();
        assert!(is_ended(&error), "{to}:{port}: {error:?}");
    }
    let error = world
        .hello("u", world.address("b1", Family::V4), 9)
        .unwrap_err();
    assert!(is_ended(&error), "{error:?}");
    // Its own listener as the original destination would be a loop.
    let error = world
        .hello("a1", world.own_address("na"), 15001)
        .unwrap_err();
    assert!(is_ended(&error), "{error:?}");
    let line = world.line("na", |line| line.dst.port() == 15001);
    assert!(line.error.unwrap().contains("the proxy's own address"));
    // No deadline of the proxy ran out meanwhile: the shortest is 5 s.
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_reset_of_either_end_reaches_the_other() {
    let world = World::new(&[]);
    for to in ["b1", "u"] {
        let address = SocketAddr::new(world.address(to, Family::V4), 9999);
        let listener = world
            .netns(to)
            .enter(|| TcpListener::bind(address))
            .unwrap();
        let connect = || {
            let mut client = world
                .netns("a1")
                .enter(|| TcpStream::connect(address))
                .unwrap();
            client.write_all(b"x").unwrap();
            let (mut server, _) = listener.accept().unwrap();
            server.read_exact(&mut [0]).unwrap();
            (client, server)
        };
        let (client, server) = connect();
        reset(client);
        assert_eq!(end(server), io::ErrorKind::ConnectionReset, "at {to}");
        let (client, server) = connect();
        reset(server);
        assert_eq!(end(client), io::ErrorKind::ConnectionReset, "from {to}");
    }
}

#[test]
fn a_proxy_that_is_stopped_ends_its_connections() {
    let world = World::new(&[]);
    let call = Call::to(world.address("b1", Family::V4), APP);
    let mut held = call.hold(world.netns("a1")).unwrap();
    held.tick().unwrap();
    world.stop("nb");
    let end = held.end(SOON);
    assert!(is_ended(&end), "{end:?}");
}

#[test]
fn the_tunnel_port_serves_workloads_of_the_mesh_and_their_own_addresses_only() {
    let world = World::new(&[]);
    let b1 = world.address("b1", Family::V4);
    let tunnel = SocketAddr::new(b1, 15008);
    let app = SocketAddr::new(b1, APP).to_string();
    let status = |caller: &Caller, method, authority: &str| {
        world
            .netns("u")
            .enter(|| caller.request(tunnel, method, authority))
    };
    let a1 = Caller::of(&world.ca, "spiffe://cluster.local/ns/d/sa/a1");
    assert_eq!(status(&a1, "CONNECT", &app), Ok(200));
    assert_eq!(status(&a1, "CONNECT", "10.91.1.2:8080"), Ok(400));
    assert_eq!(status(&a1, "CONNECT", "b1.d.svc:8080"), Ok(400));
    assert_eq!(status(&a1, "CONNECT", &tunnel.to_string()), Ok(400));
    assert_eq!(status(&a1, "CONNECT", &format!("{b1}:9")), Ok(503));
    assert_eq!(status(&a1, "GET", &app), Ok(405));

    // No workload, no certificate, and one of another CA.
    let node = Caller::of(&world.ca, "spiffe://cluster.local/node/na");
    assert!(status(&node, "CONNECT", &app).is_err());
    assert!(status(&Caller::anonymous(), "CONNECT", &app).is_err());
    let directory = tempfile::tempdir().unwrap();
    let other = CaFiles::create(directory.path()).unwrap();
    let foreign = Caller::of(&other, "spiffe://cluster.local/ns/d/sa/a1");
    assert!(status(&foreign, "CONNECT", &app).is_err());
    world.line("nb", |line| {
        line.error
            .as_deref()
            .is_some_and(|e| e.contains("TLS handshake"))
    });
}

/// Closes it with a reset.
fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

/// How the other side ended it.
fn end(mut stream: TcpStream) -> io::ErrorKind {
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
        .read(&mut [0])
        .map_or_else(|error| error.kind(), |_| io::ErrorKind::UnexpectedEof)
}

/// The proxy accepts before it knows whether it can connect, so a refusal is
/// a reset, which a caller may notice while it connects.
fn is_ended(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Reset | CallError::Refused | CallError::Closed
    )
}
