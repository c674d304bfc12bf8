//! Tells the metrics and the HTTP interface what the wiring sees of zdt itself, and lets the latter read the former.

use std::sync::Arc;

use crate::{
    clock,
    cluster::{Client, Reviewer},
    input::{Input, What},
    kernel::{Attached, Costs, Losses},
    pipe::Pipe,
    serve::{Admission, Admitted, Aside, Pages, Server, Text, Told},
    sink::{
        metrics::{Metrics, Own, TEXT_FORMAT},
        recent::Recent,
    },
};

/// What is served, and where.
pub struct Serving {
    pub server: Server,
    /// Who reads what names pods is asked of the API server.
    pub token_review: bool,
    pub metrics: Arc<Metrics>,
    pub recent: Arc<Recent>,
}

impl Serving {
    /// Runs until the port cannot be served any more; verdicts do not depend on it.
    pub(super) async fn run(self, client: Client) {
        let reviewer = self.token_review.then(|| Arc::new(Reviewer::new(client)));
        let served = Served {
            metrics: self.metrics,
            recent: self.recent,
            reviewer,
        };
        let Err(error) = self.server.run(Arc::new(served)).await;
        tracing::warn!("the HTTP interface broke down: {error}");
    }
}

/// Nothing is kept where nothing is served.
#[derive(Clone)]
pub(super) struct Meter(Option<(Own, Arc<Recent>)>);

impl Meter {
    pub(super) fn new(serving: Option<&Serving>) -> Self {
        Self(serving.map(|s| (s.metrics.own().clone(), Arc::clone(&s.recent))))
    }

    pub(super) fn hooks(&self, kernel: &Attached) {
        let Some((own, _)) = &self.0 else { return };
        let attached: Vec<&str> = kernel.attached().iter().map(|a| a.program.name).collect();
        let missing: Vec<&str> = kernel.missing().iter().map(|m| m.program.name).collect();
        own.hooks(&attached, &missing);
    }

    /// What the kernel half counts; asked once a second.
    pub(super) fn kernel(&self, losses: &Losses, costs: &Costs) {
        let Some((own, _)) = &self.0 else { return };
        // The loss counters say it in the log when they cannot be read.
        for (hook, total) in losses.emitted().unwrap_or_default() {
            own.events(hook.name(), total);
        }
        for cost in costs.read() {
            own.run_time(cost.program, cost.time.as_secs_f64(), cost.runs);
        }
    }

    pub(super) fn synced(&self) {
        if let Some((own, _)) = &self.0 {
            own.synced();
        }
    }

    pub(super) fn api_server(&self, up: bool) {
        if let Some((own, _)) = &self.0 {
            own.api_server(up);
        }
    }

    /// Before `input` is taken.
    pub(super) fn input(&self, input: &Input, waiting: usize) {
        if let Some((own, _)) = &self.0 {
            own.input(clock::now(), input, waiting);
        }
    }

    /// After `input` was taken.
    pub(super) fn tables(&self, input: &Input, pipe: &Pipe) {
        if let (Some((own, recent)), What::Tick) = (&self.0, &input.what) {
            for table in pipe.tables() {
                own.table(table.name, table.entries, table.evicted);
            }
            own.record_lost(pipe.record_lost());
            recent.look(clock::wall(), own.health(), pipe.under_way());
            let (forgotten, kept) = recent.counts();
            own.kept(forgotten, kept);
        }
    }
}

/// The pages of `serve`.
struct Served {
    metrics: Arc<Metrics>,
    recent: Arc<Recent>,
    reviewer: Option<Arc<Reviewer>>,
}

impl Pages for Served {
    fn metrics(&self) -> Text {
        let metrics = Arc::clone(&self.metrics);
        Box::pin(async move {
            match super::aside(move || metrics.text()).await? {
                Ok(text) => Some(text),
                Err(error) => {
                    tracing::warn!("the metrics cannot be written: {error}");
                    None
                }
            }
        })
    }

    fn metrics_type(&self) -> &'static str {
        TEXT_FORMAT
    }

    fn alive(&self) -> Result<(), &'static str> {
        self.metrics.own().alive(clock::now())
    }

    fn ready(&self) -> Result<(), &'static str> {
        self.metrics.own().ready()
    }

    fn recent(&self) -> &Arc<Recent> {
        &self.recent
    }

    fn aside(&self, work: Box<dyn FnOnce() -> Told + Send>) -> Aside {
        Box::pin(super::aside(work))
    }

    fn admits(&self, token: Option<&str>, verb: &str, page: &str) -> Admission {
        match &self.reviewer {
            Some(reviewer) => reviewer.admits(token, verb, page),
            None => Box::pin(async { Admitted::Yes }),
        }
    }

    fn dropped_listener(&self) {
        self.metrics.own().dropped_listener();
    }

    fn asked(&self, page: &'static str, code: u16) {
        self.metrics.own().asked(page, code);
    }
}
