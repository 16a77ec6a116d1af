use insta::assert_snapshot;
use proptest::prelude::*;

use super::{ConvertError, MAX_BYTES, convert};

/// As the ambient profile of early ambient has it.
const AMBIENT: &str = "
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata:
  name: ambient
spec:
  profile: ambient
  components:
    cni:
      enabled: true
    ztunnel:
      enabled: true
  meshConfig:
    defaultConfig:
      proxyMetadata:
        ISTIO_META_ENABLE_HBONE: 'true'
  values:
    pilot:
      env:
        PILOT_ENABLE_HBONE: 'true'
    cni:
      logLevel: info
      privileged: true
      excludeNamespaces: [kube-system]
      ambient:
        enabled: true
        redirectMode: iptables
        configDir: ''
      repair:
        enabled: false
";

/// As a cluster with Multus has it: OpenShift.
const MULTUS: &str = "
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  profile: openshift
  components:
    cni:
      enabled: true
      namespace: kube-system
  values:
    cni:
      cniBinDir: /var/lib/cni/bin
      cniConfDir: /etc/cni/multus/net.d
      chained: false
      cniConfFileName: istio-cni.conf
      excludeNamespaces: [istio-system, kube-system]
      logLevel: info
    sidecarInjectorWebhook:
      injectedAnnotations:
        k8s.v1.cni.cncf.io/networks: istio-cni
";

fn operator(spec: &str) -> String {
    format!("apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {spec}\n")
}

fn refused(spec: &str) -> String {
    match convert(&operator(spec)) {
        Err(error @ ConvertError::Refused(_)) => error.to_string(),
        other => panic!("{spec}: {other:?}"),
    }
}

/// As Istio's page on its CNI plugin has them, in the releases with an operator:
/// the basic installation, and namespaces left out.
const PAGES: [&str; 2] = [
    "
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  components:
    cni:
      enabled: true
",
    "
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  components:
    cni:
      enabled: true
  values:
    cni:
      excludeNamespaces:
       - istio-system
       - kube-system
       - foo_ns
       - bar_ns
      logLevel: info
",
];

#[test]
fn the_documents_of_the_pages() {
    for document in PAGES {
        assert_snapshot!(convert(document).unwrap().to_yaml());
    }
}

#[test]
fn the_ambient_document() {
    assert_snapshot!(convert(AMBIENT).unwrap().to_yaml());
}

#[test]
fn the_document_for_multus() {
    assert_snapshot!(convert(MULTUS).unwrap().to_yaml());
}

#[test]
fn an_empty_document_asks_for_the_defaults() {
    assert_snapshot!(convert(&operator("")).unwrap().to_yaml());
}

#[test]
fn everything_that_cannot_mean_the_same_is_told_at_once() {
    assert_snapshot!(refused(
        "{components: {cni: {enabled: false, k8s: {}}}, surprise: 1, values: {cni: {
           chained: false, cniConfDir: /etc/cni/multus/net.d, cniBinDir: /opt/cni/bin, nosuch: 1,
           logLevel: [1], psp_cluster_role: x, istioOwnedCNIConfig: false,
           ambient: {redirectMode: ebpf, enabled: false, dnsCapture: true, ipv6: 'no'},
           repair: {enabled: true, deletePods: true}}}}"
    ));
    assert_snapshot!(refused(
        "{values: {cni: {cniConfDir: /etc/cni/multus/net.d, cniConfFileName: 10-x.conflist}}}"
    ));
}

#[test]
fn what_is_no_operator_is_not_taken_for_one() {
    for wrong in [
        "",
        "[]",
        "kind: IstioOperator",
        "apiVersion: v1\nkind: Pod",
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: [1]",
    ] {
        let error = convert(wrong).unwrap_err();
        assert!(
            matches!(error, ConvertError::NotAnOperator { .. }),
            "{wrong}: {error}"
        );
    }
}

#[test]
fn hostile_text_costs_little() {
    let bomb = (1..12).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| {
        let all = vec![format!("*a{}", n - 1); 10].join(", ");
        text + &format!("a{n}: &a{n} [{all}]\n")
    });
    let deep = operator(&"[".repeat(5000));
    for wrong in [
        bomb.as_str(),
        deep.as_str(),
        "a: 1\na: 2",
        "a: b\n---\nc: d",
        "\t\0",
    ] {
        let error = convert(wrong).unwrap_err();
        assert!(matches!(error, ConvertError::Yaml { .. }), "{error}");
    }
    let large = "#".repeat(MAX_BYTES + 1);
    assert!(matches!(convert(&large), Err(ConvertError::TooLarge)));
}

#[test]
fn names_of_the_document_cannot_leave_their_comment() {
    let error = refused("{\"a\\nb: c\": 1}");
    assert!(error.contains("spec.a b: c:"), "{error}");
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,200}", spec in "[-{}\\[\\]:, \na-z]{0,80}") {
        let _ = convert(&text);
        let _ = convert(&operator(&spec));
    }
}
