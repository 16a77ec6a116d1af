//! Targets as tests: each in a process of its own, in an empty root.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;

use crate::targets::{TARGETS, Target};

/// Set in the process that fuzzes: the target's name, and its root.
const TARGET: &str = "SLUICE_FUZZ_TARGET";
const ROOT: &str = "SLUICE_FUZZ_ROOT";
/// For people; see `scripts/fuzz`.
const SECONDS: &str = "SLUICE_FUZZ_SECONDS";
const INPUT: &str = "SLUICE_FUZZ_INPUT";

/// No target takes nearly so long over its inputs, nor over one of them.
const LIMIT: u64 = 300;
const ONE: u64 = 10;

static CHOSEN: OnceLock<&Target> = OnceLock::new();

/// What a process of this program is for: all tests, or one target.
pub(crate) fn begin() {
    let Some(name) = env::var_os(TARGET) else {
        let trials = TARGETS.iter().map(trial).collect();
        libtest_mimic::run(&Arguments::from_args(), trials).exit();
    };
    let target = TARGETS.iter().find(|target| *target.name == *name);
    let target = target.expect("the target is one of ours");
    assert!(CHOSEN.set(target).is_ok(), "begun twice");
    let root = env::var_os(ROOT).expect("a root for hostile paths");
    nix::unistd::chroot(Path::new(&root)).expect("chroot, which needs root");
    env::set_current_dir("/").expect("enter the root");
}

/// The target of this process.
pub(crate) fn target() -> &'static Target {
    CHOSEN.get().expect("begun")
}

fn trial(target: &'static Target) -> Trial {
    Trial::test(target.name, || fuzz(target).map_err(Failed::from))
}

fn fuzz(target: &Target) -> Result<(), String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = root().map_err(|error| format!("no directory for a root: {error}"))?;
    let corpus = root.path().join("corpus");
    let seeds = match env::var_os(INPUT) {
        Some(input) => copy(Path::new(&input), &root.path().join("input")).map(|()| 1),
        None => copy_all(&here.join("corpus").join(target.name), &corpus),
    };
    let seeds = seeds.map_err(|error| format!("no inputs to begin with: {error}"))?;
    assert!(seeds > 0, "corpus/{} is empty", target.name);
    copy(&here.join("dictionary"), &root.path().join("dictionary"))
        .map_err(|error| format!("no dictionary: {error}"))?;
    let output = program(target, root.path())
        .output()
        .map_err(|error| format!("cannot start: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let mut lines: Vec<&str> = said.lines().collect();
    if output.status.success() {
        // How many inputs, and how far they went.
        let done = lines.iter().rfind(|line| line.contains("DONE"));
        println!("{}: {}", target.name, done.unwrap_or(&"the one input"));
        return Ok(());
    }
    lines.drain(..lines.len().saturating_sub(30));
    let kept = keep(target, root.path());
    Err(format!("{}\n{}\n{kept}", output.status, lines.join("\n")))
}

/// In memory where there is such a directory: inputs write files.
fn root() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let within = if memory.is_dir() {
        memory.into()
    } else {
        env::temp_dir()
    };
    tempfile::Builder::new()
        .prefix("sluice-fuzz-")
        .tempdir_in(within)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a crash ends a process: each target has its own"
)]
fn program(target: &Target, root: &Path) -> Command {
    let seconds = env::var(SECONDS)
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    let mut command = Command::new("timeout");
    command
        .args(["-k", "1", &(seconds.unwrap_or(0) + LIMIT).to_string()])
        .arg(env::current_exe().expect("the path of this program"))
        .env(TARGET, target.name)
        .env(ROOT, root)
        .args(["-dict=/dictionary", "-artifact_prefix=/"])
        .args([
            format!("-timeout={ONE}"),
            format!("-max_len={}", target.longest),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    match seconds {
        _ if env::var_os(INPUT).is_some() => command.arg("/input"),
        Some(seconds) => command.args([format!("-max_total_time={seconds}"), "/corpus".into()]),
        None => command.args([
            format!("-runs={}", target.runs),
            "-seed=5".into(),
            "/corpus".into(),
        ]),
    };
    command
}

/// Puts what made it fail where it stays, and says how to run it again.
fn keep(target: &Target, root: &Path) -> String {
    let found = fs::read_dir(root).into_iter().flatten().flatten();
    let found = found.map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ["crash-", "timeout-", "oom-"]
            .iter()
            .any(|kind| name.starts_with(kind))
    });
    let Some(found) = found else {
        return "it left no input; was it built by scripts/fuzz, with counters?".into();
    };
    let kept = workspace().join("target/fuzz").join(format!(
        "{}-{}",
        target.name,
        found.file_name().unwrap_or_default().display()
    ));
    if let Err(error) = copy(&found, &kept) {
        return format!("the input cannot be kept as {}: {error}", kept.display());
    }
    format!(
        "the input is {0}; again: {INPUT}={0} scripts/fuzz {1}; mended, it belongs into \
         tests/fuzz/corpus/{1}",
        kept.display(),
        target.name
    )
}

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).into()
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).map(|_| ())
}

/// Copies the files of a directory; how many there were.
fn copy_all(from: &Path, to: &Path) -> std::io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
        count += 1;
    }
    Ok(count)
}
