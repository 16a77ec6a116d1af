use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mesh() -> Mesh {
    let web = Service::new("d", "web", &[ip("10.96.0.1"), ip("fd00:96::1")], 80, 8080);
    let none = Service::new("d", "none", &[ip("10.96.0.2")], 80, 8080);
    let a = Workload::hbone("d", "a", "na", &[ip("10.0.0.1"), ip("fd00::1")]).serving(&web);
    let mut b = Workload::hbone("d", "b", "nb", &[ip("10.0.0.2")]).serving(&web);
    b.services.get_mut(&web.key()).unwrap().insert(80, 9090);
    let mut plain = Workload::hbone("d", "plain", "nb", &[ip("10.0.0.3")]);
    plain.protocol = Protocol::Tcp;
    Mesh::new(Workloads {
        workloads: vec![a, b, plain],
        services: vec![web, none],
        policies: vec![],
    })
}

fn target(mesh: &Mesh, destination: &str) -> String {
    mesh.route(destination.parse().unwrap())
        .unwrap()
        .target
        .to_string()
}

#[test]
fn services_take_turns_and_map_ports() {
    let mesh = mesh();
    assert_eq!(target(&mesh, "10.96.0.1:80"), "10.0.0.1:8080");
    assert_eq!(target(&mesh, "10.96.0.1:80"), "10.0.0.2:9090");
    assert_eq!(target(&mesh, "10.96.0.1:80"), "10.0.0.1:8080");
}

#[test]
fn the_family_stays_where_it_can() {
    let mesh = mesh();
    assert_eq!(target(&mesh, "[fd00:96::1]:80"), "[fd00::1]:8080");
    assert_eq!(target(&mesh, "[fd00:96::1]:80"), "10.0.0.2:9090");
}

#[test]
fn addresses_stay_as_they_are() {
    let mesh = mesh();
    let route = mesh.route("10.0.0.1:1234".parse().unwrap()).unwrap();
    assert_eq!(route.target, "10.0.0.1:1234".parse().unwrap());
    assert!(route.hbone().is_some());
    let route = mesh.route("10.0.0.3:80".parse().unwrap()).unwrap();
    assert!(route.workload.is_some() && route.hbone().is_none());
    let route = mesh.route("192.0.2.1:80".parse().unwrap()).unwrap();
    assert_eq!(route.workload, None);
}

#[test]
fn services_that_lead_nowhere_are_errors() {
    let mesh = mesh();
    let error = mesh.route("10.96.0.1:81".parse().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "service d/web.d.svc.cluster.local has no port 81"
    );
    let error = mesh.route("10.96.0.2:80".parse().unwrap()).unwrap_err();
    assert_eq!(
        error,
        RouteError::NoEndpoint("d/none.d.svc.cluster.local".to_owned())
    );
}
