//! `cargo xtask run -- ARGS`: builds, then `zdt run ARGS` on this machine, as root.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{build, child, layout};

#[derive(clap::Args)]
pub struct Args {
    /// Optimised binaries.
    #[arg(long)]
    release: bool,
    /// Arguments of `zdt run`, after `--`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    build::all(args.release)?;
    let mut zdt = child::as_root(layout::binary("zdt", args.release))?;
    zdt.arg("run").args(&args.args);
    // Takes our place: signals and the exit status are the daemon's own.
    Err(zdt.exec()).context("cannot start zdt")
}
