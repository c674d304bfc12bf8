//! `cargo xtask soak`: builds, and lets the lab do rollout after rollout beside one daemon.

use std::process::ExitCode;

use anyhow::Result;

use crate::{build, child, layout};

#[derive(clap::Args)]
pub struct Args {
    /// How long.
    #[arg(long, default_value_t = 20)]
    minutes: u32,
    /// Exactly one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    build::all(true)?;
    let mut lab = child::as_root(layout::binary("zdt-lab", true))?;
    lab.arg("soak").arg("--zdt").arg(layout::binary("zdt", true));
    lab.arg("--seconds")
        .arg((u64::from(args.minutes) * 60).to_string());
    if args.json {
        lab.arg("--json");
    }
    child::status(&mut lab)
}
