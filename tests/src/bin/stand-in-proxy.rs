//! The stand-in proxy as a program.

use anyhow::Context as _;
use clap::Parser as _;
use sluice_tests::stand_in::{Args, run};

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime
        .block_on(run(args))
        .context("the stand-in proxy cannot run")
}
