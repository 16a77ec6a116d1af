//! Writes the workload file.
//!
//! By hand, because ztunnel's YAML reader wants the variants of an enum as
//! tags (`!Exact "x"`) where ours would write maps. Everything else is JSON,
//! which is YAML too.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
};

use serde_json::{Value, json};

use super::{Action, Match, Policy, Protocol, Scope, Service, StringMatch, Workload, Workloads};

type PortMap = BTreeMap<u16, u16>;

impl Workloads {
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        section(&mut text, "workloads", self.workloads.iter().map(workload));
        section(&mut text, "services", self.services.iter().map(service));
        section(&mut text, "policies", self.policies.iter().map(policy));
        text
    }
}

fn section(text: &mut String, name: &str, lines: impl ExactSizeIterator<Item = impl Display>) {
    if lines.len() == 0 {
        let _ = writeln!(text, "{name}: []");
        return;
    }
    let _ = writeln!(text, "{name}:");
    for line in lines {
        let _ = writeln!(text, "- {line}");
    }
}

fn workload(workload: &Workload) -> String {
    let protocol = match workload.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Hbone => "HBONE",
    };
    let ports = |(key, ports): (&String, &PortMap)| format!("{}: {}", quoted(key), port_map(ports));
    let services: Vec<_> = workload.services.iter().map(ports).collect();
    let mut text = fields(&[
        ("uid", json!(workload.uid)),
        ("name", json!(workload.name)),
        ("namespace", json!(workload.namespace)),
        ("serviceAccount", json!(workload.service_account)),
        ("trustDomain", json!(workload.trust_domain)),
        ("workloadIps", json!(workload.workload_ips)),
        ("protocol", json!(protocol)),
        ("node", json!(workload.node)),
        ("network", json!(workload.network)),
        (
            "authorizationPolicies",
            json!(workload.authorization_policies),
        ),
    ]);
    let _ = write!(text, ", services: {{{}}}", services.join(", "));
    format!("{{{text}}}")
}

fn service(service: &Service) -> String {
    let vips: Vec<_> = service
        .vips
        .iter()
        .map(|vip| format!("/{}", vip.0))
        .collect();
    let text = fields(&[
        ("name", json!(service.name)),
        ("namespace", json!(service.namespace)),
        ("hostname", json!(service.hostname)),
        ("vips", json!(vips)),
    ]);
    format!("{{{text}, ports: {}}}", port_map(&service.ports))
}

fn policy(policy: &Policy) -> String {
    let scope = match policy.scope {
        Scope::Global => "Global",
        Scope::Namespace => "Namespace",
        Scope::WorkloadSelector => "WorkloadSelector",
    };
    let action = match policy.action {
        Action::Allow => "Allow",
        Action::Deny => "Deny",
    };
    let text = fields(&[
        ("name", json!(policy.name)),
        ("namespace", json!(policy.namespace)),
        ("scope", json!(scope)),
        ("action", json!(action)),
    ]);
    let clause = |matches: &Vec<Match>| list(matches.iter().map(one_match));
    let rule = |clauses: &Vec<Vec<Match>>| list(clauses.iter().map(clause));
    format!("{{{text}, rules: {}}}", list(policy.rules.iter().map(rule)))
}

fn one_match(one: &Match) -> String {
    let strings = [
        ("namespaces", &one.namespaces),
        ("notNamespaces", &one.not_namespaces),
        ("principals", &one.principals),
        ("notPrincipals", &one.not_principals),
    ];
    let ports = [
        ("destinationPorts", &one.destination_ports),
        ("notDestinationPorts", &one.not_destination_ports),
    ];
    let strings = strings
        .into_iter()
        .filter(|(_, matches)| !matches.is_empty())
        .map(|(name, matches)| format!("{name}: {}", list(matches.iter().map(string_match))));
    let ports = ports
        .into_iter()
        .filter(|(_, ports)| !ports.is_empty())
        .map(|(name, ports)| format!("{name}: {}", list(ports.iter().map(u16::to_string))));
    format!(
        "{{{}}}",
        strings.chain(ports).collect::<Vec<_>>().join(", ")
    )
}

fn string_match(one: &StringMatch) -> String {
    match one {
        StringMatch::Exact(text) => format!("!Exact {}", quoted(text)),
        StringMatch::Prefix(text) => format!("!Prefix {}", quoted(text)),
        StringMatch::Suffix(text) => format!("!Suffix {}", quoted(text)),
        StringMatch::Presence() => "!Presence []".to_owned(),
    }
}

fn fields(fields: &[(&str, Value)]) -> String {
    let one = |(name, value): &(&str, Value)| format!("{name}: {value}");
    fields.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Port numbers are numbers as keys, which JSON does not have.
fn port_map(ports: &PortMap) -> String {
    let one = |(from, to): (&u16, &u16)| format!("{from}: {to}");
    format!(
        "{{{}}}",
        ports.iter().map(one).collect::<Vec<_>>().join(", ")
    )
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn quoted(text: &str) -> String {
    json!(text).to_string()
}
