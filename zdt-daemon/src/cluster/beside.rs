//! Which pods of this node may be the next to go: those that a service has beside an endpoint in transition, and those of a
//! workload whose template has just changed. What such a pod begins to answer now may be cut by its end, and the beginning of
//! an answer cannot be read later. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::watch_set::Change;
use crate::{
    addrs::AddrSet,
    input::{Ktime, NsName, PodState, PodUid, ReplicaSetState, SliceState, What, Workload},
};

/// A rollout's first pod is there this long after its template, in milliseconds, or is pulling its image still; from then on its
/// endpoint in transition keeps the others here.
const BEGINS_WITHIN_MS: u64 = 60_000;

/// Namespace and workload.
type Owner = (String, Workload);

/// Namespace and service.
type Of = (String, Box<str>);

#[derive(Debug, Default)]
pub struct Beside {
    /// Pods of this node.
    pods: BTreeMap<PodUid, (Option<Owner>, BTreeSet<IpAddr>)>,
    /// Services, and the addresses behind them.
    slices: BTreeMap<NsName, (Box<str>, AddrSet)>,
    /// The addresses of this node's pods.
    own: BTreeSet<IpAddr>,
    /// The slices of each service that has one of them, or had: a cluster has many more, and something there always moves.
    near: BTreeMap<Of, BTreeSet<NsName>>,
    /// A service may have come near whose slices are not looked up yet.
    stale: bool,
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
        if !std::mem::replace(&mut self.settled, true) {
            self.stale = true;
            self.changed = true;
        }
    }

    /// Follows an object; what is not about pods, slices or ReplicaSets changes nothing.
    pub fn follow(&mut self, at: Ktime, what: &What) {
        match what {
            What::Pod(pod) => self.pod(pod),
            What::PodGone { uid } => self.pod_gone(uid),
            What::Slice(slice) => self.slice(slice),
            What::SliceGone { slice } => self.slice_gone(slice),
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

    fn beside(&mut self) -> BTreeSet<IpAddr> {
        // Nothing is near while the first lists come: a look at all slices for each would take minutes.
        if self.settled && std::mem::take(&mut self.stale) {
            self.look_around();
        }
        let mut beside = BTreeSet::new();
        for slices in self.near.values() {
            let addrs = || {
                slices
                    .iter()
                    .filter_map(|name| self.slices.get(name))
                    .flat_map(|(_, a)| a.addrs())
            };
            if addrs().any(|addr| self.transit.contains(&addr)) {
                beside.extend(addrs().filter(|addr| self.own.contains(addr)));
            }
        }
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

    /// Which services have a pod of this node behind them, and all of their slices: a service of many endpoints has several.
    fn look_around(&mut self) {
        let of = |(name, (service, _)): (&NsName, &(Box<str>, _))| (name.namespace.clone(), service.clone());
        let mine = |addrs: &AddrSet| addrs.addrs().any(|addr| self.own.contains(&addr));
        let near = self.slices.iter().filter(|(_, (_, addrs))| mine(addrs));
        self.near = near.map(|slice| (of(slice), BTreeSet::new())).collect();
        for slice in &self.slices {
            if let Some(near) = self.near.get_mut(&of(slice)) {
                near.insert(slice.0.clone());
            }
        }
    }

    fn pods_changed(&mut self) {
        self.changed = true;
        let own = self.pods.values().flat_map(|(_, ips)| ips).copied().collect();
        if own != self.own {
            self.own = own;
            self.stale = true;
        }
    }

    fn pod(&mut self, pod: &PodState) {
        if pod.host_network || pod.ips.is_empty() {
            return;
        }
        let owner = pod.workload.clone().map(|w| (pod.pod.namespace.clone(), w));
        let now = (owner, pod.ips.iter().copied().collect());
        if self.pods.get(&pod.uid) != Some(&now) {
            self.pods.insert(pod.uid.clone(), now);
            self.pods_changed();
        }
    }

    fn pod_gone(&mut self, uid: &PodUid) {
        if self.pods.remove(uid).is_some() {
            self.pods_changed();
        }
    }

    fn slice_gone(&mut self, slice: &NsName) {
        if let Some((service, _)) = self.slices.remove(slice) {
            let of = (slice.namespace.clone(), service);
            self.changed |= self.near.get_mut(&of).is_some_and(|near| near.remove(slice));
        }
    }

    fn slice(&mut self, slice: &SliceState) {
        let addrs: AddrSet = slice.endpoints.iter().flat_map(|e| &e.addrs).copied().collect();
        let mine = addrs.addrs().any(|addr| self.own.contains(&addr));
        let now: (Box<str>, _) = (slice.service.as_str().into(), addrs);
        let before = self.slices.get(&slice.slice);
        if before == Some(&now) {
            return;
        }
        self.stale |= before.is_some_and(|(service, _)| *service != now.0);
        if let Some(near) = self.near.get_mut(&(slice.slice.namespace.clone(), now.0.clone())) {
            near.insert(slice.slice.clone());
            self.changed = true;
        } else {
            self.stale |= mine;
        }
        self.changed |= self.stale;
        self.slices.insert(slice.slice.clone(), now);
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
