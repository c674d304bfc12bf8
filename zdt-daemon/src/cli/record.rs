//! `zdt record FILE`: write the input stream, judge nothing.

use std::process::ExitCode;

use crate::{app, config};

pub(super) fn record(args: &config::Record) -> anyhow::Result<ExitCode> {
    app::observe(&args.node, None, Some(&args.file), app::Ways::default())?;
    Ok(ExitCode::SUCCESS)
}
