//! The table: every pair of ends, both families, on nodes that are not ours
//! alone.

use sluice_tests::lab::{
    Lab,
    knobs::{Forward, Knobs},
    kube_proxy::Form,
    rows::Row,
};

/// Rows of the table in both families, the link-local one not counted.
const ROWS: usize = 70;

fn rows(lab: &Lab) -> Vec<Row> {
    let mut rows = lab.v4().rows();
    rows.extend(lab.v6().rows());
    assert_eq!(rows.len(), ROWS);
    rows.push(lab.link_local_row());
    rows
}

/// Plays every row; then looks at the wire and into the proxies' logs.
#[track_caller]
fn check(lab: &Lab, what: &str) {
    let wire = lab.record("na", "wire", "tcp");
    let marks = Marks::of(lab);
    let rows = rows(lab);
    let mut problems: Vec<String> = rows.iter().filter_map(|row| row.problem(lab)).collect();
    let bytes = wire.bytes();
    for row in rows.iter().filter(|row| row.mesh) {
        let line = format!("hello-plain {}\n", row.tag);
        if bytes
            .windows(line.len())
            .any(|window| window == line.as_bytes())
        {
            problems.push(format!("{row}: in the clear on the wire"));
        }
        problems.extend(marks.unseen(lab, row));
    }
    assert!(
        problems.is_empty(),
        "{what}: {} of {ROWS} rows\n{}",
        problems.len(),
        problems.join("\n")
    );
    // The rows above prove nothing if the wire was not seen at all.
    let canary = b"hello-plain v4-uncaptured-remote\n";
    assert!(bytes.windows(canary.len()).any(|window| window == canary));
    assert!(wire.packets("tcp port 15008") > 0, "nothing on port 15008");
}

/// Where the proxies' logs were before the rows.
struct Marks {
    na: usize,
    nb: usize,
}

impl Marks {
    fn of(lab: &Lab) -> Self {
        let [na, nb] = ["na", "nb"].map(|node| lab.proxy(node).mark());
        Self { na, nb }
    }

    /// What the proxies of source and destination ought to have logged of a row
    /// and have not.
    fn unseen(&self, lab: &Lab, row: &Row) -> Option<String> {
        let addresses = if row.to.is_ipv4() { lab.v4() } else { lab.v6() };
        let source = addresses.of(row.from);
        let pod = addresses.behind(row.to.ip());
        let at = |address| {
            if address == addresses.b1 {
                (lab.proxy("nb"), self.nb)
            } else {
                (lab.proxy("na"), self.na)
            }
        };
        let (proxy, mark) = at(source);
        if !proxy.saw_outbound(mark, source, row.to, true) {
            return Some(format!("{row}: not in the log of the source's proxy"));
        }
        let (proxy, mark) = at(pod);
        (!proxy.saw_inbound(mark, source, pod, true))
            .then(|| format!("{row}: not in the log of the destination's proxy"))
    }
}

fn table(rp_filter: u8, form: Form, policies: &[(Forward, bool)]) {
    let knobs = Knobs {
        rp_filter,
        ..Knobs::default()
    };
    let lab = Lab::meshed(form, knobs);
    for &(forward, host_firewall) in policies {
        let knobs = Knobs {
            rp_filter,
            forward,
            host_firewall,
        };
        for node in &lab.nodes {
            knobs.apply(&node.netns);
        }
        check(&lab, &format!("{form:?} {knobs:?}"));
    }
}

const POLICIES: [(Forward, bool); 3] = [
    (Forward::Open, false),
    (Forward::Kube, false),
    (Forward::Calico, false),
];

#[test]
fn table_without_reverse_path_check() {
    table(0, Form::Iptables, &POLICIES);
}

#[test]
fn table_with_strict_reverse_path_check() {
    table(1, Form::Iptables, &POLICIES);
}

#[test]
fn table_with_loose_reverse_path_check() {
    table(2, Form::Iptables, &POLICIES);
}

#[test]
fn table_with_nft_services() {
    table(
        1,
        Form::Nft,
        &[(Forward::Kube, false), (Forward::Open, true)],
    );
}

#[test]
fn table_with_firewalls_by_connection_state() {
    table(
        1,
        Form::Iptables,
        &[(Forward::Stateful, true), (Forward::Calico, true)],
    );
}

#[test]
fn bulk_arrives_whole_in_every_direction() {
    use sluice_tests::lab::client::Call;

    let lab = Lab::meshed(Form::Iptables, Knobs::default());
    let (v4, v6) = (lab.v4(), lab.v6());
    // ztunnels of the generation that runs here lose data under back-pressure,
    // whatever the steering: small with them.
    let megabytes = if lab.proxy("na").is_real() { 0 } else { 20 };
    for (from, to, port) in [
        ("a1", v4.b1, 8080),
        ("a1", v6.b1, 8080),
        ("a1", v4.vip_b1, 80),
        ("b1", v4.a1, 8080),
        ("a1", v6.a2, 8080),
        ("u1", v4.a1, 8080),
        ("na", v4.a1, 8080),
        ("a1", v4.ext, 8080),
    ] {
        let call = Call::to(to, port);
        let put = call.put(lab.ns(from), megabytes);
        let get = call.get(lab.ns(from), megabytes);
        assert!(
            put.is_ok() && get.is_ok(),
            "{from} -> {to}: {put:?} {get:?}"
        );
    }
}

#[test]
fn a_pod_and_the_proxy_for_it_use_the_same_ports_at_once() {
    use sluice_tests::lab::client::Call;

    let lab = Lab::meshed(Form::Iptables, Knobs::default());
    // The proxy dials b1 from a1's address; a few hundred connections from a
    // narrow port range make the same addresses and ports meet.
    for name in ["a1", "zb"] {
        lab.ns(name)
            .sysctl("net.ipv4.ip_local_port_range", "40000 40063");
    }
    let b1 = lab.pod("b1").ip4;
    let mut held = Vec::new();
    for _ in 0..48 {
        held.push(Call::to(b1, 8080).hold(lab.ns("a1")).expect("a connection"));
    }
    for connection in &mut held {
        connection.tick().expect("still answered");
    }
}
