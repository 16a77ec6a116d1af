//! The proxy killed, replaced, and its namespace gone: nothing goes plain.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use sluice_tests::lab::{
    Lab,
    client::{Call, CallError},
    knobs::Knobs,
    kube_proxy::Form,
    pod::PodSpec,
    wait,
};

/// Refused is the first SYN, and not one that is sent again after a second.
const AT_ONCE: Duration = Duration::from_millis(700);
const TRIES: usize = 3;

fn up(lab: &Lab, from: &str, to: std::net::IpAddr) {
    wait::value("traffic again", wait::LONG, || {
        Call::to(to, 8080)
            .patience(Duration::from_secs(2))
            .hello(lab.ns(from), "up-again")
            .map_err(|error| format!("{error:?}"))
    });
}

#[test]
fn without_a_proxy_connections_are_refused_at_once_and_nothing_goes_plain() {
    let mut lab = Lab::meshed(Form::Iptables, Knobs::default());
    let wire = lab.record("na", "wire", "tcp");
    let (v4, v6) = (lab.v4(), lab.v6());
    lab.proxy_mut("na").kill();
    for (from, to, port) in [
        ("a1", v4.b1, 8080),
        ("a1", v6.b1, 8080),
        ("a1", v4.vip_b1, 80),
        ("b1", v4.a1, 8080),
        ("u1", v4.a1, 8080),
        ("u1", v6.a1, 8080),
        ("ext", v4.uplink, 30081),
        ("a1", v4.a2, 8080),
    ] {
        let refused = || {
            let start = Instant::now();
            let result = lab.hello(from, to, port, &format!("proxy-down-{from}"));
            assert!(result.is_err(), "{from} -> {to}: {result:?}");
            // b1's own proxy took the connection: how it fails is its affair.
            assert!(
                from == "b1" || result == Err(CallError::Refused),
                "{from} -> {to}: {result:?}"
            );
            from == "b1" || start.elapsed() < AT_ONCE
        };
        // A busy machine may be late; it is not late every time.
        assert!((0..TRIES).any(|_| refused()), "{from} -> {to}: late");
    }
    // The node itself, and the pods to the node, as before.
    let (host, pod) = (
        lab.hello("na", v4.a1, 8080, "p"),
        lab.hello("a1", v4.wire_a, 9000, "p"),
    );
    assert!(host.is_ok() && pod.is_ok(), "{host:?} {pod:?}");

    lab.start_proxy("na");
    up(&lab, "a1", v4.b1);
    up(&lab, "u1", v6.a1);
    assert_eq!(wire.count("proxy-down-a1"), 0);
    assert_eq!(wire.count("proxy-down-b1"), 0);
}

#[test]
fn with_the_proxys_namespace_gone_nothing_passes_uncaptured() {
    let mut lab = Lab::meshed(Form::Iptables, Knobs::default());
    let wire = lab.record("na", "wire", "tcp");
    let inside = lab.record("a1", "eth0", "tcp");
    let (v4, v6) = (lab.v4(), lab.v6());
    // Nobody said goodbye: the process and its namespace are just gone.
    lab.vanish("za");
    for (from, to, port) in [
        ("a1", v4.b1, 8080),
        ("a1", v6.b1, 8080),
        ("a1", v4.vip_b1, 80),
        ("a1", v4.ext, 8080),
        ("b1", v4.a1, 8080),
        ("u1", v4.a1, 8080),
        ("ext", v6.a1, 8080),
        ("ext", v4.uplink, 30081),
    ] {
        let call = Call::to(to, port).patience(Duration::from_millis(400));
        let result = call.hello(lab.ns(from), &format!("proxy-gone-{from}"));
        assert!(result.is_err(), "{from} -> {to}: {result:?}");
    }
    for from in ["a1", "b1"] {
        assert_eq!(wire.count(&format!("proxy-gone-{from}")), 0);
    }
    for from in ["b1", "u1", "ext"] {
        assert_eq!(inside.count(&format!("proxy-gone-{from}")), 0);
    }
    assert!(lab.hello("na", v4.a1, 8080, "probe").is_ok());
    assert!(lab.hello("na", v6.a1, 8080, "probe").is_ok());
    assert!(lab.hello("u1", v4.b1, 8080, "others").is_ok());

    // The agent holds on to nothing of it: its link goes, too.
    let link = lab.pod("za").link.clone();
    let gone = wait::until(wait::LONG, || {
        !lab.ns("na").run("ip", &["-o", "link"]).contains(&link)
    });
    assert!(gone, "the link of the dead namespace is still there");

    // A new one in a new namespace takes over.
    lab.remove_pod("za");
    let mut next = PodSpec::proxy("za", "na");
    next.host = 10;
    lab.add_pod(next);
    lab.start_proxy("na");
    up(&lab, "a1", v4.b1);
    up(&lab, "b1", v6.a1);
}

#[test]
fn a_swap_of_proxies_keeps_membership_with_no_moment_in_the_clear() {
    let mut lab = Lab::meshed(Form::Iptables, Knobs::default());
    let wire = lab.record("na", "wire", "tcp");
    let (v4, v6) = (lab.v4(), lab.v6());
    let (stop, passed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (a1, b1) = (lab.ns("a1").clone(), lab.ns("b1").clone());
    std::thread::scope(|scope| {
        let watch = |from, to| {
            let (stop, passed) = (&stop, &passed);
            scope.spawn(move || {
                let call = Call::to(to, 8080).patience(Duration::from_millis(300));
                while !stop.load(Ordering::SeqCst) {
                    if call.hello(&from, "leak-watch").is_ok() {
                        passed.fetch_add(1, Ordering::SeqCst);
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        };
        watch(a1.clone(), v4.b1);
        watch(a1, v6.b1);
        watch(b1, v4.a1);
        std::thread::sleep(Duration::from_millis(300));
        // As a DaemonSet's rolling update does it: out, then in.
        lab.stop_proxy("na");
        lab.remove_pod("za");
        std::thread::sleep(Duration::from_millis(500));
        let mut next = PodSpec::proxy("za", "na");
        next.host = 10;
        lab.add_pod(next);
        lab.start_proxy("na");
        up(&lab, "a1", v4.b1);
        up(&lab, "b1", v6.a1);
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::SeqCst);
    });
    assert!(passed.load(Ordering::SeqCst) > 0);
    assert_eq!(wire.count("hello-plain leak-watch"), 0);
}
