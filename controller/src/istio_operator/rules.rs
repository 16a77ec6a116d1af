//! What becomes of each name of the document.

/// What becomes of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// Taken over under this name of our chart.
    Text(&'static str),
    Flag(&'static str),
    Texts(&'static str),
    Number(&'static str),
    /// Taken over as it is; the chart's schema checks what is in it.
    Tree(&'static str),
    /// Only this value means the same.
    Only(bool, &'static str),
    /// Only when it is empty.
    Empty(&'static str),
    /// Left out, because.
    Left(&'static str),
    /// A mapping with rules of its own.
    Within(&'static [(&'static str, Rule)]),
    /// Looked at on its own.
    Apart,
}

use Rule::{Apart, Empty, Flag, Left, Number, Only, Text, Texts, Tree, Within};

type Rules = &'static [(&'static str, Rule)];

const ISTIOD: &str = "left to Istio: it is about istiod";
const PROXY: &str = "left to Istio: it is about ztunnel";
const GATEWAY: &str = "left to Istio: it is about gateways";
const IMAGE: &str = "left out: it names the image of Istio's CNI (ours: image.registry, image.tag)";

pub(super) const SPEC: Rules = &[
    ("profile", Apart),
    ("hub", Left(IMAGE)),
    ("tag", Left(IMAGE)),
    ("revision", Left(ISTIOD)),
    ("namespace", Left(ISTIOD)),
    ("installPackagePath", Left(ISTIOD)),
    ("compatibilityVersion", Left(ISTIOD)),
    ("addonComponents", Left(ISTIOD)),
    ("unvalidatedValues", Left(ISTIOD)),
    ("meshConfig", Apart),
    ("components", Within(COMPONENTS)),
    ("values", Within(VALUES)),
];

const COMPONENTS: Rules = &[
    ("base", Left(ISTIOD)),
    ("pilot", Left(ISTIOD)),
    ("istiodRemote", Left(ISTIOD)),
    ("ztunnel", Left(PROXY)),
    ("ingressGateways", Left(GATEWAY)),
    ("egressGateways", Left(GATEWAY)),
    ("cni", Within(CNI_COMPONENT)),
];

const CNI_COMPONENT: Rules = &[
    (
        "enabled",
        Only(
            true,
            "Istio's CNI is off in this document, so there is nothing to take over",
        ),
    ),
    (
        "namespace",
        Left("left out: the namespace is chosen with `helm install --namespace`"),
    ),
    ("hub", Left(IMAGE)),
    ("tag", Left(IMAGE)),
];

const VALUES: Rules = &[
    ("base", Left(ISTIOD)),
    ("pilot", Left(ISTIOD)),
    ("telemetry", Left(ISTIOD)),
    ("istiodRemote", Left(ISTIOD)),
    ("istio_cni", Left(ISTIOD)),
    ("defaultRevision", Left(ISTIOD)),
    ("revision", Left(ISTIOD)),
    ("revisionTags", Left(ISTIOD)),
    ("ownerName", Left(ISTIOD)),
    ("experimental", Left(ISTIOD)),
    ("compatibilityVersion", Left(ISTIOD)),
    ("profile", Apart),
    ("meshConfig", Apart),
    ("sidecarInjectorWebhook", Apart),
    ("ztunnel", Left(PROXY)),
    ("gateways", Left(GATEWAY)),
    ("gatewayClasses", Left(GATEWAY)),
    ("global", Apart),
    ("cni", Within(CNI)),
];

const CNI: Rules = &[
    ("hub", Left(IMAGE)),
    ("tag", Left(IMAGE)),
    ("variant", Left(IMAGE)),
    ("image", Left(IMAGE)),
    (
        "enabled",
        Only(
            true,
            "Istio's CNI is off in this document, so there is nothing to take over",
        ),
    ),
    ("pullPolicy", Text("image.pullPolicy")),
    ("cniBinDir", Text("cni.cniBinDir")),
    ("cniNetnsDir", Text("cni.cniNetnsDir")),
    ("cniConfDir", Apart),
    ("cniConfFileName", Apart),
    ("chained", Apart),
    ("provider", Apart),
    ("istioOwnedCNIConfig", Flag("cni.istioOwnedCNIConfig")),
    (
        "istioOwnedCNIConfigFileName",
        Text("cni.istioOwnedCNIConfigFileName"),
    ),
    ("excludeNamespaces", Texts("cni.excludeNamespaces")),
    ("logLevel", Text("cni.logLevel")),
    ("privileged", Flag("cni.privileged")),
    (
        "psp_cluster_role",
        Empty(
            "Kubernetes has no PodSecurityPolicy since 1.25; leave it out, and label the namespace pod-security.kubernetes.io/enforce=privileged",
        ),
    ),
    ("ambient", Within(AMBIENT)),
    ("repair", Within(REPAIR)),
    (
        "taint",
        Left("left out: Sluice's start-up taint is sluice.dev/not-ready"),
    ),
    ("affinity", Tree("agent.affinity")),
    ("podAnnotations", Tree("agent.podAnnotations")),
    ("podLabels", Tree("agent.podLabels")),
    ("resources", Tree("agent.resources")),
    ("seccompProfile", Tree("agent.seccompProfile")),
    ("seLinuxOptions", Tree("agent.seLinuxOptions")),
    ("resourceQuotas", Tree("resourceQuotas")),
    (
        "rollingMaxUnavailable",
        Number("agent.rollingMaxUnavailable"),
    ),
];

const AMBIENT: Rules = &[
    (
        "enabled",
        Only(
            true,
            "capturing ambient pods is all that Sluice does; leave it out, and label no namespace to capture nothing",
        ),
    ),
    ("redirectMode", Apart),
    ("configDir", Text("cni.ambient.configDir")),
    (
        "enablementSelectors",
        Tree("cni.ambient.enablementSelectors"),
    ),
    (
        "dnsCapture",
        Only(false, "capture of DNS is not built yet; set it to false"),
    ),
    (
        "ipv6",
        Only(
            true,
            "both families are always captured, or IPv6 would leave in the clear; leave it out",
        ),
    ),
    (
        "reconcileIptablesOnStartup",
        Only(
            true,
            "rules are always compared with what is wanted, and mended; leave it out",
        ),
    ),
    (
        "shareHostNetworkNamespace",
        Only(
            true,
            "the agent works in the node's network namespace; leave it out",
        ),
    ),
    (
        "enableAmbientDetectionRetry",
        Only(
            true,
            "a pod that is not known yet is always asked about again before it starts; leave it out",
        ),
    ),
];

const REPAIR: Rules = &[
    (
        "enabled",
        Only(
            false,
            "repair of sidecar pods is not built; set it to false, and keep istio-init for pods with sidecars",
        ),
    ),
    ("labelPods", Left(NO_REPAIR)),
    ("deletePods", Left(NO_REPAIR)),
    ("repairPods", Left(NO_REPAIR)),
    ("initContainerName", Left(NO_REPAIR)),
    ("brokenPodLabelKey", Left(NO_REPAIR)),
    ("brokenPodLabelValue", Left(NO_REPAIR)),
    ("hub", Left(NO_REPAIR)),
    ("tag", Left(NO_REPAIR)),
];

const NO_REPAIR: &str = "left out: sidecar pods are not repaired";
