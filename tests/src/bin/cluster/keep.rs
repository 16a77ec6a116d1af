//! The background process that holds a cluster. Its end is the cluster's end.

use std::{
    env, fs,
    fs::File,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, setsid},
};
use sluice_tests::{
    cluster::{Cluster, Options, image},
    lab::{process, wait},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::state::State;

/// From nothing to a ready cluster, on a busy machine.
const UP: Duration = Duration::from_secs(300);
const DOWN: Duration = Duration::from_secs(60);

/// Starts this program again, in the background, with the same options, and
/// waits until the cluster is up.
#[expect(
    clippy::disallowed_methods,
    reason = "the background process is this program"
)]
pub(crate) fn start(state: &State) -> anyhow::Result<()> {
    state.create()?;
    let path = state.file("keeper.log");
    let log = File::create(&path).with_context(|| format!("write {}", path.display()))?;
    let mut child = Command::new(env::current_exe()?)
        .arg("keep")
        .args(env::args_os().skip(2))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    wait::until(UP, || {
        state.file("guide").exists() || child.try_wait().is_ok_and(|status| status.is_some())
    });
    if state.file("guide").exists() {
        return Ok(());
    }
    let words = fs::read_to_string(&path).unwrap_or_default();
    bail!("no cluster after {UP:?}: {}", process::tail(&words, 60))
}

/// Ends the background process, and waits until everything is taken down.
pub(crate) fn stop(state: &State, pid: u32) -> anyhow::Result<()> {
    let process = Pid::from_raw(pid.cast_signed());
    let gone = || state.keeper().is_none();
    // Gone already is as good.
    let _ = kill(process, Signal::SIGTERM);
    if !wait::until(DOWN, gone) {
        let _ = kill(process, Signal::SIGKILL);
        if !wait::until(DOWN, gone) {
            bail!("process {pid} does not end");
        }
    }
    Ok(())
}

/// Brings up a cluster, and holds it until SIGTERM or SIGINT.
pub(crate) fn keep(state: &State, options: Options) -> anyhow::Result<()> {
    // Nothing of the terminal's or of make's reaches us any more. It fails for
    // who was started so already.
    let _ = setsid();
    state.create()?;
    state.claim()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // From now on signals wait until the cluster is up.
    let (mut terminate, mut interrupt) = runtime.block_on(async {
        anyhow::Ok((
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ))
    })?;
    let cluster = Cluster::up(options);
    for archive in image::all() {
        cluster.import_image(&archive);
    }
    state.publish(&cluster)?;
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    drop(cluster);
    Ok(())
}
