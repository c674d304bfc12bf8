//! Serves the gate alone, for all nodes that are asked.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    report::{NodeTold, Wanted},
    serve::{Aside, Pages, Server, Told},
    sink::recent::Recent,
};

/// What every node tells of a workload; may take seconds.
pub type Ask = Box<dyn Fn(&Wanted) -> Vec<NodeTold> + Send + Sync>;

struct Gates {
    ask: Ask,
    /// Nothing is kept here.
    recent: Arc<Recent>,
}

/// Answers until SIGTERM or SIGINT.
pub fn serve_gate(server: Server, ask: Ask) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let (recent, _) = Recent::new("");
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
        tokio::select! {
            served = server.run(Arc::new(Gates { ask, recent })) => {
                let Err(error) = served;
                Err(error).context("the HTTP interface broke down")
            }
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    });
    // A node that does not answer must not hold up the exit.
    runtime.shutdown_background();
    ended
}

impl Pages for Gates {
    fn recent(&self) -> &Arc<Recent> {
        &self.recent
    }

    fn nodes(&self, wanted: &Wanted) -> Vec<NodeTold> {
        (self.ask)(wanted)
    }

    fn only_gate(&self) -> bool {
        true
    }

    fn aside(&self, work: Box<dyn FnOnce() -> Told + Send>) -> Aside {
        Box::pin(super::aside(work))
    }
}
