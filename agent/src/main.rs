//! The node agent.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use nix::unistd::geteuid;
use sluice_agent::{
    config::{CleanupArgs, Cli, Command, RunArgs},
    ops::{cleanup::cleanup, cli},
    run,
};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => start(*args),
        Command::Status(args) => small().and_then(|runtime| {
            let socket = args.output.socket();
            print(&runtime.block_on(cli::status(&socket, args.output.json))?)
        }),
        Command::Explain(args) => small().and_then(|runtime| {
            let socket = args.output.socket();
            print(&runtime.block_on(cli::explain(&socket, &args.pod, args.output.json))?)
        }),
        Command::Cleanup(args) => clean(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: RunArgs) -> anyhow::Result<()> {
    sluice_ops::logging::init(args.log_json);
    let config = args.config()?;
    need_root()?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run::run(config))?;
    Ok(())
}

fn clean(args: &CleanupArgs) -> anyhow::Result<()> {
    sluice_ops::logging::init(false);
    let settings = args.kernel.settings()?;
    let files = args.files.checked(None)?;
    need_root()?;
    print(&cleanup(
        &args.directories,
        args.proxy_netns.as_deref(),
        &files,
        settings,
    )?)
}

fn need_root() -> anyhow::Result<()> {
    ensure!(
        geteuid().is_root(),
        "this changes links, routes and rules in the network namespaces of the node and of the \
         proxy, and uid {} may not; run it as root",
        geteuid()
    );
    Ok(())
}

fn small() -> anyhow::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// A reader that has gone, such as `head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
