//! Debian's Prometheus, and what it finds by the pods' annotations.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use sluice_tests::{
    cluster::{Cluster, SETTLE, files, sluice, tools},
    lab::{command, http, process::Process, wait},
};

use super::shop;

const PORT: u16 = 19090;
/// A series of the agent and one of the controller, and how many have it.
const SERIES: [(&str, usize); 4] = [
    ("sluice_pods{state=\"captured\"}", 2),
    ("sluice_proxy_ready == 1", 2),
    ("sluice_controller_streams", 2),
    ("sum(sluice_controller_streams) == 2", 1),
];

pub(super) fn prometheus(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let dir = cluster.dir().join("prometheus");
    let config = dir.join("prometheus.yaml");
    files::write_json(&config, &configuration(cluster));
    let mut command = tools::program("/usr/bin/prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            dir.join("data").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{PORT}"));
    let log = dir.join("prometheus.log");
    let _prometheus = Process::start(&cluster.control.netns, "prometheus", command, &log);
    let targets = wait::value("four targets to be up", SETTLE, || {
        let answer = query(cluster, "/api/v1/targets?state=active")?;
        let targets = answer["data"]["activeTargets"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let up = targets
            .iter()
            .filter(|target| target["health"] == "up")
            .count();
        if (targets.len(), up) == (4, 4) {
            Ok(targets)
        } else {
            Err(format!("{targets:#?}"))
        }
    });
    for (series, count) in SERIES {
        wait::value(series, SETTLE, || {
            let answer = query(cluster, &format!("/api/v1/query?query={}", encoded(series)))?;
            let found = answer["data"]["result"].as_array().map_or(0, Vec::len);
            (found == count)
                .then_some(())
                .ok_or_else(|| format!("{answer:#}"))
        });
    }
    for target in targets {
        let url = target["scrapeUrl"].as_str().expect("a URL");
        check_metrics(cluster, url);
    }
}

/// What a Prometheus finds by the pods' annotations. Debian's is built without the
/// API client that would do so itself.
fn configuration(cluster: &Cluster) -> Value {
    let pods = cluster.get(&["-n", sluice::NAMESPACE, "pods"]);
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    let targets = pods.iter().filter_map(|pod| {
        let said = |what: &str| {
            let annotations = &pod["metadata"]["annotations"];
            annotations[format!("prometheus.io/{what}")].as_str()
        };
        let ip: IpAddr = pod["status"]["podIP"].as_str()?.parse().ok()?;
        let at = SocketAddr::new(ip, said("port")?.parse().ok()?).to_string();
        let labels = json!({"pod": pod["metadata"]["name"], "__metrics_path__": said("path")?});
        (said("scrape")? == "true").then(|| json!({"targets": [at], "labels": labels}))
    });
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "pods", "static_configs": targets.collect::<Vec<_>>()}],
    })
}

fn query(cluster: &Cluster, path: &str) -> Result<Value, String> {
    let at = (Ipv4Addr::LOCALHOST, PORT).into();
    let text = http::body(&cluster.control.netns, at, path).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
}

fn encoded(query: &str) -> String {
    query.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// What is served is what Prometheus wants it to be.
fn check_metrics(cluster: &Cluster, url: &str) {
    let at = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split('/').next());
    let at = at.and_then(|at| at.parse().ok());
    let at = at.unwrap_or_else(|| panic!("{url} has no address"));
    let metrics = http::body(&cluster.control.netns, at, "/metrics").expect("metrics");
    let mut promtool = command::bounded("promtool");
    promtool.args(["check", "metrics"]);
    let output = command::feed(promtool, &metrics);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{url}: {said}");
}
