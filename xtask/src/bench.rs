//! `cargo xtask bench`: what zdt costs, as ratios with their spread. Needs root and a machine that does nothing else.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::{build, child, setup};

#[derive(clap::Args)]
pub struct Args {
    what: What,
    /// Exactly one JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// Measured so often; the default is the benchmark's own.
    #[arg(long)]
    rounds: Option<usize>,
    /// So many times smaller than it is meant, to try the benchmark itself (`watches`).
    #[arg(long)]
    shrink: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// One endpoint of 50,000 goes: when zdt knows, and its CPU beside the writer's, in each of kube-proxy's modes.
    Rules,
    /// What a look-up and a dump cost, and what a node with 20,000 new connections a second loses to its observers.
    Conntrack,
    /// What the watches cost each node of a cluster of 5,000 nodes and 150,000 pods: memory, CPU, and the lag of a change.
    Watches,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    setup::lab()?;
    build::ebpf()?;
    let name = match args.what {
        What::Rules => "rules",
        What::Conntrack => "conntrack",
        What::Watches => "watches",
    };
    let mut cargo = child::cargo_as_root()?;
    cargo.args([
        "bench",
        "--quiet",
        "--locked",
        "--package",
        "zdt-daemon",
        "--bench",
        name,
        "--",
    ]);
    if args.json {
        cargo.arg("--json");
    }
    if let Some(rounds) = args.rounds {
        cargo.arg("--rounds").arg(rounds.to_string());
    }
    if let Some(shrink) = args.shrink {
        cargo.arg("--shrink").arg(shrink.to_string());
    }
    child::status(&mut cargo)
}
