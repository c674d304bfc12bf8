//! `zdt serve-gate`: answers the gate's question over HTTP for all nodes at once.

use std::process::ExitCode;

use super::follow::{open, told};
use crate::{app, config, report::NodeTold, serve::Server};

pub(super) fn serve_gate(args: &config::ServeGate) -> anyhow::Result<ExitCode> {
    // What it is to show and to trust is asked now, and read anew at each question: both are renewed.
    open(&args.servers, &args.access)?;
    let server = Server::bind(args.listen)?;
    tracing::info!("serving /api/v1/gate and /healthz on http://{}", server.addr()?);
    let (servers, access) = (args.servers.clone(), args.access.clone());
    app::serve_gate(
        server,
        Box::new(move |wanted| {
            // The names are looked up each time: nodes come and go.
            told(&servers, &access, wanted).unwrap_or_else(|error| {
                vec![NodeTold {
                    from: "--server".to_owned(),
                    silent: Some(format!("{error:#}")),
                    ..NodeTold::default()
                }]
            })
        }),
    )?;
    Ok(ExitCode::SUCCESS)
}
