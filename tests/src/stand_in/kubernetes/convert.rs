//! Pods, Services and EndpointSlices in the words of the workload file.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt as _;

use crate::workloads::{self, Policy, Protocol, Vip, Workload, Workloads};

const REDIRECTION: &str = "ambient.istio.io/redirection";
const CAPTURED: &str = "enabled";
const TRUST_DOMAIN: &str = "cluster.local";
/// Label of a slice: the Service that it is of.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Address of an endpoint, to the ports that it serves of each service.
type Endpoints = BTreeMap<IpAddr, BTreeMap<String, BTreeMap<u16, u16>>>;

/// What a proxy is to know of the mesh.
pub(super) fn workloads(
    pods: &[Arc<Pod>],
    services: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
    policies: Vec<Policy>,
) -> Workloads {
    let endpoints = endpoints(services, slices);
    let mut taken = BTreeSet::new();
    let workloads: Vec<Workload> = pods
        .iter()
        .filter_map(|pod| workload(pod, &endpoints))
        // An address that is given again before the old pod is gone.
        .filter(|workload| workload.workload_ips.iter().all(|ip| taken.insert(*ip)))
        .collect();
    let mut all = Workloads {
        workloads,
        services: services.iter().filter_map(|it| service(it)).collect(),
        policies,
    };
    all.services
        .retain(|service| is_of_pods(service, &all.workloads));
    all
}

/// The API server's own Service, for one, leads to nobody that a proxy knows: it is
/// passed on to where the node leads it.
fn is_of_pods(service: &workloads::Service, workloads: &[Workload]) -> bool {
    let key = service.key();
    workloads
        .iter()
        .any(|workload| workload.services.contains_key(&key))
}

fn workload(pod: &Pod, endpoints: &Endpoints) -> Option<Workload> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let over = ["Succeeded", "Failed"].contains(&status.phase.as_deref().unwrap_or_default());
    if over || spec.host_network == Some(true) {
        return None;
    }
    let addresses: Vec<IpAddr> = status
        .pod_ips
        .iter()
        .flatten()
        .filter_map(|ip| ip.ip.parse().ok())
        .collect();
    let captured = pod.annotations().get(REDIRECTION).map(String::as_str) == Some(CAPTURED);
    let served = addresses
        .iter()
        .filter_map(|address| endpoints.get(address))
        .flatten();
    let mut services = BTreeMap::<String, BTreeMap<u16, u16>>::new();
    for (key, ports) in served {
        services.entry(key.clone()).or_default().extend(ports);
    }
    (!addresses.is_empty()).then(|| Workload {
        uid: pod.uid().unwrap_or_default(),
        name: pod.name_any(),
        namespace: pod.namespace().unwrap_or_default(),
        service_account: spec
            .service_account_name
            .clone()
            .unwrap_or_else(|| "default".to_owned()),
        trust_domain: TRUST_DOMAIN.to_owned(),
        workload_ips: addresses,
        protocol: if captured {
            Protocol::Hbone
        } else {
            Protocol::Tcp
        },
        node: spec.node_name.clone().unwrap_or_default(),
        network: String::new(),
        authorization_policies: Vec::new(),
        services,
    })
}

fn service(service: &Service) -> Option<workloads::Service> {
    let spec = service.spec.as_ref()?;
    let vips: Vec<Vip> = spec
        .cluster_ips
        .iter()
        .flatten()
        .filter_map(|ip| ip.parse().ok().map(Vip))
        .collect();
    let (name, namespace) = (service.name_any(), service.namespace()?);
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.port).ok()?;
        let target = match &port.target_port {
            Some(IntOrString::Int(target)) => u16::try_from(*target).ok()?,
            // By name: each endpoint says which it is.
            Some(IntOrString::String(_)) | None => number,
        };
        is_tcp(port.protocol.as_deref()).then_some((number, target))
    });
    (!vips.is_empty()).then(|| workloads::Service {
        hostname: hostname(&name, &namespace),
        ports: ports.collect(),
        name,
        namespace,
        vips,
    })
}

fn endpoints(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> Endpoints {
    let mut all = Endpoints::new();
    for slice in slices {
        let Some((key, ports)) = slice_ports(slice, services) else {
            continue;
        };
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.as_ref();
            if conditions.and_then(|it| it.ready) == Some(false) {
                continue;
            }
            for address in endpoint.addresses.iter().filter_map(|it| it.parse().ok()) {
                let served = all.entry(address).or_default().entry(key.clone());
                served.or_default().extend(&ports);
            }
        }
    }
    all
}

/// The slice's service, and its ports to those of the endpoints.
fn slice_ports(
    slice: &EndpointSlice,
    services: &[Arc<Service>],
) -> Option<(String, BTreeMap<u16, u16>)> {
    let (name, namespace) = (slice.labels().get(SERVICE_NAME)?, slice.namespace()?);
    let service = services.iter().find(|service| {
        service.name_any() == *name && service.namespace().as_ref() == Some(&namespace)
    })?;
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let pairs = ports.iter().filter_map(|port| {
        let same = |at: &&k8s_openapi::api::discovery::v1::EndpointPort| {
            at.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default()
        };
        let target = slice.ports.iter().flatten().find(same)?.port?;
        let pair = (u16::try_from(port.port).ok()?, u16::try_from(target).ok()?);
        is_tcp(port.protocol.as_deref()).then_some(pair)
    });
    Some((
        format!("{namespace}/{}", hostname(name, &namespace)),
        pairs.collect(),
    ))
}

fn hostname(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn read<K: serde::de::DeserializeOwned>(value: Value) -> Arc<K> {
        Arc::new(from_value(value).unwrap())
    }

    fn pod(name: &str, ips: &[&str], annotation: Option<&str>) -> Arc<Pod> {
        let ips: Vec<_> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
        let annotations = annotation.map(|value| json!({ (REDIRECTION): value }));
        read(json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "annotations": annotations},
            "spec": {"containers": [], "nodeName": "n1", "serviceAccountName": "web"},
            "status": {"phase": "Running", "podIPs": ips}
        }))
    }

    fn service() -> Arc<Service> {
        read(json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "clusterIPs": ["10.96.0.7", "fd00:96::7"],
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "http"},
                    {"name": "dns", "port": 53, "protocol": "UDP"}
                ]
            }
        }))
    }

    fn slice(ready: bool) -> Arc<EndpointSlice> {
        read(json!({
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {(SERVICE_NAME): "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]
        }))
    }

    #[test]
    fn captured_pods_are_called_through_their_proxy_and_others_plainly() {
        let pods = [
            pod("a", &["10.0.0.1", "fd00::1"], Some("enabled")),
            pod("b", &["10.0.0.2"], Some("pending")),
            pod("c", &["10.0.0.3"], None),
            pod("again", &["10.0.0.3"], Some("enabled")),
            pod("starting", &[], Some("enabled")),
        ];
        let all = workloads(&pods, &[service()], &[slice(true)], Vec::new());
        let protocols: Vec<_> = all
            .workloads
            .iter()
            .map(|it| (it.name.as_str(), it.protocol))
            .collect();
        let (hbone, plain) = (Protocol::Hbone, Protocol::Tcp);
        assert_eq!(protocols, [("a", hbone), ("b", plain), ("c", plain)]);
        assert_eq!(all.workloads[0].node, "n1");
        assert_eq!(all.workloads[0].service_account, "web");
        assert_eq!(all.workloads[0].workload_ips.len(), 2);
    }

    #[test]
    fn services_lead_to_the_ports_that_their_endpoints_name() {
        let pods = [pod("a", &["10.0.0.1"], None)];
        let all = workloads(&pods, &[service()], &[slice(true)], Vec::new());
        let key = "shop/web.shop.svc.cluster.local";
        assert_eq!(all.services[0].key(), key);
        assert_eq!(all.services[0].vips.len(), 2);
        assert_eq!(
            all.services[0].ports,
            BTreeMap::from([(80, 80)]),
            "TCP only"
        );
        assert_eq!(all.workloads[0].services[key], BTreeMap::from([(80, 8080)]));
        let unready = workloads(&pods, &[service()], &[slice(false)], Vec::new());
        assert_eq!(unready.workloads[0].services, BTreeMap::new());
    }

    #[test]
    fn pods_of_the_host_and_finished_ones_are_no_workloads() {
        let host = read(json!({
            "metadata": {"name": "h", "namespace": "shop"},
            "spec": {"containers": [], "hostNetwork": true},
            "status": {"podIPs": [{"ip": "10.0.0.1"}]}
        }));
        let done = read(json!({
            "metadata": {"name": "d", "namespace": "shop"}, "spec": {"containers": []},
            "status": {"phase": "Succeeded", "podIPs": [{"ip": "10.0.0.1"}]}
        }));
        let all = workloads(&[host, done], &[], &[], Vec::new());
        assert_eq!(all.workloads, []);
    }

    #[test]
    fn services_without_pods_are_left_to_the_node() {
        let all = workloads(&[], &[service()], &[slice(true)], Vec::new());
        assert!(all.services.is_empty());
    }
}
