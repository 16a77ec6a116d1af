//! An agent without a kernel below it, and the certificates around it.

use std::{path::Path, sync::Arc, time::Duration};

use sluice_agent::{
    capture::{self, Capture, Journal},
    control::{self, Control},
    desired::Desired,
};
use sluice_mtls::{Reload, TlsFiles, testing::TestCa};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::kernel::FakeKernel;

pub(crate) const TRUST_DOMAIN: &str = "cluster.local";

/// A folder and an authority.
pub(crate) struct Setup {
    pub(crate) dir: TempDir,
    pub(crate) ca: TestCa,
}

/// An agent of node `node-a`.
pub(crate) struct Node {
    pub(crate) capture: Capture,
    pub(crate) control: Control,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            ca: TestCa::new(TRUST_DOMAIN),
        }
    }

    pub(crate) fn files(&self, kind: &str, name: &str) -> TlsFiles {
        let uri = format!("spiffe://{TRUST_DOMAIN}/{kind}/{name}");
        self.ca
            .write(self.dir.path(), &format!("{kind}-{name}"), &uri)
    }

    pub(crate) fn identity(&self, kind: &str, name: &str) -> Arc<Reload> {
        Reload::start(self.files(kind, name), Duration::from_millis(50)).unwrap()
    }

    /// An agent that follows these endpoints and keeps its state in the folder.
    pub(crate) fn agent(&self, controllers: Vec<String>) -> Node {
        self.agent_on(FakeKernel::default(), controllers)
    }

    pub(crate) fn agent_on(&self, kernel: FakeKernel, controllers: Vec<String>) -> Node {
        self.agent_of(kernel, self.identity("node", "node-a"), controllers)
    }

    /// With a certificate that the test changes.
    pub(crate) fn agent_with(&self, files: &TlsFiles, controllers: Vec<String>) -> Node {
        let reload = Reload::start(files.clone(), Duration::from_millis(50)).unwrap();
        self.agent_of(FakeKernel::default(), reload, controllers)
    }

    fn agent_of(&self, kernel: FakeKernel, reload: Arc<Reload>, controllers: Vec<String>) -> Node {
        let capture = capture(kernel, self.dir.path());
        let options = control::Options {
            node_name: "node-a".into(),
            controllers,
            state_dir: self.dir.path().to_owned(),
        };
        Node {
            control: Control::start(options, reload, capture.clone()),
            capture,
        }
    }
}

/// An engine over a kernel.
fn capture(kernel: FakeKernel, run_dir: &Path) -> Capture {
    let journal = Journal::open(run_dir).unwrap();
    Capture::start(capture::Options::default(), kernel, journal).unwrap()
}

impl Node {
    /// Waits until the desired state is so.
    pub(crate) async fn wants(&self, is_so: impl Fn(&Desired) -> bool) -> Arc<Desired> {
        let mut desired = self.capture.desired();
        let waiting = desired.wait_for(|desired| desired.as_deref().is_some_and(&is_so));
        let found = timeout(Duration::from_secs(60), waiting)
            .await
            .expect("a desired state");
        found.unwrap().clone().unwrap()
    }

    /// The uids of the pods that are wanted now.
    pub(crate) fn uids(&self) -> Vec<String> {
        let desired = self.capture.desired().borrow().clone();
        desired.map_or(vec![], |desired| {
            desired.pods.keys().map(ToString::to_string).collect()
        })
    }
}
