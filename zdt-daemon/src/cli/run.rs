//! `zdt run`: watch this node and print a verdict for each failed request.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;

use super::stdout;
use crate::{
    app::{self, Serving},
    config,
    serve::Server,
    sink::{FanOut, Sink, metrics::Metrics},
};

pub(super) fn run(args: &config::Run) -> anyhow::Result<ExitCode> {
    let mut sinks: Vec<Box<dyn Sink + Send>> = Vec::new();
    let serving = match args.listen {
        Some(addr) => {
            let server = Server::bind(addr)?;
            let (metrics, sink) = Metrics::new().context("the metrics cannot be set up")?;
            // Before standard output: whoever reads there may be slow.
            sinks.push(Box::new(sink));
            tracing::info!(
                "serving /metrics, /healthz and /readyz on http://{}",
                server.addr()?
            );
            let metrics = Arc::new(metrics);
            Some(Serving { server, metrics })
        }
        None => None,
    };
    sinks.push(Box::new(stdout(&args.output)));
    let sink = Box::new(FanOut(sinks));
    app::observe(&args.node, Some(sink), args.record.as_deref(), serving)?;
    Ok(ExitCode::SUCCESS)
}
