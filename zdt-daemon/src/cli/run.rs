//! `zdt run`: watch this node and print a verdict for each failed request.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;

use super::stdout;
use crate::{
    app::{self, Serving, Ways},
    cluster::Telling,
    config,
    serve::{Server, Tls},
    sink::{
        FanOut, Sink,
        events::EventsSink,
        metrics::{EventCounts, Metrics},
        recent::Recent,
    },
};

pub(super) fn run(args: &config::Run) -> anyhow::Result<ExitCode> {
    let mut sinks: Vec<Box<dyn Sink + Send>> = Vec::new();
    let serving = match args.listen {
        Some(addr) => {
            let mut server = Server::bind(addr)?;
            if let Some((cert, key)) = args.guard.tls() {
                server = server.with_tls(Tls::open(cert, key)?);
            }
            let (metrics, sink) = Metrics::new().context("the metrics cannot be set up")?;
            // Before standard output: whoever reads there may be slow.
            sinks.push(Box::new(sink));
            let (recent, sink) = Recent::new(args.node.name.as_deref().unwrap_or_default());
            sinks.push(Box::new(sink));
            tracing::info!(
                "serving the page, /api/v1, /metrics, /healthz and /readyz on {}://{}",
                server.scheme(),
                server.addr()?
            );
            let metrics = Arc::new(metrics);
            Some(Serving {
                server,
                token_review: args.guard.token_review,
                metrics,
                recent,
            })
        }
        None => None,
    };
    let events = if args.events {
        let counts = match &serving {
            Some(serving) => serving.metrics.events().clone(),
            None => EventCounts::new().context("the metrics cannot be set up")?,
        };
        let (sink, told) = EventsSink::new(counts.clone());
        sinks.push(Box::new(sink));
        Some(Telling { told, counts })
    } else {
        None
    };
    sinks.push(Box::new(stdout(&args.output)));
    let sink = Box::new(FanOut(sinks));
    let ways = Ways { serving, events };
    app::observe(&args.node, Some(sink), args.record.as_deref(), ways)?;
    Ok(ExitCode::SUCCESS)
}
