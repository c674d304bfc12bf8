//! Writes to `times.jsonl` what the API server stored: deletions, slices, readiness.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use tokio::time::Instant;

use super::objects::NAMESPACE;
use crate::{
    api::{Change, Store},
    clock::monotonic_ns,
    controllers::pods::ready,
    times::{Endpoint, Times, What},
    truth::Request,
};

/// Follows the store until this is dropped.
pub(super) async fn follow(store: Store, times: Times) {
    let (mut pods, mut slices) = (store.watch::<Pod>(), store.watch::<EndpointSlice>());
    let mut seen = Seen::default();
    loop {
        let (at, what) = tokio::select! {
            change = pods.next_timed() => match change {
                Some((at, change)) => (at, seen.pod(change)),
                None => return,
            },
            change = slices.next_timed() => match change {
                Some((at, Change::Applied(slice))) => (at, seen.slice(&slice).into_iter().collect()),
                Some((_, Change::Deleted(_))) => continue,
                None => return,
            },
        };
        for what in what {
            if let Err(error) = times.write(nanoseconds(at), what) {
                return tracing::error!(%error, "cannot write times.jsonl");
            }
        }
    }
}

/// tokio's clock is std's, and that is CLOCK_MONOTONIC (library/std/src/sys/time/unix.rs).
fn nanoseconds(at: Instant) -> u64 {
    let ago = Instant::now().saturating_duration_since(at);
    monotonic_ns().saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX))
}

/// What is written already.
#[derive(Default)]
struct Seen {
    ready: BTreeSet<String>,
    grace: BTreeMap<String, Option<i64>>,
    slices: BTreeMap<String, Vec<Endpoint>>,
}

impl Seen {
    fn pod(&mut self, change: Change<Pod>) -> Vec<What> {
        let (pod, gone) = match change {
            Change::Applied(pod) => (pod, false),
            Change::Deleted(pod) => (pod, true),
        };
        let meta = &pod.metadata;
        let name = format!(
            "{}/{}",
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default()
        );
        let mut lines = Vec::new();
        let grace_s = meta.deletion_grace_period_seconds;
        if meta.deletion_timestamp.is_some() && self.grace.get(&name) != Some(&grace_s) {
            self.grace.insert(name.clone(), grace_s);
            let pod = name.clone();
            lines.push(What::PodDeleted { pod, grace_s });
        }
        if gone {
            self.ready.remove(&name);
            self.grace.remove(&name);
            lines.push(What::PodRemoved { pod: name });
            return lines;
        }
        if !ready(&pod) {
            self.ready.remove(&name);
        } else if self.ready.insert(name.clone()) {
            let ips = pod.status.iter().flat_map(|s| s.pod_ips.iter().flatten());
            let ips = ips.filter_map(|ip| ip.ip.parse().ok()).collect();
            lines.push(What::PodReady { pod: name, ips });
        }
        lines
    }

    fn slice(&mut self, slice: &EndpointSlice) -> Option<What> {
        let name = slice.metadata.name.clone()?;
        let endpoints = slice.endpoints.iter().filter_map(|endpoint| {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            Some(Endpoint {
                ip: endpoint.addresses.first()?.parse().ok()?,
                ready: conditions.ready == Some(true),
                serving: conditions.serving == Some(true),
                terminating: conditions.terminating == Some(true),
            })
        });
        let endpoints: Vec<Endpoint> = endpoints.collect();
        let before = self.slices.insert(name.clone(), endpoints.clone());
        (before.as_ref() != Some(&endpoints)).then_some(What::SliceUpdated {
            slice: name,
            endpoints,
        })
    }
}

/// For each pod that answered the load client, the last connection that did.
pub(super) fn last_answered(out: &Path, truth: &[Request]) -> io::Result<()> {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for request in truth.iter().filter(|r| !r.reused) {
        if let Some(server) = &request.server {
            let at = last.entry(server).or_default();
            *at = request.began_ns.max(*at);
        }
    }
    let times = Times::open(out)?;
    last.into_iter().try_for_each(|(pod, at_ns)| {
        let pod = format!("{NAMESPACE}/{pod}");
        times.write(at_ns, What::LastAnswered { pod })
    })
}
