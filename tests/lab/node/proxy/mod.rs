//! kube-proxy in iptables mode: real rules in the node's namespace, written when slices and services change.

mod endpoints;
mod names;
mod restore;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::{File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    sync::Arc,
};

use anyhow::Context as _;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

pub use endpoints::Family;
pub use restore::RestoreError;

use super::Node;
use crate::{
    api::store::{Change, Store},
    clock::monotonic_ns,
};
use endpoints::{Key, Known};
use restore::Tools;
use rules::Place;

/// Which iptables writes the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// iptables-nft: nf_tables in the kernel.
    #[default]
    Nft,
    /// iptables-legacy: x_tables in the kernel.
    Legacy,
}

/// One sync, as a line of `kube-proxy-<node>.jsonl`.
#[derive(Serialize)]
struct SyncLine<'a> {
    node: &'a str,
    family: Family,
    backend: Backend,
    /// CLOCK_MONOTONIC, nanoseconds.
    began_ns: u64,
    /// The rules are in force.
    ended_ns: u64,
    /// Service port name to the endpoints it is routed to now.
    endpoints: BTreeMap<&'a str, Vec<SocketAddr>>,
}

/// A change on its way to this node's kube-proxy.
enum Arrived {
    Service(Box<Change<Service>>),
    Slice(Box<Change<EndpointSlice>>),
}

/// One address family's rules.
struct Proxier {
    place: Place,
    chains: BTreeSet<String>,
    /// Services whose chains the next sync writes; None: everything.
    touched: Option<BTreeSet<Key>>,
}

/// Runs until the store closes.
pub(crate) async fn run(node: Arc<Node>, store: Store) {
    if let Err(error) = proxy(&node, &store).await {
        tracing::error!(
            node = node.name(),
            error = format!("{error:#}"),
            "kube-proxy ended"
        );
    }
}

async fn proxy(node: &Arc<Node>, store: &Store) -> anyhow::Result<()> {
    let path = node
        .settings()
        .out
        .join(format!("kube-proxy-{}.jsonl", node.name()));
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let backend = node.settings().backend;
    let tools = Arc::new(Tools::link(
        &node.run().dir().join(format!("bin-{}", node.name())),
        backend,
    )?);
    let mut proxiers: Vec<Proxier> = node
        .ips()
        .into_iter()
        .map(|node_ip| {
            let family = Family::of(node_ip);
            let cluster_cidr = node.net().addresses().pods(family == Family::V6);
            Proxier {
                place: Place {
                    family,
                    cluster_cidr,
                    node_ip,
                },
                chains: BTreeSet::new(),
                touched: None,
            }
        })
        .collect();
    for proxier in &proxiers {
        write(node, &tools, proxier.place.family, rules::base().to_owned()).await?;
        if proxier.place.family == Family::V4 {
            write(node, &tools, Family::V4, rules::LOCALNET.to_owned()).await?;
        }
    }
    let (mut services, mut slices) = (store.watch::<Service>(), store.watch::<EndpointSlice>());
    let mut known = Known::default();
    let mut late: VecDeque<(Instant, Arrived)> = VecDeque::new();
    let mut dirty = true;
    let mut not_before = Instant::now();
    loop {
        let due = late.front().map(|(at, _)| *at);
        let arrived = tokio::select! {
            biased;
            () = sleep_until(due.unwrap_or(not_before)), if due.is_some() => {
                if let Some((_, arrived)) = late.pop_front() {
                    dirty |= apply(&mut known, &mut proxiers, &arrived);
                }
                continue;
            }
            change = services.next() => change.map(|c| Arrived::Service(Box::new(c))),
            change = slices.next() => change.map(|c| Arrived::Slice(Box::new(c))),
            () = sleep_until(not_before), if dirty => {
                dirty = false;
                for proxier in &mut proxiers {
                    dirty |= !sync(node, &tools, &known, proxier, &mut log).await?;
                }
                // Counted from the end of a run (k8s.io/kubernetes/pkg/proxy/runner, BoundedFrequencyRunner).
                not_before = Instant::now() + node.draw(|t, random| t.min_sync_period_ms.draw(random));
                continue;
            }
        };
        let Some(arrived) = arrived else { return Ok(()) };
        let delay = node.draw(|t, random| t.proxy_late_ms.draw(random));
        // In order, whatever is drawn: a watch does not overtake itself.
        let at = due.map_or(Instant::now() + delay, |_| {
            late.back()
                .map_or(Instant::now(), |(at, _)| *at)
                .max(Instant::now() + delay)
        });
        late.push_back((at, arrived));
    }
}

/// True: rules must be written.
fn apply(known: &mut Known, proxiers: &mut [Proxier], arrived: &Arrived) -> bool {
    let touched = match arrived {
        Arrived::Service(change) => match &**change {
            Change::Applied(service) => known.service(service, false),
            Change::Deleted(service) => known.service(service, true),
        },
        Arrived::Slice(change) => match &**change {
            Change::Applied(slice) => known.slice(slice, false),
            Change::Deleted(slice) => known.slice(slice, true),
        },
    };
    let Some(key) = touched else { return false };
    for proxier in proxiers {
        if let Some(touched) = &mut proxier.touched {
            touched.insert(key.clone());
        }
    }
    true
}

/// False: the rules were not written.
async fn sync(
    node: &Arc<Node>,
    tools: &Arc<Tools>,
    known: &Known,
    proxier: &mut Proxier,
    log: &mut File,
) -> anyhow::Result<bool> {
    let ports = known.ports(proxier.place.family, node.name());
    if ports.is_empty() && proxier.chains.is_empty() && proxier.touched.is_some() {
        // Nothing of this family, and the base is written: a single-stack cluster has no second proxier.
        return Ok(true);
    }
    let began_ns = monotonic_ns();
    let sync = rules::render(&proxier.place, &ports, proxier.touched.as_ref(), &proxier.chains);
    if let Err(error) = write(node, tools, proxier.place.family, sync.text).await {
        // As kube-proxy: a failed sync is tried again in full.
        tracing::error!(node = node.name(), %error, "sync failed");
        proxier.touched = None;
        return Ok(false);
    }
    proxier.chains = sync.chains;
    proxier.touched = Some(BTreeSet::new());
    let line = SyncLine {
        node: node.name(),
        family: proxier.place.family,
        backend: node.settings().backend,
        began_ns,
        ended_ns: monotonic_ns(),
        endpoints: ports
            .iter()
            .map(|p| (p.name.as_str(), p.all().into_iter().collect()))
            .collect(),
    };
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    log.write_all(&text)
        .context("cannot write kube-proxy's log: is the disk full?")?;
    Ok(true)
}

async fn write(node: &Arc<Node>, tools: &Arc<Tools>, family: Family, text: String) -> anyhow::Result<()> {
    let (node, tools) = (Arc::clone(node), Arc::clone(tools));
    let written =
        tokio::task::spawn_blocking(move || tools.restore(node.net().netns(), family, &text)).await?;
    Ok(written?)
}
