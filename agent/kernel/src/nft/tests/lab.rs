//! A network namespace of one's own for each test.

use std::{process::Command, thread};

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::sched::{CloneFlags, unshare};

use crate::{
    client::Client,
    model::Settings,
    nft::{self, model::Ruleset},
};

/// Runs a test on a thread in a fresh network namespace, which goes away with
/// the thread.
#[expect(clippy::disallowed_methods, reason = "the lab: on a thread of its own")]
pub(super) fn in_own_netns(test: impl FnOnce(&mut Lab) + Send + 'static) {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root (or unshare -rn)");
        test(&mut Lab {
            client: Client::open(NETLINK_NETFILTER).unwrap(),
            settings: Settings::default(),
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(super) struct Lab {
    pub(super) client: Client,
    pub(super) settings: Settings,
}

impl Lab {
    /// A veth pair; the index of its first end.
    pub(super) fn link(&self, name: &str) -> u32 {
        let peer = format!("p{name}");
        self.run(&format!("ip link add {name} type veth peer name {peer}"));
        self.index(name)
    }

    pub(super) fn index(&self, name: &str) -> u32 {
        let text = self.run(&format!("ip -o link show dev {name}"));
        let (index, _) = text.split_once(':').unwrap();
        index.parse().unwrap()
    }

    pub(super) fn observe(&mut self) -> Ruleset {
        nft::observe(&mut self.client, &self.settings).unwrap()
    }

    /// Brings the namespace to `wanted` and checks that it is there.
    pub(super) fn reach(&mut self, wanted: &Ruleset) {
        let changes = nft::plan(wanted, &self.observe());
        nft::apply(&mut self.client, &changes).unwrap_or_else(|error| panic!("{error}"));
        let observed = self.observe();
        assert_eq!(observed.to_string(), wanted.to_string());
        assert_eq!(observed, *wanted);
        assert_eq!(nft::plan(wanted, &observed), []);
    }

    pub(super) fn nft(&self, command: &str) -> String {
        self.run(&format!("nft {command}"))
    }

    /// The output of a shell command, which has to succeed.
    pub(super) fn run(&self, command: &str) -> String {
        let (success, output) = self.try_run(command);
        assert!(success, "{command}: {output}");
        output
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "what our rules look like to others"
    )]
    pub(super) fn try_run(&self, command: &str) -> (bool, String) {
        let output = Command::new("sh").args(["-c", command]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }
}
