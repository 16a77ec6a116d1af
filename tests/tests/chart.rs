//! The chart, as Helm renders it: no cluster is needed.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not take for tests"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use sluice_tests::cluster::tools::{self, project};

const CHART: &str = "deploy/chart";

fn helm() -> PathBuf {
    let named = env::var_os("SLUICE_HELM").map(PathBuf::from);
    let helm = named.unwrap_or_else(|| tools::kubernetes("helm"));
    assert!(
        helm.is_file(),
        "{} is not there; `scripts/setup cluster` builds it",
        helm.display()
    );
    helm
}

/// Runs `helm` in the repository; its output, or what it complains of.
#[expect(clippy::disallowed_methods, reason = "Helm is a program")]
fn run(arguments: &[&str], values: &str) -> Result<String, String> {
    let mut child = Command::new(helm())
        .args(arguments)
        .current_dir(project())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(values.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn template(values: &str) -> Result<String, String> {
    run(
        &[
            "template",
            "sluice",
            CHART,
            "-n",
            "sluice-system",
            "-f",
            "-",
        ],
        values,
    )
}

/// The rendered objects by kind and name.
fn objects(values: &str) -> BTreeMap<String, Value> {
    let text = template(values).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let named = documents.into_iter().filter(|it| !it.is_null()).map(|it| {
        let name = |path: &str| it.pointer(path).unwrap().as_str().unwrap().to_owned();
        (format!("{} {}", name("/kind"), name("/metadata/name")), it)
    });
    named.collect()
}

fn agent(values: &str) -> Value {
    objects(values)["DaemonSet sluice-agent"].clone()
}

fn host_path(daemon_set: &Value, volume: &str) -> String {
    let volumes = daemon_set.pointer("/spec/template/spec/volumes").unwrap();
    let found = volumes
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["name"] == volume);
    found.unwrap()["hostPath"]["path"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn arguments(object: &Value) -> Vec<String> {
    let all = object
        .pointer("/spec/template/spec/containers/0/args")
        .unwrap();
    let texts = all.as_array().unwrap().iter();
    texts.map(|it| it.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_defaults() {
    insta::assert_snapshot!(template("").unwrap());
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    run(&["lint", "--strict", CHART], "").unwrap();
}

#[test]
fn the_plain_manifests_are_current() {
    #[expect(clippy::disallowed_methods, reason = "as `make manifests` does")]
    let output = Command::new(project().join("scripts/manifests"))
        .env("SLUICE_HELM", helm())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let kept = fs::read_to_string(project().join("deploy/manifests/sluice.yaml")).unwrap();
    let now = String::from_utf8(output.stdout).unwrap();
    assert!(kept == now, "run `make manifests`");
}

#[test]
fn platforms_have_their_own_paths() {
    let usual = ["/opt/cni/bin", "/etc/cni/net.d", "/var/run/netns"];
    let k3s_conf = "/var/lib/rancher/k3s/agent/etc/cni/net.d";
    for (platform, [bin, conf, netns]) in [
        ("", usual),
        ("eks", usual),
        ("gke", ["/home/kubernetes/bin", usual[1], usual[2]]),
        ("k3s", ["/var/lib/rancher/k3s/data/cni", k3s_conf, usual[2]]),
        ("k3d", ["/bin", k3s_conf, usual[2]]),
        (
            "microk8s",
            [
                "/var/snap/microk8s/current/opt/cni/bin",
                "/var/snap/microk8s/current/args/cni-network",
                usual[2],
            ],
        ),
        ("minikube", [usual[0], usual[1], "/var/run/docker/netns"]),
        (
            "openshift",
            ["/var/lib/cni/bin", "/etc/kubernetes/cni/net.d", usual[2]],
        ),
    ] {
        let agent = agent(&format!("global: {{platform: '{platform}'}}"));
        assert_eq!(host_path(&agent, "cni-bin"), bin, "{platform}");
        assert_eq!(host_path(&agent, "cni-conf"), conf, "{platform}");
        assert_eq!(host_path(&agent, "netns"), netns, "{platform}");
    }
    let set = agent("{global: {platform: k3s}, cni: {cniBinDir: /mine}}");
    assert_eq!(host_path(&set, "cni-bin"), "/mine", "what is set counts");
}

#[test]
fn folders_that_nobody_names_are_discovered_if_that_is_asked_for() {
    let flags = |values: &str| {
        let agent = agent(values);
        let is_ours = |it: &String| it.contains("cni-") && !it.contains("conf-name");
        let flags: Vec<String> = arguments(&agent).into_iter().filter(is_ours).collect();
        let volumes = agent.pointer("/spec/template/spec/volumes").unwrap();
        let has_root = volumes
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it["hostPath"]["path"] == "/");
        (flags.join(" "), has_root)
    };
    let own = |flags: &str| format!("{flags} --cni-mode=own");
    let usual = own("--cni-bin-dir=/opt/cni/bin --cni-conf-dir=/etc/cni/net.d");
    assert_eq!(flags(""), (usual, false));
    assert_eq!(
        flags("cni: {discover: true}"),
        (own("--cni-discover"), true)
    );
    let gke = "{global: {platform: gke}, cni: {discover: true}}";
    let half = own("--cni-discover --cni-bin-dir=/home/kubernetes/bin");
    assert_eq!(flags(gke), (half, true));
    // What is named counts, and needs no more than that.
    let both = "cni: {discover: true, cniBinDir: /b, cniConfDir: /c}";
    assert_eq!(
        flags(both),
        (own("--cni-bin-dir=/b --cni-conf-dir=/c"), false)
    );
    let chained =
        "{istioOwnedCNIConfig: false, cniConfFileName: 10-x.conf, cniBinDir: /b, cniConfDir: /c}";
    let wanted =
        "--cni-bin-dir=/b --cni-conf-dir=/c --cni-mode=chained --cni-conf-primary=10-x.conf";
    assert_eq!(flags(chained).0, wanted);
}

#[test]
fn platforms_have_what_else_they_need() {
    let quota = "ResourceQuota sluice-critical-pods";
    let constraints = "SecurityContextConstraints sluice-agent";
    let usual = objects("");
    assert!(!usual.contains_key(quota) && !usual.contains_key(constraints));
    assert!(objects("global: {platform: gke}").contains_key(quota));
    assert!(objects("resourceQuotas: {enabled: true}").contains_key(quota));
    let openshift = objects("global: {platform: openshift}");
    assert!(openshift.contains_key(constraints));
    let list = "--cni-conf-name=00-00-sluice.conflist".to_owned();
    assert!(
        arguments(&openshift["DaemonSet sluice-agent"]).contains(&list),
        "before 00-multus.conf"
    );
}

/// (values, name in the refusal, what to do)
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "cni: {ambient: {redirectMode: ebpf}}",
        "cni.ambient.redirectMode=ebpf",
        "set it to iptables",
    ),
    (
        "cni: {ambient: {redirectMode: inpod}}",
        "cni.ambient.redirectMode=inpod",
        "set it to iptables",
    ),
    (
        "cni: {ambient: {redirectMode: x}}",
        "cni.ambient.redirectMode=x",
        "set it to iptables",
    ),
    (
        "ambient: {enabled: false}",
        "cni.ambient.enabled=false",
        "leave it out",
    ),
    (
        "ambient: {dnsCapture: true}",
        "cni.ambient.dnsCapture=true",
        "set it to false",
    ),
    (
        "ambient: {ipv6: false}",
        "cni.ambient.ipv6=false",
        "leave it out",
    ),
    (
        "ambient: {reconcileIptablesOnStartup: false}",
        "cni.ambient.reconcileIptablesOnStartup=false",
        "leave it out",
    ),
    (
        "ambient: {shareHostNetworkNamespace: false}",
        "cni.ambient.shareHostNetworkNamespace=false",
        "leave it out",
    ),
    (
        "cni: {repair: {enabled: true}}",
        "cni.repair.enabled=true",
        "set it to false",
    ),
    ("cni: {chained: false}", "cni.chained=false", "leave it out"),
    ("provider: multus", "cni.provider=multus", "leave it out"),
    (
        "cni: {cniConfFileName: 02-sluice.conflist}",
        "cni.cniConfFileName=02-sluice.conflist",
        "name the primary network's",
    ),
    (
        "cni: {psp_cluster_role: x}",
        "cni.psp_cluster_role=x",
        "pod-security.kubernetes.io/enforce",
    ),
    (
        "{global: {platform: openshift}, cni: {cniConfDir: /etc/cni/multus/net.d}}",
        "cni.cniConfDir=/etc/cni/multus/net.d",
        "leave it out",
    ),
];

#[test]
fn what_cannot_mean_the_same_is_refused_by_name_with_the_remedy() {
    for (values, name, remedy) in REFUSED {
        let error = template(values).unwrap_err();
        assert!(
            error.contains(name) && error.contains(remedy),
            "{values}: {error}"
        );
    }
    let error = template("{chained: false, cni: {repair: {enabled: true}}}").unwrap_err();
    let both = error.contains("cni.chained") && error.contains("cni.repair");
    assert!(both, "all at once: {error}");
}

#[test]
fn unknown_values_and_wrong_ones_are_refused_by_name() {
    for (values, name) in [
        ("surprise: 1", "surprise"),
        ("cni: {surprise: 1}", "surprise"),
        ("cni: {ambient: {surprise: 1}}", "surprise"),
        ("cni: {hub: docker.io/istio}", "hub"),
        ("agent: {surprise: 1}", "surprise"),
        ("global: {platform: mars}", "platform"),
        ("agent: {onUnknownPod: maybe}", "onUnknownPod"),
        ("cni: {logLevel: LOUD}", "logLevel"),
        ("cni: {cniBinDir: relative}", "cniBinDir"),
        ("cni: {cniConfFileName: a/b.conflist}", "cniConfFileName"),
        ("cni: {cniConfFileName: b}", "cniConfFileName"),
        ("cni: {discover: maybe}", "discover"),
        ("cni: {excludeNamespaces: 'a,b'}", "excludeNamespaces"),
        (
            "cni: {istioOwnedCNIConfigFileName: ../x.conflist}",
            "istioOwnedCNIConfigFileName",
        ),
        ("controller: {replicas: 0}", "replicas"),
        ("proxy: {labels: {app: 'a,b'}}", "labels"),
        ("listenAddress: everywhere", "listenAddress"),
    ] {
        let error = template(values).unwrap_err();
        assert!(error.contains(name), "{values}: {error}");
    }
}

#[test]
fn istios_values_mean_the_same_under_cni_and_at_the_top() {
    let values = "{chained: true, istioOwnedCNIConfig: true, provider: default, privileged: true,
        cniBinDir: /b, cniConfDir: /c, cniNetnsDir: /n, istioOwnedCNIConfigFileName: 01-x.conflist,
        excludeNamespaces: [a, sluice-system], logLevel: none, psp_cluster_role: '',
        ambient: {enabled: true, dnsCapture: false, ipv6: true, configDir: /conf,
                  enablementSelectors: [{podSelector: {matchLabels: {x: 'y'}}}]},
        repair: {enabled: false, labelPods: true}}";
    let top = objects(values);
    assert_eq!(top, objects(&format!("cni: {values}")));
    let agent = &top["DaemonSet sluice-agent"];
    assert_eq!(host_path(agent, "ambient-config"), "/conf");
    let flags = arguments(agent);
    let namespaces = "--excluded-namespaces=a,sluice-system,istio-system";
    for flag in [namespaces, "--cni-conf-name=01-x.conflist"] {
        assert!(flags.iter().any(|it| it == flag), "{flag}: {flags:?}");
    }
    let selectors = r#"--enablement-selectors=[{"podSelector":{"matchLabels":{"x":"y"}}}]"#;
    let flags = arguments(&top["Deployment sluice-controller"]);
    for flag in [namespaces, selectors] {
        assert!(flags.iter().any(|it| it == flag), "{flag}: {flags:?}");
    }
    let security = "/spec/template/spec/containers/0/securityContext/privileged";
    assert_eq!(agent.pointer(security), Some(&json!(true)));
}

#[test]
fn what_the_converter_prints_is_accepted() {
    for name in [
        "the_ambient_document",
        "the_document_for_multus",
        "an_empty_document_asks_for_the_defaults",
    ] {
        let path = format!(
            "controller/src/istio_operator/snapshots/sluice_controller__istio_operator__tests__{name}.snap"
        );
        let text = fs::read_to_string(project().join(path)).unwrap();
        let values = text.splitn(3, "---\n").nth(2).unwrap();
        template(values).unwrap();
    }
}

#[test]
fn the_agent_may_do_nothing_at_the_api_server() {
    let all = objects("");
    for (name, binding) in all.iter().filter(|(name, _)| name.contains("Binding ")) {
        let subjects = binding["subjects"].as_array();
        let mut subjects = subjects.into_iter().flatten();
        assert!(subjects.all(|it| it["name"] != "sluice-agent"), "{name}");
    }
    let pod = &all["DaemonSet sluice-agent"]["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], json!(false));
}

#[test]
fn switches_take_their_object_away() {
    let usual = objects("");
    for (values, name) in [
        (
            "admissionPolicy: {enabled: false}",
            "ValidatingAdmissionPolicy sluice-redirection",
        ),
        (
            "networkPolicy: {enabled: false}",
            "NetworkPolicy sluice-controller",
        ),
        (
            "podDisruptionBudget: {minAvailable: null}",
            "PodDisruptionBudget sluice-controller",
        ),
        ("uninstall: {hook: false}", "Job sluice-uninstall"),
    ] {
        assert!(usual.contains_key(name), "{name}");
        assert!(!objects(values).contains_key(name), "{name}");
    }
}

/// The table of docs/install.md, from the chart's own values.
#[test]
fn every_value_is_in_the_documentation_with_its_default() {
    let text = fs::read_to_string(project().join(CHART).join("values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let page = fs::read_to_string(project().join("docs/install.md")).unwrap();
    let mut leaves = Vec::new();
    flatten("", &values, &mut leaves);
    for (name, default) in leaves {
        let row = format!("| `{name}` | `{default}` |");
        assert!(page.contains(&row), "docs/install.md has no row {row}");
    }
}

fn flatten(path: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) if !map.is_empty() && !path.ends_with("labels") => {
            for (name, value) in map {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                flatten(&path, value, leaves);
            }
        }
        _ => leaves.push((path.to_owned(), value.to_string())),
    }
}
