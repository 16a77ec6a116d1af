//! Joining and leaving the mesh, as the ends of connections see it.

use std::time::{Duration, Instant};

use sluice_proto::capture::v1::PodState;
use sluice_tests::lab::{
    Lab,
    client::{Call, CallError, Held},
    wait,
};

/// Two nodes where everything runs and nobody is enrolled.
fn not_enrolled() -> Lab {
    let mut lab = Lab::new(2);
    for pod in lab.table_pods() {
        lab.pod_before(pod);
    }
    lab.folder.namespace("shop", false);
    lab.folder.namespace("plain", false);
    lab.start_all();
    lab
}

/// Keeps using a connection until it ends; how, and after how long.
fn how_it_ends(held: &mut Held) -> (CallError, Duration) {
    let start = Instant::now();
    while start.elapsed() < wait::LONG {
        if let Err(error) = held.tick() {
            return (error, start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the connection was still alive after {:?}", start.elapsed());
}

#[test]
fn joining_resets_live_connections_and_never_hangs_them() {
    let lab = not_enrolled();
    let hold = |from: &str, to: std::net::IpAddr| {
        Call::to(to, 8080).hold(lab.ns(from)).expect("a connection")
    };
    let (v4, v6) = (lab.v4(), lab.v6());
    let mut live = vec![
        ("a1 to b1", hold("a1", v4.b1)),
        ("a1 to b1, IPv6", hold("a1", v6.b1)),
        ("a1 to a2", hold("a1", v4.a2)),
        ("u1 to a1", hold("u1", v4.a1)),
        ("u1 to b1, IPv6", hold("u1", v6.b1)),
        ("a1 to outside", hold("a1", v4.ext)),
        ("outside to a1", hold("ext", v4.a1)),
    ];
    // The kubelet's own connection is not the pod's to lose.
    let mut probe = hold("na", v4.a1);

    lab.folder.namespace("shop", true);
    for (what, held) in &mut live {
        let (error, after) = how_it_ends(held);
        assert_eq!(error, CallError::Reset, "{what} after {after:?}");
    }
    lab.wait_captured(&["a1", "a2", "b1"]);
    probe.tick().expect("a connection from the node goes on");

    let wire = lab.record("na", "wire", "tcp");
    for family in [&v4, &v6] {
        let answer = lab.hello("a1", family.b1, 8080, "joined");
        assert_eq!(answer, Ok(format!("b1 saw {}", family.a1)));
    }
    assert_eq!(wire.count("hello-plain joined"), 0);
}

#[test]
fn leaving_goes_back_to_plain_traffic() {
    let lab = not_enrolled();
    lab.folder.namespace("shop", true);
    lab.wait_captured(&["a1", "a2", "b1"]);
    let v4 = lab.v4();
    assert!(lab.through_proxy("a1", "b1"));

    let mut held = Call::to(v4.b1, 8080).hold(lab.ns("a1")).unwrap();
    lab.folder.namespace("shop", false);
    let (error, after) = how_it_ends(&mut held);
    assert!(
        matches!(error, CallError::Reset | CallError::Closed),
        "{error:?} after {after:?}"
    );
    for pod in ["a1", "a2", "b1"] {
        lab.wait_state(pod, PodState::Released);
    }

    let wire = lab.record("na", "wire", "tcp");
    let answer = lab.hello("a1", v4.b1, 8080, "left-the-mesh");
    assert_eq!(answer, Ok(format!("b1 saw {}", v4.a1)));
    assert_eq!(wire.count("hello-plain left-the-mesh"), 1);
    assert!(!lab.through_proxy("a1", "b1"));
}

#[test]
fn one_pod_opts_out_by_label_and_in_again() {
    let mut lab = not_enrolled();
    lab.folder.namespace("shop", true);
    lab.wait_captured(&["a1", "a2"]);
    let pod = lab.pods.get_mut("a2").unwrap();
    let enrolled = pod.spec.document(&pod.addresses());
    let opted_out = pod.spec.clone().opted_out().document(&pod.addresses());

    lab.folder.pod(&opted_out);
    lab.wait_state("a2", PodState::Released);
    assert!(!lab.through_proxy("a2", "u1"));
    assert!(lab.through_proxy("a1", "u1"));

    lab.folder.pod(&enrolled);
    lab.wait_captured(&["a2"]);
    assert!(lab.through_proxy("a2", "u1"));
}
