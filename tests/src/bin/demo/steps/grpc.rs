//! Our services as `grpcurl` finds them: by reflection, without files.

use std::{env, path::PathBuf};

use serde_json::Value;
use sluice_mtls::TlsFiles;
use sluice_tests::lab::{Lab, controller::PORT, netns::Netns};

use super::super::report::Report;

pub(crate) fn prove(report: &mut Report, lab: &Lab) {
    report.prove("grpcurl: the agent's services on its socket", agent(lab));
    report.prove(
        "grpcurl: the controller's fleet, as an operator",
        fleet(lab),
    );
    report.prove(
        "grpcurl: the fleet refuses other certificates",
        refused(lab),
    );
}

/// `grpcurl` from PATH or from the tools of the project.
fn grpcurl(netns: &Netns, args: &[&str]) -> Result<String, String> {
    let tools = env::var_os("SLUICE_TOOLS").map(|dir| PathBuf::from(dir).join("grpcurl"));
    let program = tools
        .filter(|path| path.is_file())
        .map_or_else(|| "grpcurl".into(), |path| path.display().to_string());
    let output = netns.output(&program, args);
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(said.lines().collect::<Vec<_>>().join(" "))
}

fn agent(lab: &Lab) -> Result<String, String> {
    let node = lab.node("na");
    // Not `-unix PATH`: grpcurl 1.9.3 dials that over TCP.
    let socket = format!("unix://{}", node.socket().display());
    let call = |args: &[&str]| {
        let mut all = vec!["-plaintext", &socket];
        all.extend(args);
        grpcurl(&node.netns, &all)
    };
    let services = call(&["list"])?;
    for service in [
        "sluice.agent.v1.CniService",
        "sluice.agent.v1.NodeService",
        "grpc.health.v1.Health",
    ] {
        if !services.contains(service) {
            return Err(format!("no {service} in {services}"));
        }
    }
    let pods = json(&call(&["sluice.agent.v1.NodeService/ListPods"])?)?;
    let captured = count_captured(&pods["pods"]);
    if captured != 2 {
        return Err(format!("{captured} pods captured on na: {pods}"));
    }
    Ok(format!(
        "{captured} pods captured on na, by NodeService/ListPods"
    ))
}

fn of_controller(lab: &Lab, files: &TlsFiles, method: &str) -> Result<String, String> {
    let text = |path: &PathBuf| path.display().to_string();
    let (cert, key) = (text(&files.cert), text(&files.key));
    let address = format!("127.0.0.1:{PORT}");
    // The controller's name is a SPIFFE identity, which grpcurl cannot check.
    let args = ["-insecure", "-cert", &cert, "-key", &key, &address, method];
    grpcurl(&lab.control, &args)
}

fn fleet(lab: &Lab) -> Result<String, String> {
    let files = lab.certificate("operator", "demo");
    let nodes = of_controller(lab, &files, "sluice.controller.v1.FleetService/ListNodes")?;
    let nodes = json(&nodes)?;
    let connected = nodes["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|node| node["connected"] == true)
        .count();
    let pods = of_controller(lab, &files, "sluice.controller.v1.FleetService/ListPods")?;
    let captured = count_captured(&json(&pods)?["pods"]);
    if (connected, captured) != (2, 4) {
        return Err(format!(
            "{connected} nodes connected, {captured} pods captured: {nodes} {pods}"
        ));
    }
    Ok(format!(
        "{connected} nodes connected, {captured} pods captured"
    ))
}

fn refused(lab: &Lab) -> Result<String, String> {
    let method = "sluice.controller.v1.FleetService/ListNodes";
    let files = lab.certificate("node", "na");
    match of_controller(lab, &files, method) {
        Err(said) if said.contains("PermissionDenied") => {}
        other => return Err(format!("with a node's certificate: {other:?}")),
    }
    let address = format!("127.0.0.1:{PORT}");
    match grpcurl(
        &lab.control,
        &["-insecure", "-max-time", "3", &address, method],
    ) {
        Err(said) if !said.contains("PermissionDenied") => {
            Ok("PermissionDenied with a node's, no connection without one".into())
        }
        other => Err(format!("without a certificate: {other:?}")),
    }
}

fn count_captured(pods: &Value) -> usize {
    pods.as_array()
        .into_iter()
        .flatten()
        .filter(|pod| pod["status"]["state"] == "POD_STATE_CAPTURED")
        .count()
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))
}
