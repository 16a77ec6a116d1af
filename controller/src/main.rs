//! `sluice-controller`.

use std::{
    io::{self, Read as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;
use sluice_controller::{
    config::{Cli, Command, Config, OperatorArgs},
    issuer::operator::{self, Wish},
    istio_operator, run,
    source::kubernetes,
    uninstall,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(config) => {
            sluice_ops::logging::init(config.log_json);
            start(*config).await
        }
        Command::OperatorCertificate(args) => {
            sluice_ops::logging::init(false);
            operator_certificate(args).await
        }
        Command::Uninstall(args) => {
            sluice_ops::logging::init(false);
            uninstall::run(args).await.map_err(Into::into)
        }
        Command::Values => values(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Standard input as values for the chart, on standard output.
fn values() -> anyhow::Result<()> {
    let mut text = String::new();
    // One byte more than is read says that there is more.
    let most = u64::try_from(istio_operator::MAX_BYTES)? + 1;
    let mut input = io::stdin().take(most);
    let read = input.read_to_string(&mut text);
    read.context("cannot read an IstioOperator document from standard input")?;
    print!("{}", istio_operator::convert(&text)?.to_yaml());
    Ok(())
}

async fn start(config: Config) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stopper = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopper.cancel();
    });
    run::run(config, stop).await?;
    Ok(())
}

async fn operator_certificate(args: OperatorArgs) -> anyhow::Result<()> {
    let client = kubernetes::connect(args.kubeconfig.as_deref()).await?;
    let wish = Wish {
        name: args.name,
        lifetime: args.lifetime,
        authority: args.authority.place(),
        namespace: args.authority.pod_namespace,
        trust_domain: args.trust_domain,
    };
    let made = operator::make(client, wish).await?;
    let Some(dir) = args.out else {
        print!("{}", made.print());
        return Ok(());
    };
    for path in made.write(&dir)? {
        println!("{}", path.display());
    }
    Ok(())
}
