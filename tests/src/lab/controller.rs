//! The controller, watching the lab's folder.

use std::process::Command;

use super::{Lab, http, process::Process, programs, wait};

/// Its port for agents and operators.
pub const PORT: u16 = 15010;
const METRICS: u16 = 15013;

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    pub process: Process,
}

impl Lab {
    /// Starts the controller, and waits until it is ready.
    pub fn start_controller(&mut self) {
        let files = self.certificate("controller", "lab");
        let mut command = program("sluice-controller");
        command
            .args(["run", "--directory"])
            .arg(self.folder.path())
            .args(["--listen", &format!("0.0.0.0:{PORT}")])
            .args(["--metrics-listen", &format!("0.0.0.0:{METRICS}")])
            .arg("--tls-cert")
            .arg(files.cert)
            .arg("--tls-key")
            .arg(files.key)
            .arg("--tls-ca")
            .arg(files.ca)
            .args(["--trust-domain", super::TRUST_DOMAIN])
            .args(["--release-after", "1s"])
            .env("SLUICE_LOG", log_filter())
            .env("NO_COLOR", "1");
        let log = self.log("controller");
        let process = Process::start(&self.control, "controller", command, &log);
        self.controller = Some(Controller { process });
        wait::value("the controller to be ready", wait::LONG, || {
            let ended = self.controller_mut().process.has_ended();
            assert!(
                ended.is_none(),
                "the controller ended: {}",
                self.controller_mut().process.log()
            );
            match http::get(&self.control, METRICS, "/readyz") {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// Ends the controller.
    pub fn stop_controller(&mut self) {
        if let Some(mut controller) = self.controller.take() {
            controller.process.stop(wait::LONG);
        }
    }
}

/// A command for one of our programs.
#[expect(clippy::disallowed_methods, reason = "the lab starts the product")]
pub fn program(name: &str) -> Command {
    Command::new(programs::find(name))
}

/// The same with no more than what the agent's unit in `deploy/` lets it have.
#[expect(clippy::disallowed_methods, reason = "the lab starts the product")]
pub fn confined(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .arg("--bounding-set=-all,+net_admin,+net_raw,+sys_admin")
        .arg(programs::find(name));
    command
}

/// What the product logs in a lab: `SLUICE_LOG`, or everything of interest.
pub fn log_filter() -> String {
    std::env::var("SLUICE_LOG").unwrap_or_else(|_| "info,sluice=debug".into())
}
