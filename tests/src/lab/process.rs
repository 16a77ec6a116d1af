//! Processes of the lab: in a namespace, logging to a file, ended on drop.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{netns::Netns, wait};

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` inside `netns`; both outputs go to `log`, after what
    /// is there already.
    pub fn start(netns: &Netns, name: &str, mut command: Command, log: &Path) -> Self {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let copy = file.try_clone().expect("duplicate a log file");
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        let child = netns
            .spawn_child(&mut command)
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self {
            name: name.into(),
            child,
            log: log.into(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far, of this run and those before.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until its log contains `text`.
    pub fn wait_for(&mut self, text: &str, limit: Duration) {
        let found = wait::until(limit, || {
            self.log().contains(text) || self.has_ended().is_some()
        });
        assert!(
            found && self.log().contains(text),
            "{} did not say {text:?} within {limit:?}; it said:\n{}",
            self.name,
            tail(&self.log(), 40)
        );
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub fn signal(&self, signal: Signal) {
        // Gone already is as good.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, a while to end, then SIGKILL. How it ended.
    pub fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.has_ended() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- last words of {}\n{}", self.name, tail(&self.log(), 25));
        }
    }
}

/// The last `lines` lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
