//! Which pods of this node may be the next to go: those that a service has beside an endpoint in transition, and those of a
//! workload whose template has just changed. What such a pod begins to answer now may be cut by its end, and the beginning of
//! an answer cannot be read later. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::watch_set::Change;
use crate::input::{Ktime, NsName, PodState, PodUid, ReplicaSetState, SliceState, What, Workload};

/// A rollout's first pod is there this long after its template, in milliseconds, or is pulling its image still; from then on its
/// endpoint in transition keeps the others here.
const BEGINS_WITHIN_MS: u64 = 60_000;

/// Namespace and workload.
type Owner = (String, Workload);

#[derive(Debug, Default)]
pub struct Beside {
    /// Pods of this node.
    pods: BTreeMap<PodUid, (Option<Owner>, BTreeSet<IpAddr>)>,
    /// Services, and the addresses behind them.
    slices: BTreeMap<NsName, (String, BTreeSet<IpAddr>)>,
    revisions: BTreeMap<NsName, Option<u64>>,
    /// Until when a workload's pods count as the next to go.
    rolling: BTreeMap<Owner, Ktime>,
    transit: BTreeSet<IpAddr>,
    told: BTreeSet<IpAddr>,
    settled: bool,
    changed: bool,
}

impl Beside {
    /// The first lists are in: what appears from now on is new.
    pub fn settle(&mut self) {
        self.settled = true;
    }

    /// Follows an object; what is not about pods, slices or ReplicaSets changes nothing.
    pub fn follow(&mut self, at: Ktime, what: &What) {
        match what {
            What::Pod(pod) => self.pod(pod),
            What::PodGone { uid } => self.changed |= self.pods.remove(uid).is_some(),
            What::Slice(slice) => self.slice(slice),
            What::SliceGone { slice } => self.changed |= self.slices.remove(slice).is_some(),
            What::ReplicaSet(rs) => self.replica_set(at, rs),
            What::ReplicaSetGone { replica_set } => drop(self.revisions.remove(replica_set)),
            _ => {}
        }
    }

    /// Appends what follows from it, and from the addresses that came into transition or left it.
    pub fn tell(&mut self, now: Ktime, out: &mut Vec<Change>) {
        for change in out.iter() {
            if let Change::Transit { addr, on } = *change {
                self.changed |= if on {
                    self.transit.insert(addr)
                } else {
                    self.transit.remove(&addr)
                };
            }
        }
        let rolling = self.rolling.len();
        self.rolling.retain(|_, until| *until > now);
        self.changed |= rolling != self.rolling.len();
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let beside = self.beside();
        let change = |addr: &IpAddr, on| Change::Beside { addr: *addr, on };
        out.extend(self.told.difference(&beside).map(|addr| change(addr, false)));
        out.extend(beside.difference(&self.told).map(|addr| change(addr, true)));
        self.told = beside;
    }

    fn beside(&self) -> BTreeSet<IpAddr> {
        let own: BTreeSet<IpAddr> = self.pods.values().flat_map(|(_, ips)| ips).copied().collect();
        // Nothing is while the first lists come, slice by slice: a look at all of them for each would take minutes.
        let slices = Some(&self.slices).filter(|_| !self.transit.is_empty());
        let slices = || slices.into_iter().flatten();
        // A service of many endpoints has several slices.
        let mut moving = BTreeSet::new();
        for (name, (service, addrs)) in slices() {
            if !addrs.is_disjoint(&self.transit) {
                moving.insert((name.namespace.as_str(), service.as_str()));
            }
        }
        let behind = slices()
            .filter(|(name, (service, _))| moving.contains(&(name.namespace.as_str(), service.as_str())));
        let mut beside: BTreeSet<IpAddr> = behind
            .flat_map(|(_, (_, addrs))| addrs.intersection(&own))
            .copied()
            .collect();
        for (owner, ips) in self.pods.values() {
            if owner
                .as_ref()
                .is_some_and(|owner| self.rolling.contains_key(owner))
            {
                beside.extend(ips);
            }
        }
        beside
    }

    fn pod(&mut self, pod: &PodState) {
        if pod.host_network || pod.ips.is_empty() {
            return;
        }
        let owner = pod.workload.clone().map(|w| (pod.pod.namespace.clone(), w));
        let now = (owner, pod.ips.iter().copied().collect());
        if self.pods.get(&pod.uid) != Some(&now) {
            self.pods.insert(pod.uid.clone(), now);
            self.changed = true;
        }
    }

    fn slice(&mut self, slice: &SliceState) {
        let addrs = slice.endpoints.iter().flat_map(|e| &e.addrs).copied().collect();
        let now = (slice.service.clone(), addrs);
        if self.slices.get(&slice.slice) != Some(&now) {
            self.slices.insert(slice.slice.clone(), now);
            self.changed = true;
        }
    }

    /// A template's ReplicaSet appears, or is the newest again (an undone rollout).
    fn replica_set(&mut self, at: Ktime, rs: &ReplicaSetState) {
        let before = self.revisions.insert(rs.replica_set.clone(), rs.revision);
        if !self.settled || before == Some(rs.revision) {
            return;
        }
        let Some(name) = rs.deployment.clone() else {
            return;
        };
        let kind = rs.kind.clone().unwrap_or_else(|| "deployment".to_owned());
        let owner = (rs.replica_set.namespace.clone(), Workload { kind, name });
        self.rolling.insert(owner, at.plus_ms(BEGINS_WITHIN_MS));
        self.changed = true;
    }
}

#[cfg(test)]
#[path = "beside_tests.rs"]
mod tests;
