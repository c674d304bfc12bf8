//! The load client: open-loop requests at a fixed rate, and the ground truth of what each one got.

mod connection;
mod pace;
mod ports;
mod udp;
mod writer;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, ensure};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use connection::Connection;
use pace::{Job, Schedule};
use ports::Ports;
use writer::Writer;

/// Whether a connection is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A new connection for each request.
    Short,
    /// `--connections` connections that are kept open and opened again when they end.
    Keepalive,
    /// One UDP datagram for each request.
    Udp,
}

/// Switches of the load client.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to send the requests
    #[arg(long)]
    pub target: SocketAddr,
    /// Requests a second
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// How long to begin requests for
    #[arg(long, required_unless_present = "requests")]
    pub seconds: Option<f64>,
    /// How many requests; with `--seconds`, whichever is less
    #[arg(long)]
    pub requests: Option<u64>,
    #[arg(long, value_enum, default_value = "short")]
    pub mode: Mode,
    /// Connections in `keepalive` mode
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Time for a whole request, connecting included
    #[arg(long, default_value_t = 3000)]
    pub timeout_ms: u64,
    /// Hang up this long after a request began
    #[arg(long)]
    pub abort_after_ms: Option<u64>,
    /// With `keepalive`: use an idle connection again without looking whether its server has closed it
    #[arg(long)]
    pub stale_pool: bool,
    /// Send HEAD requests
    #[arg(long)]
    pub head: bool,
    /// Time between a connection and its first request
    #[arg(long, default_value_t = 0)]
    pub send_delay_ms: u64,
    /// Share of the requests that `--abort-after-ms` applies to
    #[arg(long, default_value_t = 1.0)]
    pub abort_share: f64,
    /// A fixed set of so many source ports, used in turn (`short`; in `udp` 4 without this)
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub source_ports: Option<u16>,
    /// Path of the requests
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Decides the phase of the first request and which requests are aborted
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where the ground truth goes, one JSON line per request, `-` is standard output; without it only the summary is
    /// printed
    #[arg(long)]
    pub truth: Option<PathBuf>,
}

/// Counts of one run, printed on stdout as one JSON object.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    pub requests: u64,
    pub failed: u64,
    /// Outcome name to count; outcomes that did not occur are left out.
    pub outcomes: BTreeMap<String, u64>,
    /// Pod name to requests that it answered.
    pub servers: BTreeMap<String, u64>,
    pub seconds: f64,
    /// Worst lateness of a request's beginning against the schedule, milliseconds.
    pub late_max_ms: f64,
    /// 99th percentile of the same.
    pub late_p99_ms: f64,
    /// The wall clock (nanoseconds since 1970) less CLOCK_MONOTONIC at the end: the truth's times on other machines.
    #[serde(default)]
    pub wall_ahead_ns: i64,
}

/// Upper bound of `--rate` × `--seconds`: a load client is no flood.
const MOST_REQUESTS: u64 = 2_000_000;

/// Sends the load and returns its summary.
pub async fn run(args: Args) -> anyhow::Result<Summary> {
    ensure!(
        args.rate > 0.0 && args.rate <= 20_000.0,
        "--rate must be above 0 and at most 20000"
    );
    ensure!(
        (0.0..=1.0).contains(&args.abort_share),
        "--abort-share must be between 0 and 1"
    );
    ensure!(args.connections > 0, "--connections must be at least 1");
    let args = Arc::new(args);
    let schedule = Schedule::new(&args)?;
    ensure!(
        schedule.requests <= MOST_REQUESTS,
        "more than {MOST_REQUESTS} requests: lower --rate or --seconds"
    );
    let writer = Writer::start(args.truth.as_deref()).context("cannot start the truth writer")?;
    let (jobs, requests) = mpsc::channel(4096);
    let began = crate::clock::monotonic_ns();
    let pacer = pace::start(schedule, jobs)?;
    let mut workers = match args.mode {
        Mode::Short => short(&args, requests, &writer).await,
        Mode::Keepalive => keepalive(&args, requests, &writer),
        Mode::Udp => udp::requests(&args, requests, &writer).await?,
    };
    while let Some(ended) = workers.join_next().await {
        ended.context("a request's task panicked")?;
    }
    let seconds = (crate::clock::monotonic_ns() - began) as f64 / 1e9;
    pacer
        .join()
        .map_err(|_| anyhow::anyhow!("the pacing thread panicked"))?;
    let totals = writer.finish()?;
    Ok(totals.summary(seconds))
}

/// One task per request, each with its own connection. Their number is bounded by rate × timeout.
async fn short(args: &Arc<Args>, mut jobs: mpsc::Receiver<Job>, writer: &Writer) -> JoinSet<()> {
    let ports = args.source_ports.map(Ports::new);
    let mut tasks = JoinSet::new();
    while let Some(job) = jobs.recv().await {
        let (args, writer) = (Arc::clone(args), writer.clone());
        let port = match &ports {
            Some(ports) => ports.take().await,
            None => None,
        };
        tasks.spawn(async move {
            let mut connection = Connection::from_port(args.target, port);
            let request = connection.request(&job, &args).await;
            writer.record(&job, request).await;
            connection.closed_by_peer().await;
        });
        while tasks.try_join_next().is_some() {}
    }
    tasks
}

/// A fixed set of connections; a request waits for a free one.
fn keepalive(args: &Arc<Args>, jobs: mpsc::Receiver<Job>, writer: &Writer) -> JoinSet<()> {
    let jobs = Arc::new(Mutex::new(jobs));
    let mut workers = JoinSet::new();
    for _ in 0..args.connections {
        workers.spawn(keep(Arc::clone(args), Arc::clone(&jobs), writer.clone()));
    }
    workers
}

/// Sends requests over one connection, and over a new one whenever it has ended.
async fn keep(args: Arc<Args>, jobs: Arc<Mutex<mpsc::Receiver<Job>>>, writer: Writer) {
    let mut connection = Connection::new(args.target);
    loop {
        let next = async { jobs.lock().await.recv().await };
        let job = tokio::select! {
            biased;
            // An idle connection that the server closes is dropped at once, as Go's and nginx's pools do.
            () = connection.ended(), if !args.stale_pool => {
                connection = Connection::new(args.target);
                continue;
            }
            job = next => job,
        };
        let Some(job) = job else { return };
        let request = connection.request(&job, &args).await;
        if !connection.reusable() {
            connection = Connection::new(args.target);
        }
        writer.record(&job, request).await;
    }
}
