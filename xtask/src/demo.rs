//! `cargo xtask demo`: a rolling update that loses requests, explained, and the same one with the advised setting.

use std::process::ExitCode;

use anyhow::Result;

use crate::{build, child, layout};

#[derive(clap::Args)]
pub struct Args {
    /// Seed of the client's timing and of the service's choice of pods.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    // Unoptimised: the first build takes a third of the time, and 300 requests a second need no more.
    build::all(false)?;
    let mut lab = child::as_root(layout::binary("zdt-lab", false))?;
    lab.arg("demo").arg("--zdt").arg(layout::binary("zdt", false));
    lab.arg("--seed").arg(args.seed.to_string());
    lab.arg(layout::scenarios().join("core/rolling-update-no-prestop.yaml"));
    child::status(&mut lab)
}
