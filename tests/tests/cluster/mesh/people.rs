//! What a person types, and finds.

use std::fs;

use serde_json::Value;
use sluice_tests::cluster::{
    Cluster, Node,
    sluice::{self, CONDITION},
    tools,
};

use super::shop::{self, SHOP};

const SOCKET: &str = "unix:///run/sluice/agent.sock";

pub(super) fn for_people(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let node = cluster.kubectl(&["describe", "node", "na"]);
    let condition = node
        .lines()
        .find(|line| line.trim_start().starts_with(CONDITION));
    let condition = condition.unwrap_or_else(|| panic!("no {CONDITION} in\n{node}"));
    assert!(condition.contains("True"), "{condition}");
    let pods = cluster.kubectl(&[
        "get", "pods", "-n", SHOP, "-o",
        r"custom-columns=POD:.metadata.name,CAPTURED:.metadata.annotations.ambient\.istio\.io/redirection",
    ]);
    assert_eq!(pods.matches("enabled").count(), 4, "{pods}");
    let agent = |args: &[&str]| {
        let exec = [
            "exec",
            "-n",
            sluice::NAMESPACE,
            "ds/sluice-agent",
            "--",
            "sluice-agent",
        ];
        cluster.kubectl(&[&exec, args].concat())
    };
    let status = agent(&["status"]);
    for word in ["connected to ", "ready", "captured"] {
        assert!(status.contains(word), "no {word:?} in\n{status}");
    }
    let json: Value = serde_json::from_str(&agent(&["status", "--json"])).expect("JSON");
    assert!(json.is_object(), "{json}");
    // `ds/` is a pod of either node.
    let row = status
        .lines()
        .find(|line| line.starts_with(&format!("{SHOP} ")));
    let pod = row.and_then(|row| row.split_whitespace().nth(1));
    let pod = pod.unwrap_or_else(|| panic!("no pod of {SHOP} in\n{status}"));
    let explained = agent(&["explain", &format!("{SHOP}/{pod}")]);
    for word in ["captured", "nft list chain"] {
        assert!(explained.contains(word), "no {word:?} in\n{explained}");
    }
    events(cluster);
}

/// Events of the nodes say since when they capture.
fn events(cluster: &Cluster) {
    let events = cluster.kubectl(&[
        "get",
        "events",
        "-A",
        "--field-selector=involvedObject.kind=Node",
    ]);
    assert!(events.contains("CaptureReady"), "{events}");
    let noise = cluster.kubectl(&["get", "events", "-n", SHOP]);
    for word in ["CaptureFailed", "CaptureUnsupported"] {
        assert!(!noise.contains(word), "{noise}");
    }
}

/// Both services by reflection; the controller's as an operator and as nobody else.
pub(super) fn grpcurl(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let node = cluster.node("na");
    let services = call(node, &["-plaintext", SOCKET, "list"]).expect("the agent's services");
    for service in ["sluice.agent.v1.CniService", "sluice.agent.v1.NodeService"] {
        assert!(services.contains(service), "{services}");
    }
    let pods = call(
        node,
        &["-plaintext", SOCKET, "sluice.agent.v1.NodeService/ListPods"],
    );
    assert_eq!(captured(&pods.expect("the agent's pods")), 2);
    let address = controller(cluster);
    let (cert, key) = operator(cluster);
    let fleet = |more: &[&str]| {
        let operator = [
            "-insecure",
            "-cert",
            cert.as_str(),
            "-key",
            key.as_str(),
            &address,
        ];
        call(node, &[&operator, more].concat())
    };
    let services = fleet(&["list"]).expect("the controller's services");
    assert!(
        services.contains("sluice.controller.v1.FleetService"),
        "{services}"
    );
    let nodes = fleet(&["sluice.controller.v1.FleetService/ListNodes"]).expect("the nodes");
    let nodes: Value = serde_json::from_str(&nodes).expect("JSON of grpcurl");
    assert_eq!(
        nodes["nodes"].as_array().map(Vec::len),
        Some(2),
        "{nodes:#}"
    );
    let method = "sluice.controller.v1.FleetService/ListNodes";
    let anonymous = call(node, &["-insecure", "-max-time", "3", &address, method]);
    assert!(anonymous.is_err(), "answered to nobody: {anonymous:?}");
}

/// Certificate and key of an operator, as the controller makes them.
fn operator(cluster: &Cluster) -> (String, String) {
    let text = cluster.kubectl(&[
        "exec",
        "-n",
        sluice::NAMESPACE,
        "deploy/sluice-controller",
        "--",
        "sluice-controller",
        "operator-certificate",
        "tester",
    ]);
    let end = "-----END CERTIFICATE-----\n";
    let (cert, rest) = text
        .split_once(end)
        .unwrap_or_else(|| panic!("no certificate: {text}"));
    let key_end = "-----END PRIVATE KEY-----\n";
    let (key, _) = rest
        .split_once(key_end)
        .unwrap_or_else(|| panic!("no key: {rest}"));
    let write = |name: &str, text: String| {
        let path = cluster.dir().join(name);
        fs::write(&path, text).expect("write a certificate");
        path.display().to_string()
    };
    (
        write("operator.crt", format!("{cert}{end}")),
        write("operator.key", format!("{key}{key_end}")),
    )
}

fn controller(cluster: &Cluster) -> String {
    let ip = cluster.service_ips(sluice::NAMESPACE, sluice::CONTROLLER)[0];
    std::net::SocketAddr::new(ip, 15010).to_string()
}

fn call(node: &Node, args: &[&str]) -> Result<String, String> {
    let grpcurl = tools::grpcurl().display().to_string();
    let output = node.output(&grpcurl, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(text(&output.stderr))
}

fn captured(pods: &str) -> usize {
    let pods: Value = serde_json::from_str(pods).expect("JSON of grpcurl");
    let pods = pods["pods"].as_array().into_iter().flatten();
    pods.filter(|pod| pod["status"]["state"] == "POD_STATE_CAPTURED")
        .count()
}
