//! Which addresses are in transition: a pod there is going or coming, so what this node sends to it is worth seeing.
//! Pure, from the same states that become inputs.
//!
//! An address comes into transition when an endpoint slice says terminating, a pod of this node is deleted, an endpoint
//! turns ready or unready, appears, or is removed. It leaves some time after the last of these.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::watch_set::Change;
use crate::{
    addrs::AddrList,
    input::{Ktime, NsName, PodState, PodUid, SliceState, What},
};

/// How long an address stays after its pod is gone, in milliseconds: an unanswered SYN's conntrack entry leads there for
/// 120 s (net/netfilter/nf_conntrack_proto_tcp.c, tcp_timeouts of SYN_SENT), and a while for what comes late.
pub const GONE_MS: u64 = 130_000;

/// How long an endpoint is new after it turned ready, in milliseconds: kube-proxy's first rule for it and the first
/// connection come in this time.
pub const NEW_MS: u64 = 10_000;

/// How long an endpoint that appeared unready is waited for, in milliseconds. It turns ready when its pod does; one that
/// never does must not keep the dear hooks attached.
pub const UNREADY_MS: u64 = 60_000;

/// Why an address is in transition without end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    /// An endpoint of it terminates.
    Slice(NsName),
    /// A pod of this node is deleted and not yet gone.
    Pod(PodUid),
}

#[derive(Debug, Default)]
struct Slot {
    holders: BTreeSet<Holder>,
    /// When nobody holds it: it leaves then.
    until: Ktime,
}

/// One endpoint's state, of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    ready: bool,
    terminating: bool,
}

/// The addresses in transition, and what tells that others come into it.
#[derive(Debug, Default)]
pub struct Transit {
    slices: BTreeMap<NsName, AddrList<Seen>>,
    /// Addresses of the pods that are deleted; a late update may have none.
    pods: BTreeMap<PodUid, BTreeSet<IpAddr>>,
    slots: BTreeMap<IpAddr, Slot>,
    settled: bool,
}

impl Transit {
    /// The first lists are in: what appears from now on is new.
    pub fn settle(&mut self) {
        self.settled = true;
    }

    /// A pod of this node is going.
    pub fn own(&self) -> bool {
        !self.pods.is_empty()
    }

    /// Some address is in transition.
    pub fn any(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Follows an object; what is not about pods or slices changes nothing.
    pub fn follow(&mut self, at: Ktime, what: &What, out: &mut Vec<Change>) {
        match what {
            What::Slice(slice) => self.slice(at, &slice.slice, endpoints(slice), out),
            What::SliceGone { slice } => {
                self.slice(at, slice, AddrList::default(), out);
                self.slices.remove(slice);
            }
            What::Pod(pod) => self.pod(at, pod, out),
            What::PodGone { uid } => self.pod_gone(at, uid),
            _ => {}
        }
    }

    /// Whether a pod at these addresses is going is not known.
    pub fn doubt(&mut self, now: Ktime, addrs: &[IpAddr], out: &mut Vec<Change>) {
        for addr in addrs {
            self.until(*addr, now.plus_ms(NEW_MS), out);
        }
    }

    /// Lets go what has been there long enough.
    pub fn expire(&mut self, now: Ktime, out: &mut Vec<Change>) {
        self.slots.retain(|addr, slot| {
            let stays = !slot.holders.is_empty() || slot.until > now;
            if !stays {
                out.push(Change::Transit {
                    addr: *addr,
                    on: false,
                });
            }
            stays
        });
    }

    fn slice(&mut self, at: Ktime, name: &NsName, now: AddrList<Seen>, out: &mut Vec<Change>) {
        let before = self.slices.remove(name).unwrap_or_default();
        let holder = || Holder::Slice(name.clone());
        for (addr, seen) in now.iter() {
            let was = before.get(addr);
            if seen.terminating {
                self.hold(addr, holder(), out);
                continue;
            }
            // The address has another pod.
            self.release(at, addr, &holder());
            let was_ready = was.is_some_and(|was| was.ready);
            if !self.settled || was == Some(seen) {
                continue;
            }
            let stays_ms = match (was_ready, seen.ready) {
                (false, true) => NEW_MS,
                (true, false) => GONE_MS,
                _ => UNREADY_MS,
            };
            self.until(addr, at.plus_ms(stays_ms), out);
        }
        for addr in before.addrs().filter(|addr| !now.contains(*addr)) {
            self.until(addr, at.plus_ms(GONE_MS), out);
            self.release(at, addr, &holder());
        }
        self.slices.insert(name.clone(), now);
    }

    fn pod(&mut self, at: Ktime, pod: &PodState, out: &mut Vec<Change>) {
        // On the host network it has the node's addresses.
        if pod.host_network || !pod.told_to_go() {
            return;
        }
        // Its containers have ended: what is left of it may wait for a finalizer for days.
        if matches!(pod.phase.as_str(), "Succeeded" | "Failed") {
            self.pod_gone(at, &pod.uid);
            return;
        }
        self.pods.entry(pod.uid.clone()).or_default().extend(&pod.ips);
        for addr in &pod.ips {
            self.hold(*addr, Holder::Pod(pod.uid.clone()), out);
        }
    }

    fn pod_gone(&mut self, at: Ktime, uid: &PodUid) {
        for addr in self.pods.remove(uid).unwrap_or_default() {
            self.release(at, addr, &Holder::Pod(uid.clone()));
        }
    }

    fn slot(&mut self, addr: IpAddr, out: &mut Vec<Change>) -> &mut Slot {
        self.slots.entry(addr).or_insert_with(|| {
            out.push(Change::Transit { addr, on: true });
            Slot::default()
        })
    }

    fn until(&mut self, addr: IpAddr, until: Ktime, out: &mut Vec<Change>) {
        let slot = self.slot(addr, out);
        slot.until = slot.until.max(until);
    }

    fn hold(&mut self, addr: IpAddr, holder: Holder, out: &mut Vec<Change>) {
        self.slot(addr, out).holders.insert(holder);
    }

    /// Whoever was held has just gone.
    fn release(&mut self, at: Ktime, addr: IpAddr, holder: &Holder) {
        if let Some(slot) = self.slots.get_mut(&addr)
            && slot.holders.remove(holder)
        {
            slot.until = slot.until.max(at.plus_ms(GONE_MS));
        }
    }
}

/// Endpoints by address. In one slice an address is there once, unless a pod is just taking over another's.
fn endpoints(slice: &SliceState) -> AddrList<Seen> {
    let mut endpoints = BTreeMap::new();
    for endpoint in &slice.endpoints {
        for addr in &endpoint.addrs {
            let seen: &mut Seen = endpoints.entry(*addr).or_insert(Seen {
                ready: false,
                terminating: false,
            });
            seen.ready |= endpoint.ready;
            seen.terminating |= endpoint.terminating;
        }
    }
    endpoints.into_iter().collect()
}

#[cfg(test)]
#[path = "transit_tests.rs"]
mod tests;
