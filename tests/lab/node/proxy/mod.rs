//! kube-proxy: real rules in the node's namespace, written when slices and services change.

mod conntrack;
mod endpoints;
mod generations;
mod names;
mod nftables;
mod restore;
mod rules;
mod sync;

use std::{collections::VecDeque, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

pub use endpoints::Family;
pub use restore::RestoreError;

use super::Node;
use crate::api::store::{Change, Store};
use endpoints::Known;
use generations::Generations;
use restore::Tools;
use rules::Place;
use sync::Proxier;

/// kube-proxy's mode, and in iptables mode which iptables writes the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// iptables-nft: nf_tables in the kernel.
    #[default]
    Nft,
    /// iptables-legacy: x_tables in the kernel.
    Legacy,
    /// kube-proxy's nftables mode.
    Nftables,
}

/// A change on its way to this node's kube-proxy.
enum Arrived {
    Service(Box<Change<Service>>),
    Slice(Box<Change<EndpointSlice>>),
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
            let addresses = node.net().addresses();
            let place = Place {
                family,
                cluster_cidr: addresses.pods(family == Family::V6),
                services: addresses.services(family == Family::V6),
                node_ip,
            };
            Proxier::new(place, backend)
        })
        .collect();
    for proxier in &proxiers {
        proxier.base(node, &tools).await?;
    }
    // A legacy table is replaced in one system call at the end of the program.
    let generations = match backend {
        Backend::Nft | Backend::Nftables => Some(Generations::follow(node.net().netns())?),
        Backend::Legacy => None,
    };
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
                    dirty |= !proxier.sync(node, &tools, &known, generations.as_ref()).await?;
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
        proxier.touch(&key);
    }
    true
}
