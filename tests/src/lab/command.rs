//! Programs that end: each is given a limit, and its failure is a panic that
//! shows what it said.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

/// A command that `timeout` ends after half a minute.
pub fn bounded(program: &str) -> Command {
    bounded_by(program, 30)
}

/// A command that `timeout` ends after some seconds.
#[expect(clippy::disallowed_methods, reason = "the lab drives the node's tools")]
pub fn bounded_by(program: impl AsRef<std::ffi::OsStr>, seconds: u32) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", &seconds.to_string()]).arg(program);
    command
}

/// Running a command to its end.
pub trait Bounded {
    fn run(&mut self) -> Output;
    fn run_quietly(&mut self) -> Option<Output>;
}

impl Bounded for Command {
    fn run(&mut self) -> Output {
        self.output()
            .unwrap_or_else(|error| panic!("cannot start {self:?}: {error}"))
    }

    fn run_quietly(&mut self) -> Option<Output> {
        self.stdin(Stdio::null()).output().ok()
    }
}

/// Runs `command` with `input` on its standard input.
pub fn feed(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that stops reading says why itself.
            let _ = stdin.write_all(input.as_bytes());
        });
        child.wait_with_output().expect("wait for a child")
    })
}

/// Standard output of a program that succeeded; a panic with its words if not.
pub fn stdout(what: &str, output: &Output) -> String {
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `ip` in the test's own namespace.
pub fn ip(args: &[&str]) -> String {
    let output = bounded("ip").args(args).stdin(Stdio::null()).run();
    stdout(&format!("ip {args:?}"), &output)
}
