//! Processes that are started through another program, which enters namespaces
//! first and stays as their parent.

use std::{fs, path::Path, process::Command, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::lab::{
    netns::Netns,
    process::{Process, tail},
    wait,
};

/// A process and the parent that entered namespaces for it.
#[derive(Debug)]
pub struct Wrapped {
    parent: Process,
    pid: u32,
}

impl Wrapped {
    /// Starts `command`, whose only child will be the process.
    pub fn start(netns: &Netns, name: &str, command: Command, log: &Path) -> Self {
        let mut parent = Process::start(netns, name, command, log);
        let pid = wait::value(&format!("{name} to start"), wait::LONG, || {
            assert!(
                parent.has_ended().is_none(),
                "{name} did not start:\n{}",
                tail(&parent.log(), 30)
            );
            child_of(parent.pid()).ok_or_else(|| "its parent has no child yet".to_owned())
        });
        Self { parent, pid }
    }

    /// Its process id as the machine sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn log(&self) -> String {
        self.parent.log()
    }

    pub fn wait_for(&mut self, text: &str, limit: Duration) {
        self.parent.wait_for(text, limit);
    }

    pub fn has_ended(&mut self) -> bool {
        self.parent.has_ended().is_some()
    }

    pub fn signal(&self, signal: Signal) {
        // Gone already is as good.
        let _ = kill(Pid::from_raw(self.pid.cast_signed()), signal);
    }

    /// SIGTERM, a while to end, then SIGKILL.
    pub fn stop(&mut self, limit: Duration) {
        if !self.has_ended() {
            self.signal(Signal::SIGTERM);
        }
        if !wait::until(limit, || self.has_ended()) {
            self.kill();
        }
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        // The number may be another process's once the parent has seen the end.
        if !self.has_ended() {
            self.signal(Signal::SIGKILL);
        }
        wait::until(wait::LONG, || self.has_ended());
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        self.kill();
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}
