//! `zdt run`: watch this node and print a verdict for each failed request.

use std::process::ExitCode;

use super::stdout;
use crate::{app, config};

pub(super) fn run(args: &config::Run) -> anyhow::Result<ExitCode> {
    let sink = stdout(&args.output);
    app::observe(&args.node, Some(Box::new(sink)), args.record.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
