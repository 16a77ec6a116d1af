//! Answers as text for people. Pure.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use sluice_proto::{
    agent::v1::{
        ControllerLink, ExplainPodResponse, GetStatusResponse, Leaving, NodeFile, Pod, ProxyStatus,
        StateOrigin,
    },
    capture::v1::{PodState, PodStatus, Reason, Wanted},
};

/// The node, then its pods.
pub(super) fn node(node: &GetStatusResponse, pods: &[Pod], now: SystemTime) -> String {
    let mut out = String::new();
    let up = ago(node.started_at, now);
    row(
        &mut out,
        "node",
        &format!(
            "{} (sluice-agent {}, started {up})",
            node.node_name, node.version
        ),
    );
    row(
        &mut out,
        "controller",
        &controller(&node.controller.clone().unwrap_or_default(), now),
    );
    row(
        &mut out,
        "proxy",
        &proxy(&node.proxy.clone().unwrap_or_default()),
    );
    row(
        &mut out,
        "capture",
        if node.capture_ready {
            "ready"
        } else {
            "NOT READY"
        },
    );
    if !matches!(node.leaving(), Leaving::Unspecified | Leaving::No) {
        row(&mut out, "LEAVING", &node.message);
    }
    for file in &node.files {
        row(&mut out, "file", &kept(file));
    }
    row(&mut out, "audited", &audited(node, now));
    for finding in &node.findings {
        let text = format!(
            "{}: {}; {}",
            finding.check, finding.evidence, finding.remedy
        );
        row(&mut out, "FINDING", &text);
    }
    row(&mut out, "pods", &counts(node));
    if !pods.is_empty() {
        out.push('\n');
        table(&mut out, pods);
    }
    out
}

fn kept(file: &NodeFile) -> String {
    let state = match (file.current, file.present) {
        (true, _) => "in place",
        (false, true) => "NOT as it should be",
        (false, false) => "not there",
    };
    let why = match file.message.as_str() {
        "" => String::new(),
        message => format!(": {message}"),
    };
    let from = match file.source.as_str() {
        "" => String::new(),
        source => format!(" (by {source})"),
    };
    format!("{} {state}{from}{why}", file.path)
}

fn audited(node: &GetStatusResponse, now: SystemTime) -> String {
    if node.audited_at.is_none() {
        return "never".into();
    }
    let millis = Duration::from_micros(node.audit_micros).as_secs_f64() * 1000.0;
    let since = ago(node.audited_at, now);
    format!(
        "{since}, in {millis:.1} ms; {} repairs since start",
        node.repairs
    )
}

fn counts(node: &GetStatusResponse) -> String {
    let counts = node.pods.iter().filter(|count| count.count > 0);
    let counts: Vec<_> = counts
        .map(|count| format!("{} {}", count.count, state(count.state())))
        .collect();
    if counts.is_empty() {
        return "none".into();
    }
    counts.join(", ")
}

fn row(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key:<11} {}", printable(value));
}

fn controller(link: &ControllerLink, now: SystemTime) -> String {
    let since = ago(link.since, now);
    let connection = match (link.connected, link.endpoint.as_str()) {
        (true, endpoint) => format!("connected to {endpoint} ({since})"),
        (false, "") => "not connected yet".into(),
        (false, endpoint) => format!("NOT CONNECTED to {endpoint} ({since}): {}", link.last_error),
    };
    let revision = link.revision.as_ref().map_or(String::new(), |revision| {
        format!(
            ", revision pods {}, namespaces {}",
            revision.pods, revision.namespaces
        )
    });
    let origin = match link.origin() {
        StateOrigin::Controller => "state from the controller",
        StateOrigin::Disk => "state from disk, the last good one",
        StateOrigin::None | StateOrigin::Unspecified => {
            "no state yet: nothing is written to the kernel"
        }
    };
    format!("{connection}; {origin}{revision}")
}

fn proxy(proxy: &ProxyStatus) -> String {
    if proxy.netns.is_empty() {
        return "NONE known on this node".into();
    }
    let ready = if proxy.ready { "ready" } else { "NOT READY" };
    let mut text = format!(
        "{ready}, in {}, listens on {}",
        proxy.netns,
        ports(&proxy.listening)
    );
    if !proxy.missing.is_empty() {
        let _ = write!(text, ", NOT on {}", ports(&proxy.missing));
    }
    text
}

fn ports(ports: &[u32]) -> String {
    match ports {
        [] => "nothing".into(),
        _ => ports
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn table(out: &mut String, pods: &[Pod]) {
    let head = ["NAMESPACE", "NAME", "WANTED", "STATE", "ADDRESSES", "WHY"].map(String::from);
    let rows: Vec<[String; 6]> = pods.iter().map(cells).collect();
    let width = |column: usize| {
        let cells = rows
            .iter()
            .chain([&head])
            .map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    for row in [&head].into_iter().chain(&rows) {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn cells(pod: &Pod) -> [String; 6] {
    let status = pod.status.clone().unwrap_or_default();
    [
        printable(&pod.namespace),
        printable(&pod.name),
        wanted(pod.wanted()).into(),
        state(status.state()).into(),
        pod.addresses.join(","),
        printable(&why(&status)),
    ]
}

/// Reason, message, and what else is worth knowing.
fn why(status: &PodStatus) -> String {
    let mut parts = Vec::new();
    if status.reason() != Reason::Unspecified {
        parts.push(lower(status.reason().as_str_name(), "REASON_"));
    }
    if !status.message.is_empty() {
        parts.push(status.message.clone());
    }
    let mut text = parts.join(": ");
    if status.steered && status.state() != PodState::Captured {
        text.push_str(" [its TCP is held]");
    }
    text.trim_start().into()
}

/// One pod, with what was found.
pub(super) fn explained(explained: &ExplainPodResponse) -> String {
    let pod = explained.pod.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let mut out = String::new();
    row(
        &mut out,
        "pod",
        &format!("{}/{} ({})", pod.namespace, pod.name, pod.uid),
    );
    row(&mut out, "wanted", wanted(pod.wanted()));
    row(&mut out, "state", state(status.state()));
    let optional = [
        ("why", why(&status)),
        ("addresses", pod.addresses.join(", ")),
        ("interface", pod.interface.clone()),
        ("netns", pod.netns.clone()),
    ];
    for (key, value) in optional.iter().filter(|(_, value)| !value.is_empty()) {
        row(&mut out, key, value);
    }
    out.push_str("\nfound in the kernel just now:\n");
    if explained.evidence.is_empty() {
        out.push_str("  nothing is expected there for this pod\n");
    }
    for evidence in &explained.evidence {
        let found = if evidence.present {
            "present"
        } else {
            "ABSENT"
        };
        let _ = writeln!(out, "  {found:<8} {}", printable(&evidence.object));
    }
    if !explained.commands.is_empty() {
        out.push_str("\nto see the same, on the node:\n");
        for command in &explained.commands {
            let _ = writeln!(out, "  {}", printable(command));
        }
    }
    out
}

fn wanted(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::Unspecified => "-",
        Wanted::Nothing => "nothing",
        Wanted::Captured => "captured",
        Wanted::Releasing => "releasing",
        Wanted::Proxy => "proxy",
        Wanted::Unsupported => "unsupported",
    }
}

fn state(state: PodState) -> &'static str {
    match state {
        PodState::Unspecified => "-",
        PodState::Captured => "captured",
        PodState::Pending => "PENDING",
        PodState::Failed => "FAILED",
        PodState::Unsupported => "UNSUPPORTED",
        PodState::Released => "released",
    }
}

fn lower(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix)
        .to_lowercase()
        .replace('_', " ")
}

/// Names and messages come from outside: nothing in them may move the cursor.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn ago(at: Option<prost_types::Timestamp>, now: SystemTime) -> String {
    let at = at.and_then(|at| SystemTime::try_from(at).ok());
    let Some(elapsed) = at.and_then(|at| now.duration_since(at).ok()) else {
        return "just now".into();
    };
    let seconds = elapsed.as_secs();
    match seconds {
        0 => "just now".into(),
        1..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
