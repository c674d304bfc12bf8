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
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// One endpoint of 50,000 goes: when zdt knows, and its CPU beside the writer's, in each of kube-proxy's modes.
    Rules,
    /// What a look-up and a dump cost, and what a node with 20,000 new connections a second loses to its observers.
    Conntrack,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    setup::lab()?;
    build::ebpf()?;
    let name = match args.what {
        What::Rules => "rules",
        What::Conntrack => "conntrack",
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
    child::status(&mut cargo)
}
