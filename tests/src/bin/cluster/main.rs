//! A Kubernetes that stays: `make cluster` and `make cluster-down`.

mod keep;
mod state;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use sluice_tests::cluster::{Family, Options, ProxyMode};

use self::state::State;

/// A two-node Kubernetes on this machine, for looking around.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Brings up a cluster and leaves it running in the background.
    Up(Wanted),
    /// Takes the cluster away, also what was left by a crash or a reboot.
    Down,
    /// The background process of `up`: holds the cluster until it is ended.
    #[command(hide = true)]
    Keep(Wanted),
}

#[derive(Args, Debug)]
struct Wanted {
    /// How kube-proxy programs Services.
    #[arg(long, value_enum, default_value = "iptables")]
    proxy_mode: ProxyMode,
    /// Address families of pods, Services and nodes.
    #[arg(long, value_enum, default_value = "dual")]
    family: Family,
    /// How many nodes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// A taint that nodes register with, as KEY=VALUE:EFFECT; may be repeated.
    #[arg(long)]
    register_taint: Vec<String>,
}

impl Wanted {
    fn options(&self) -> Options {
        Options {
            proxy_mode: self.proxy_mode,
            family: self.family,
            nodes: self.nodes,
            register_taints: self.register_taint.clone(),
        }
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &Verb) -> anyhow::Result<()> {
    let state = State::of_project();
    match verb {
        Verb::Up(_) => {
            if state.keeper().is_none() {
                // What was left by a crash would stand in the way.
                state.remove()?;
                keep::start(&state).context("start the background process")?;
            } else {
                println!("A cluster is up already; `make cluster-down` takes it away.");
            }
            print!("{}", state.guide()?);
            Ok(())
        }
        Verb::Down => {
            if let Some(pid) = state.keeper() {
                keep::stop(&state, pid)?;
            }
            state.remove()
        }
        Verb::Keep(wanted) => {
            if state.keeper().is_some() {
                bail!("a cluster is up already");
            }
            keep::keep(&state, wanted.options())
        }
    }
}
