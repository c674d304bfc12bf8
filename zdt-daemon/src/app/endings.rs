//! When the pods end that connections of this node may lead to: its own, and the endpoints that it routes to. Pure, from
//! the inputs that pass. (Which addresses the kernel half is armed for is `cluster::transit`'s: also those that come, and
//! for longer.)

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    addrs::{AddrMap, AddrSet},
    input::{Attribution, Input, Ktime, NsName, Observation, PodState, PodUid, RulesState, SliceState, What},
};

/// An ending is over so long after nothing names the address any more: stragglers come until the slowest node's rules
/// let go of it.
const HOLD_MS: u64 = 10_000;

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Pod(PodUid),
    Slice(NsName),
}

/// How many own each address; numbers, since a cluster has 150,000 of them.
#[derive(Debug, Default)]
struct Owners {
    pods: AddrMap<u32>,
    slices: AddrMap<u32>,
}

impl Owners {
    fn of(&mut self, owner: &Owner) -> &mut AddrMap<u32> {
        match owner {
            Owner::Pod(_) => &mut self.pods,
            Owner::Slice(_) => &mut self.slices,
        }
    }

    fn any(&self, ip: IpAddr) -> bool {
        self.pods.contains_key(&ip) || self.slices.contains_key(&ip)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ends,
    Gone(Ktime),
}

/// The kernel saw a server of a pod stop, or somebody ask it to: if its pod was deleted, the API server knows by now.
pub(super) fn begins(what: &What) -> bool {
    let What::Kernel(observation) = what else {
        return false;
    };
    // What images declare as STOPSIGNAL (signal(7)): SIGINT, SIGQUIT, SIGTERM.
    let (Observation::Listener {
        place, open: false, ..
    }
    | Observation::Signal {
        place,
        sig: 2 | 3 | 15,
        ..
    }) = observation
    else {
        return false;
    };
    matches!(place.attribution, Attribution::Pod { .. })
}

/// Whether the kernel may soon tell more of the same: something failed, or a server of a pod stops. That any process of a pod
/// ends is nothing yet; a probe's does every few seconds.
pub(super) fn goes_on(what: &What) -> bool {
    let apart = matches!(
        what,
        What::Kernel(Observation::Exit { .. } | Observation::Signal { .. } | Observation::Listener { .. })
    );
    begins(what) || !apart
}

/// Follows the addresses of this node's pods and of all endpoints.
#[derive(Debug, Default)]
pub(super) struct Endings {
    /// The node's own, once [`What::Start`] has passed.
    node: BTreeSet<IpAddr>,
    owned: BTreeMap<Owner, AddrSet>,
    owners: Owners,
    stages: BTreeMap<IpAddr, Stage>,
    /// Rules of this node that lead to an address, by number; None: the rules cannot be read.
    routes: Option<AddrMap<u32>>,
}

impl Endings {
    /// Appends the addresses that began to end with this input, or are gone with it, and that connections of this node
    /// may lead to.
    pub(super) fn follow(&mut self, input: &Input, out: &mut Vec<IpAddr>) {
        let at = input.at;
        match &input.what {
            What::Start(start) => self.node = start.node_addrs.iter().copied().collect(),
            What::Pod(pod) => self.pod(at, pod, out),
            What::PodGone { uid } => self.own(at, Owner::Pod(uid.clone()), AddrSet::default(), out),
            What::Slice(slice) => self.slice(at, slice, out),
            What::SliceGone { slice } => self.own(at, Owner::Slice(slice.clone()), AddrSet::default(), out),
            What::Rules(rules) => self.rules(rules),
            What::Tick => self.stages.retain(|_, stage| match stage {
                Stage::Ends => true,
                Stage::Gone(since) => at < since.plus_ms(HOLD_MS),
            }),
            _ => {}
        }
    }

    /// Whether anything ends, or has just ended.
    pub(super) fn any(&self) -> bool {
        !self.stages.is_empty()
    }

    /// Whether the address is this node's or one of its pods': a client with a socket that the kernel half sees.
    pub(super) fn is_local(&self, ip: IpAddr) -> bool {
        self.node.contains(&ip) || self.is_pod(ip)
    }

    fn is_pod(&self, ip: IpAddr) -> bool {
        self.owners.pods.contains_key(&ip)
    }

    /// Whether connections of this node may lead there.
    fn concerns(&self, ip: IpAddr) -> bool {
        let routed = self.routes.as_ref().is_none_or(|routes| routes.contains_key(&ip));
        routed || self.is_pod(ip)
    }

    fn pod(&mut self, at: Ktime, pod: &PodState, out: &mut Vec<IpAddr>) {
        if pod.host_network || pod.ips.is_empty() {
            // Of the host network: nothing of its own. Blank: it keeps what it had until it is gone.
            return;
        }
        let ends = pod.told_to_go() || matches!(pod.phase.as_str(), "Succeeded" | "Failed");
        let ips: AddrSet = pod.ips.iter().copied().collect();
        self.own(at, Owner::Pod(pod.uid.clone()), ips.clone(), out);
        if ends {
            for ip in ips.addrs() {
                self.begin(ip, out);
            }
        }
    }

    fn slice(&mut self, at: Ktime, slice: &SliceState, out: &mut Vec<IpAddr>) {
        let owner = Owner::Slice(slice.slice.clone());
        let all = slice.endpoints.iter().flat_map(|e| &e.addrs).copied();
        let all: AddrSet = all.collect();
        let before = self.owned.get(&owner).into_iter().flat_map(AddrSet::addrs);
        let dropped: Vec<IpAddr> = before.filter(|ip| !all.contains(*ip)).collect();
        // Before it is gone: a selector that changes takes it away without ever calling it terminating.
        for ip in dropped {
            self.begin(ip, out);
        }
        self.own(at, owner, all, out);
        for ip in slice
            .endpoints
            .iter()
            .filter(|e| e.terminating)
            .flat_map(|e| &e.addrs)
        {
            self.begin(*ip, out);
        }
    }

    fn begin(&mut self, ip: IpAddr, out: &mut Vec<IpAddr>) {
        if self.concerns(ip) && !self.stages.contains_key(&ip) {
            self.stages.insert(ip, Stage::Ends);
            out.push(ip);
        }
    }

    /// Makes `ips` all that `owner` has.
    fn own(&mut self, at: Ktime, owner: Owner, ips: AddrSet, out: &mut Vec<IpAddr>) {
        let before = self.owned.remove(&owner).unwrap_or_default();
        for ip in ips.addrs().filter(|ip| !before.contains(*ip)) {
            *self.owners.of(&owner).or_default(ip) += 1;
            // The next pod has the address of one that is gone.
            if matches!(self.stages.get(&ip), Some(Stage::Gone(_))) {
                self.stages.remove(&ip);
            }
        }
        for ip in before.addrs().filter(|ip| !ips.contains(*ip)) {
            let of = self.owners.of(&owner);
            // Each owner owns it once.
            if let Some(owners) = of.get_mut(&ip).filter(|owners| **owners > 1) {
                *owners -= 1;
            } else {
                of.remove(&ip);
            }
            if self.owners.any(ip) {
                continue;
            }
            let concerns =
                self.concerns(ip) || self.stages.contains_key(&ip) || matches!(owner, Owner::Pod(_));
            if concerns
                && !matches!(self.stages.insert(ip, Stage::Gone(at)), Some(Stage::Gone(_)))
                && !out.contains(&ip)
            {
                out.push(ip);
            }
        }
        if !ips.is_empty() {
            self.owned.insert(owner, ips);
        }
    }

    fn rules(&mut self, rules: &RulesState) {
        let routes = self.routes.get_or_insert_default();
        for route in &rules.change.added {
            *routes.or_default(route.to.ip()) += 1;
        }
        for route in &rules.change.removed {
            let ip = route.to.ip();
            if let Some(count) = routes.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    routes.remove(&ip);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "endings_tests.rs"]
mod tests;
