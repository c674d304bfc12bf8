//! `cargo xtask score`: builds, runs every scenario of a folder in the lab and prints the table or one JSON object.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{build, child, layout};

#[derive(clap::Args)]
pub struct Args {
    /// Folder of scenarios (*.yaml, also in folders in it); the default is tests/scenarios with the folders in it.
    #[arg(long)]
    scenarios: Option<PathBuf>,
    /// Runs of each scenario, with the seeds 1 to N.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Scenarios side by side; the default is one for each CPU.
    #[arg(long)]
    jobs: Option<u8>,
    /// Only the scenarios that can be run over IPv6, each over IPv6.
    #[arg(long)]
    v6: bool,
    /// Where zdt says that a preStop sleep would have prevented every failure: run it again with that, and expect none.
    #[arg(long)]
    advice: bool,
    /// Exactly one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    build::all(true)?;
    let scenarios = match &args.scenarios {
        // Relative to where the developer is, not to the repository.
        Some(dir) => std::path::absolute(dir).context("the scenario folder has no absolute path")?,
        None => layout::scenarios(),
    };
    let mut lab = child::as_root(layout::binary("zdt-lab", true))?;
    lab.arg("score").arg("--zdt").arg(layout::binary("zdt", true));
    lab.arg("--scenarios").arg(scenarios);
    lab.arg("--seeds").arg(args.seeds.to_string());
    if let Some(jobs) = args.jobs {
        lab.arg("--jobs").arg(jobs.to_string());
    }
    if args.v6 {
        lab.arg("--v6");
    }
    if args.advice {
        lab.arg("--advice");
    }
    if args.json {
        lab.arg("--json");
    }
    child::status(&mut lab)
}
