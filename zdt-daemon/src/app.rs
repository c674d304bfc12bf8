//! The only wiring, and the only place that spawns tasks.
//!
//! Producers (kernel events with their look-ups, rules, conntrack, watches, the clock) feed one bounded channel; one
//! thread consumes it. They stop before it does, so that everything seen before the stop is judged.

#![expect(clippy::disallowed_methods, reason = "the one place that spawns tasks")]

mod conntrack;
mod consume;
mod endings;
mod feed;
mod gate;
mod later;
mod logs;
mod lookup;
mod maps;
mod meter;
mod paused;
mod questions;
mod rules;
mod tick;
mod ways;

use std::{
    fs::File,
    io::{self, Write as _},
    net::IpAddr,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use anyhow::Context as _;
use futures::future::{OptionFuture, join, join3};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};

pub use gate::serve_gate;
pub use logs::daemons_logs;
pub use meter::Serving;
pub use ways::Ways;

use self::{
    conntrack::{Conntrack, QUESTIONS},
    consume::consume,
    feed::Feed,
    maps::Maps,
    meter::Meter,
    questions::Questions,
    rules::{LostRules, Rules},
    tick::{Waiting, tick},
    ways::LAST,
};
use crate::{
    causes, clock,
    cluster::{self, Watched},
    config,
    input::{Input, Ktime, NetnsInum, Observation, Start, What},
    kernel::{Attached, Loaded, Options},
    pipe::Pipe,
    record::{Recorder, Writing},
    sink::{Sink, queued::Printing},
};

/// Inputs that may wait. One is about 500 bytes, so 8 MiB at most; a burst of 16,384 kernel events is more failed
/// connections than fill a quarter of the ring, at which it is looked at.
const CHANNEL: usize = 16_384;

/// Replaced legacy tables that may wait to be read; they share one read, so few ever do.
const REPLACED: usize = 256;

/// A task that panicked.
const READER: &str = "the reader of kernel events broke down";
const WATCHES: &str = "the watches broke down";
const CONSUMER: &str = "the consumer broke down";
const PRINTER: &str = "the writer of standard output broke down";
const WRITE: &str = "cannot write the outputs";

/// What was lost on the way to the channel, by source; reported with the next tick.
#[derive(Debug, Default)]
struct Lost {
    channel: AtomicU64,
    lookup: AtomicU64,
    dump: AtomicU64,
    counters: AtomicU64,
    decode: AtomicU64,
    rules: LostRules,
}

/// Watches this node until SIGTERM or SIGINT, or until nobody reads the outputs any more.
pub fn observe(
    node: &config::Node,
    sink: Option<Box<dyn Sink + Send>>,
    record: Option<&Path>,
    ways: Ways,
) -> anyhow::Result<()> {
    let (recorder, writing) = record.map(recorder).transpose()?.unzip();
    let ways = Ways { writing, ..ways };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let observed = runtime.block_on(observe_async(node, Pipe::new(recorder, sink), ways));
    // A watch that waits for a dead API server must not hold up the exit.
    runtime.shutdown_background();
    observed
}

fn recorder(path: &Path) -> anyhow::Result<(Recorder, Writing<File>)> {
    let file = File::create(path).with_context(|| {
        format!(
            "cannot create the record {}: choose a place that zdt may write to",
            path.display()
        )
    })?;
    Recorder::new(file).with_context(|| format!("cannot write the record {}", path.display()))
}

async fn observe_async(node: &config::Node, mut pipe: Pipe, ways: Ways) -> anyhow::Result<()> {
    let name = node.name.clone().context(
        "no node name: pass --node NAME (as in `kubectl get nodes`), or set NODE_NAME from the downward API \
         (fieldRef: spec.nodeName)",
    )?;
    let (client, url) = cluster::client(node.kubeconfig.as_deref()).await?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    let meter = Meter::new(ways.serving.as_ref());
    if let Some(serving) = ways.serving {
        // Before the hooks: loading them may take a while, and the kubelet asks at once. Ends with the runtime.
        tokio::spawn(serving.run(client.clone()));
    }

    let mut kernel = Loaded::load(&Options {
        btf: node.kernel.btf_path.clone(),
        ..Options::default()
    })?
    .attach()?;
    for missing in kernel.missing() {
        tracing::warn!(
            "the hook {} is not attached: {}; {}",
            missing.program.name,
            missing.reason,
            causes::say_costs(missing.program.tracepoint)
        );
    }
    let hooks = kernel.attached().len();
    meter.hooks(&kernel);
    let node_addrs = node_addrs().context("cannot read this node's own addresses")?;
    let (to, from) = mpsc::channel(CHANNEL);
    to.send(start(name.clone(), &kernel, node_addrs.clone())).await?;

    // Before the watches: what a pod's deletion does to the rules comes later.
    let mut rules = aside(Rules::open)
        .await
        .context("the reader of rules broke down")?;
    if let Some(first) = rules.first() {
        to.send(first).await?;
    }
    let (replaced, replacements) = mpsc::channel(REPLACED);
    let (stir, stirred) = watch::channel(Ktime::default());
    let lost = Arc::new(Lost::default());
    let (running, stop) = watch::channel(());
    let ring = kernel.take_ring().context("the ring buffer is taken")?;
    let losses = kernel.take_losses().context("the loss counters are taken")?;
    let costs = kernel.costs();
    let feed = Feed::new(
        kernel.translator(),
        to.clone(),
        (replaced, stir),
        Arc::clone(&lost),
    );
    let mut reader = tokio::spawn(feed.run(ring, stop.clone()));
    let follower = tokio::spawn(follow(
        rules,
        replacements,
        to.clone(),
        Arc::clone(&lost),
        stop.clone(),
    ));
    let (ask, questions) = mpsc::channel(QUESTIONS);
    let conntrack = Conntrack::open(to.clone(), Arc::clone(&lost));
    let answers = tokio::spawn(conntrack.run(questions, stop.clone()));
    let mut questions = Questions::new(ask, Arc::clone(&lost));
    let (mut waiting, waits) = Waiting::new();
    let ticks = tokio::spawn(tick(
        (losses, costs, meter.clone()),
        waits,
        to.clone(),
        Arc::clone(&lost),
        stop.clone(),
    ));
    let (synced, all_listed) = oneshot::channel();
    let last = to.clone();
    let reached = meter.clone();
    let events = OptionFuture::from(ways.events.map(|e| e.write(client.clone(), name.clone())));
    let otlp = OptionFuture::from(ways.otlp.map(|o| o.send(name.clone())));
    let mut tellers = tokio::spawn(join(events, otlp));
    let print = |p: Printing| tokio::task::spawn_blocking(move || p.write(io::stdout()));
    let mut printer = OptionFuture::from(ways.printing.map(print));
    let record = |w: Writing<File>| tokio::task::spawn_blocking(move || w.write());
    let recording = OptionFuture::from(ways.writing.map(record));
    let mut watches = tokio::spawn(cluster::watch(Watched {
        client,
        url,
        node: name,
        node_addrs: Box::new(|| self::node_addrs().unwrap_or_default()),
        maps: Box::new(Maps::new(kernel)),
        stirred,
        to,
        synced,
        reachable: Box::new(move |up| reached.api_server(up)),
    }));
    let consumed = meter.clone();
    let mut consumer = tokio::task::spawn_blocking(move || {
        consume(from, (&mut questions, &mut waiting), &mut pipe, &consumed)
    });
    tokio::spawn(async move {
        if all_listed.await.is_ok() {
            meter.synced();
            let _ = writeln!(io::stderr(), "ready: {hooks} hooks attached, watches synced");
        }
    });

    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = &mut watches => Some(ended),
        // The sink failed: what is left to say cannot be said.
        ended = &mut consumer => return ended.context(CONSUMER)?,
        Some(ended) = &mut printer => return ended.context(PRINTER)?.context(WRITE),
        // It ends by itself only when there is nothing more to judge by.
        ended = &mut reader => return ended.context(READER)?,
    };
    let listened = if let Some(ended) = ended {
        ended.context(WATCHES)?.map_err(anyhow::Error::from)
    } else {
        watches.abort();
        // An aborted task holds its sender, and here the hooks, until it is gone.
        let _ = watches.await;
        Ok(())
    };
    let (at, what) = (clock::now(), What::Stopping);
    // Nobody takes it when the consumer has ended.
    let _ = last.send(Input { at, what }).await;
    drop(last);
    // The ring is drained and the losses are counted once more; then the last senders are gone.
    drop((running, stop));
    follower.await.context("the reader of rules broke down")?;
    answers.await.context("what asks conntrack broke down")?;
    let ticked = ticks.await.context("the clock broke down");
    let read = reader.await.context(READER)?;
    let delivered = consumer.await.context(CONSUMER)?;
    // Nobody tells any more. What is not taken by then is gone with this process.
    let last = join3(printer, &mut tellers, recording);
    if tokio::time::timeout(LAST, last).await.is_err() {
        tracing::warn!("not all outputs were taken, or the record was not written whole, before the end");
    }
    listened.and(ticked).and(read).and(delivered)
}

/// Runs what blocks on a thread for that. None: it broke down.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Follows the rules until the stop.
async fn follow(
    rules: Rules,
    replacements: mpsc::Receiver<(Ktime, Observation)>,
    to: mpsc::Sender<Input>,
    lost: Arc<Lost>,
    mut stop: watch::Receiver<()>,
) {
    tokio::select! {
        () = rules.follow(replacements, to, &lost) => {}
        _ = stop.changed() => {}
    }
}

fn start(node: String, kernel: &Attached, node_addrs: Vec<IpAddr>) -> Input {
    let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
    let (at, wall) = (clock::now(), clock::wall());
    Input {
        at,
        what: What::Start(Start {
            node,
            wall,
            kernel: release.unwrap_or_default(),
            node_addrs,
            netns: own_netns(),
            hooks: kernel.hook_names(),
            missing: kernel.not_told(),
            hz: kernel.facts().hz,
        }),
    }
}

/// Inode number of this network namespace (namespaces(7)); 0 where /proc does not tell.
fn own_netns() -> NetnsInum {
    let inode = std::fs::metadata("/proc/self/ns/net").map(|m| std::os::unix::fs::MetadataExt::ino(&m));
    NetnsInum(inode.ok().and_then(|i| u32::try_from(i).ok()).unwrap_or(0))
}

/// Addresses of this network namespace, except loopback's.
fn node_addrs() -> nix::Result<Vec<IpAddr>> {
    let mut addrs: Vec<IpAddr> = nix::ifaddrs::getifaddrs()?
        .filter_map(|interface| {
            let addr = interface.address?;
            let v4 = addr.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| addr.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .filter(|addr| !addr.is_loopback())
        .collect();
    addrs.sort_unstable();
    addrs.dedup();
    Ok(addrs)
}
