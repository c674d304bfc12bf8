//! `zdt run`: watch this node and print a verdict for each failed request.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;

use super::style;
use crate::{
    app::{self, Serving, Ways},
    cluster::Telling,
    config,
    serve::{Server, Tls},
    sink::{
        FanOut, Sink, Stdout,
        events::EventsSink,
        metrics::{EventCounts, ExportCounts, Metrics},
        otlp::OtlpSink,
        queued::Queued,
        recent::Recent,
    },
};

const NO_METRICS: &str = "the metrics cannot be set up";

pub(super) fn run(args: &config::Run) -> anyhow::Result<ExitCode> {
    let mut sinks: Vec<Box<dyn Sink + Send>> = Vec::new();
    let mut ways = Ways::default();
    if let Some(addr) = args.listen {
        let mut server = Server::bind(addr)?;
        if let Some((cert, key)) = args.guard.tls() {
            server = server.with_tls(Tls::open(cert, key)?);
        }
        let (metrics, sink) = Metrics::new().context(NO_METRICS)?;
        sinks.push(Box::new(sink));
        let (recent, sink) = Recent::new(args.node.name.as_deref().unwrap_or_default());
        sinks.push(Box::new(sink));
        tracing::info!(
            "serving the page, /api/v1, /metrics, /healthz and /readyz on {}://{}",
            server.scheme(),
            server.addr()?
        );
        ways.serving = Some(Serving {
            server,
            token_review: args.guard.token_review,
            metrics: Arc::new(metrics),
            recent,
        });
    }
    let metrics = ways.serving.as_ref().map(|s| &s.metrics);
    if args.events {
        let counts = match metrics {
            Some(metrics) => metrics.events().clone(),
            None => EventCounts::new().context(NO_METRICS)?,
        };
        let (sink, told) = EventsSink::new(counts.clone());
        sinks.push(Box::new(sink));
        ways.events = Some(Telling { told, counts });
    }
    let exports = match metrics {
        Some(metrics) => metrics.exports().clone(),
        None => ExportCounts::new().context(NO_METRICS)?,
    };
    if let Some(collector) = &args.otlp_endpoint {
        let (sink, exporting) = OtlpSink::new(collector.clone(), exports.of("otlp"));
        sinks.push(Box::new(sink));
        ways.otlp = Some(exporting);
    }
    let text = Stdout::new(Vec::new(), args.output.format, style());
    let (sink, printing) = Queued::new(text, exports.of("stdout"));
    sinks.push(Box::new(sink));
    ways.printing = Some(printing);
    let sink = Box::new(FanOut(sinks));
    app::observe(&args.node, Some(sink), args.record.as_deref(), ways)?;
    Ok(ExitCode::SUCCESS)
}
