use super::*;

const A: &str = "spiffe://cluster.local/ns/d/sa/a";
const B: &str = "spiffe://cluster.local/ns/d/sa/b";

fn workload() -> Workload {
    Workload::hbone("d", "server", "na", &[])
}

fn allowed(policies: &[Policy], from: Option<&str>, port: u16) -> bool {
    let identity = from.map(|text| text.parse::<WorkloadIdentity>().unwrap());
    let caller = Caller {
        identity: identity.as_ref(),
        destination_port: port,
    };
    decide(policies, &workload(), caller).is_ok()
}

#[test]
fn without_policies_everyone_may() {
    assert!(allowed(&[], None, 80));
    assert!(allowed(&[Policy::strict("other")], None, 80));
}

#[test]
fn strict_wants_an_identity() {
    let policies = [Policy::strict("d")];
    assert!(!allowed(&policies, None, 80));
    assert!(allowed(&policies, Some(A), 80));
}

#[test]
fn deny_wins_over_allow() {
    let a = "cluster.local/ns/d/sa/a";
    let b = "cluster.local/ns/d/sa/b";
    let policies = [
        Policy::allow("allow", "d", &[a, b]),
        Policy::deny("deny", "d", &[b]),
    ];
    assert!(allowed(&policies, Some(A), 80));
    assert!(!allowed(&policies, Some(B), 80));
    assert!(!allowed(
        &policies,
        Some("spiffe://cluster.local/ns/d/sa/c"),
        80
    ));
    assert!(!allowed(&policies, None, 80));
}

#[test]
fn scopes() {
    let mut policy = Policy::strict("elsewhere");
    policy.scope = Scope::Global;
    assert!(!allowed(&[policy.clone()], None, 80));

    policy.scope = Scope::WorkloadSelector;
    assert!(allowed(&[policy.clone()], None, 80));
    let mut server = workload();
    server.authorization_policies = vec!["elsewhere/strict".to_owned()];
    let caller = Caller {
        identity: None,
        destination_port: 80,
    };
    let reason = decide(&[policy], &server, caller).unwrap_err();
    assert_eq!(reason, "denied by policy elsewhere/strict");
}

#[test]
fn ports_and_namespaces() {
    let mut policy = Policy::strict("d");
    policy.rules[0][0][0].not_destination_ports = vec![9090];
    assert!(!allowed(&[policy.clone()], None, 80));
    assert!(allowed(&[policy], None, 9090));

    let mut policy = Policy::allow("ns", "d", &[]);
    policy.rules[0][0][0].namespaces = vec![StringMatch::Prefix("d".to_owned())];
    assert!(allowed(&[policy.clone()], Some(A), 80));
    assert!(!allowed(&[policy], None, 80));
}

#[test]
fn an_empty_match_matches_nothing_and_an_empty_clause_everything() {
    let mut policy = Policy::deny("d", "d", &[]);
    assert!(allowed(&[policy.clone()], Some(A), 80));
    policy.rules = vec![vec![vec![]]];
    assert!(!allowed(&[policy], Some(A), 80));
}
