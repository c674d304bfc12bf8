//! The connection attempts that packets tell of. Beside the sockets of this node they are evidence; for a client that has
//! no socket here they are all there is, and what stays unanswered becomes a flow of its own.
//!
//! An attempt is forgotten as soon as it is known to have been answered, and when it is over.

mod one;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use self::one::{Attempt, Done, Fate, orig};
use super::{early::Sent, endpoints::Endpoints, flow::Flow, pods::Pods};
use crate::{
    input::{Ktime, Observation, Packet, Protocol, Start, Translation},
    verdict::Outcome,
};

/// Most attempts kept: the bound of the flow table.
const MAX_ATTEMPTS: usize = 65_536;

/// Most attempts kept of one client's address and port: one client uses a port again once a minute at most.
const MAX_OF_ONE: usize = 16;

/// How long an attempt that has its verdict is remembered, so that a late packet makes no second one. SYNs are sent for 131 s
/// (ip-sysctl, tcp_syn_retries).
const COUNTED_MS: u64 = 180_000;

/// What tells whose an attempt is, and whether a datagram went to somebody alive.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub start: Option<&'a (Ktime, Start)>,
    pub pods: &'a Pods,
    pub endpoints: &'a Endpoints,
}

/// An attempt, and under what it is found.
#[derive(Debug)]
struct Kept {
    attempt: Attempt,
    due: Ktime,
    /// The client as the pod sees it.
    seen_as: SocketAddr,
}

#[derive(Debug, Default)]
pub(super) struct Attempts {
    attempts: BTreeMap<u64, Kept>,
    /// By the client's address, and by the address that the pod sees instead.
    by_addr: HashMap<SocketAddr, Vec<u64>>,
    due: BTreeSet<(Ktime, u64)>,
    next: u64,
    evicted: u64,
}

impl Attempts {
    /// Takes a packet in. Returns the new connection that it is, if this node has translated it and sent it on.
    pub(super) fn observe(&mut self, at: Ktime, observation: &Observation, grace_ms: u64) -> Option<Sent> {
        let (packet, done) = match observation {
            Observation::Forwarded { packet } => (packet, Done::Forwarded),
            Observation::Dropped { packet, reason } => (packet, Done::Dropped(reason.as_deref())),
            // Only "destination unreachable" ends an attempt, and "fragmentation needed" does not.
            Observation::IcmpSent {
                packet,
                kind: 3,
                code,
            } if *code != 4 => (packet, Done::Icmp { kind: 3, code: *code }),
            _ => return None,
        };
        let id = match self.find(at, packet) {
            Some(id) => {
                if let Some(kept) = self.attempts.get_mut(&id) {
                    kept.attempt.seen(at, packet, done);
                }
                id
            }
            None => self.open(Attempt::new(at, packet, done)),
        };
        self.index(id);
        self.schedule(id, grace_ms);
        let attempt = &self.attempts.get(&id)?.attempt;
        // A datagram of a known entry is no new connection.
        let new = attempt.protocol == Protocol::Tcp
            && attempt.retransmits == 0
            && matches!(done, Done::Forwarded)
            && attempt.translated();
        let server = attempt.reply?.from;
        let at = attempt.first;
        new.then_some(Sent { server, at })
    }

    /// What conntrack says of an attempt.
    pub(super) fn translation(&mut self, at: Ktime, said: &Translation, grace_ms: u64) {
        let fits = |a: &Attempt| {
            a.protocol == said.protocol
                && a.dialled == said.orig.to
                && a.client == said.orig.from
                && a.first <= at
        };
        let Some(id) = self.last_of(said.orig.from, fits) else {
            return;
        };
        let goes_on = self
            .attempts
            .get_mut(&id)
            .is_some_and(|kept| kept.attempt.looked(at, said));
        if goes_on {
            self.index(id);
            self.schedule(id, grace_ms);
        } else {
            self.remove(id);
        }
    }

    /// Adds what packets tell to a flow that has sockets. `false`: its client did not get the RST that seemed to end it and
    /// sent its SYN again, so that the flow is no failure yet.
    pub(super) fn tell(&mut self, flow: &mut Flow) -> bool {
        let ended = flow.ended.unwrap_or(flow.last);
        let fits = |a: &Attempt| {
            let reply = a.reply.filter(|r| r.to == flow.client());
            let ends = match reply {
                Some(reply) if reply.to != a.client => flow.server().is_none_or(|s| s == reply.from),
                _ => flow.dialled().is_none_or(|d| d == a.dialled),
            };
            let named = match (flow.isn, a.isn) {
                (Some(flow), Some(a)) => flow == a,
                _ => ends,
            };
            a.protocol == Protocol::Tcp && named && a.first <= ended
        };
        let Some(id) = self.last_of(flow.client(), fits) else {
            return true;
        };
        let Some(Kept { attempt, .. }) = self.attempts.get_mut(&id) else {
            return true;
        };
        let lost = |at| attempt.went_on_after(at);
        if flow.client_end.is_none() && flow.server_reset.as_ref().is_some_and(|r| r.to_syn && lost(r.at)) {
            attempt.lost_reset = flow.server_reset.take();
            return false;
        }
        attempt.tell(flow);
        attempt.counted = true;
        true
    }

    pub(super) fn next_due(&self) -> Option<Ktime> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The flow of an attempt that is over, has failed, and is this node's to count.
    pub(super) fn take_due(&mut self, now: Ktime, known: &Known<'_>) -> Option<Flow> {
        loop {
            let (due, id) = self.due.first().copied()?;
            if due > now {
                return None;
            }
            if let Some(flow) = self.end(id, known) {
                return Some(flow);
            }
        }
    }

    /// The flows of all attempts that are over by now, at the end of the input.
    pub(super) fn take_all(&mut self, now: Ktime, known: &Known<'_>) -> Vec<Flow> {
        let over = |(id, kept): (&u64, &Kept)| (kept.attempt.over() <= now).then_some(*id);
        let over: Vec<u64> = self.attempts.iter().filter_map(over).collect();
        over.into_iter().filter_map(|id| self.end(id, known)).collect()
    }

    /// Attempts that the bound has cost since the last call.
    pub(super) fn len(&self) -> usize {
        self.attempts.len()
    }

    pub(super) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    fn end(&mut self, id: u64, known: &Known<'_>) -> Option<Flow> {
        let Kept { attempt, due, .. } = self.attempts.get_mut(&id)?;
        let outcome = outcome(attempt, known).filter(|_| !attempt.counted && ours(attempt, known));
        let Some(outcome) = outcome else {
            self.remove(id);
            return None;
        };
        attempt.counted = true;
        let flow = attempt.flow(outcome);
        if attempt.protocol == Protocol::Udp {
            self.remove(id);
            return Some(flow);
        }
        self.due.remove(&(*due, id));
        *due = attempt.last.plus_ms(COUNTED_MS);
        self.due.insert((*due, id));
        Some(flow)
    }

    fn find(&self, at: Ktime, packet: &Packet) -> Option<u64> {
        let orig = orig(packet);
        self.last_of(orig.from, |a| {
            a.protocol == packet.protocol && a.dialled == orig.to && a.takes(at, packet)
        })
    }

    /// The latest attempt under this address that fits.
    fn last_of(&self, addr: SocketAddr, fits: impl Fn(&Attempt) -> bool) -> Option<u64> {
        let ids = self.by_addr.get(&addr)?.iter().rev().copied();
        ids.into_iter()
            .find(|id| self.attempts.get(id).is_some_and(|kept| fits(&kept.attempt)))
    }

    fn open(&mut self, attempt: Attempt) -> u64 {
        if self.attempts.len() >= MAX_ATTEMPTS
            && let Some(oldest) = self.attempts.keys().next().copied()
        {
            self.evict(oldest);
        }
        let same = self.by_addr.get(&attempt.client);
        if let Some(oldest) = same
            .filter(|ids| ids.len() >= MAX_OF_ONE)
            .and_then(|ids| ids.first().copied())
        {
            self.evict(oldest);
        }
        let id = self.next;
        self.next += 1;
        let (due, client) = (attempt.over(), attempt.client);
        let kept = Kept {
            attempt,
            due,
            seen_as: client,
        };
        self.attempts.insert(id, kept);
        self.by_addr.entry(client).or_default().push(id);
        id
    }

    /// Follows what is known of the translation.
    fn index(&mut self, id: u64) {
        let Some(kept) = self.attempts.get_mut(&id) else {
            return;
        };
        let client = kept.attempt.client;
        let seen_as = kept.attempt.reply.map_or(client, |r| r.to);
        let before = std::mem::replace(&mut kept.seen_as, seen_as);
        if before == seen_as {
            return;
        }
        if before != client {
            self.unindex(before, id);
        }
        if seen_as != client {
            self.by_addr.entry(seen_as).or_default().push(id);
        }
    }

    fn unindex(&mut self, addr: SocketAddr, id: u64) {
        if let Some(ids) = self.by_addr.get_mut(&addr) {
            ids.retain(|i| *i != id);
            if ids.is_empty() {
                self.by_addr.remove(&addr);
            }
        }
    }

    fn schedule(&mut self, id: u64, grace_ms: u64) {
        if let Some(Kept { attempt, due, .. }) = self.attempts.get_mut(&id)
            && !attempt.counted
        {
            self.due.remove(&(*due, id));
            *due = attempt.over().plus_ms(grace_ms);
            self.due.insert((*due, id));
        }
    }

    fn evict(&mut self, id: u64) {
        self.remove(id);
        self.evicted += 1;
    }

    fn remove(&mut self, id: u64) {
        if let Some(kept) = self.attempts.remove(&id) {
            self.due.remove(&(kept.due, id));
            self.unindex(kept.attempt.client, id);
            self.unindex(kept.seen_as, id);
        }
    }
}

/// What the client saw, if the attempt failed.
fn outcome(attempt: &Attempt, known: &Known<'_>) -> Option<Outcome> {
    match attempt.fate() {
        Fate::Failed(outcome) => Some(outcome),
        Fate::SentOn => {
            let server = attempt.reply.map_or(attempt.dialled, |r| r.from);
            dead(server.ip(), attempt.last, known).then_some(Outcome::TimedOut)
        }
        Fate::Unknown => None,
    }
}

/// Nothing lived at this address at that time, since the pod that had it had ended.
fn dead(ip: IpAddr, at: Ktime, known: &Known<'_>) -> bool {
    let down = match known.pods.owner(ip, at) {
        Some(pod) => pod.network_down(),
        None => known.endpoints.endpoint(ip, at).and_then(|e| e.removed),
    };
    down.is_some_and(|down| down <= at)
}

/// Whether this node counts it, which no other node then does: it has translated the address or turned the client away
/// from a service, and of TCP no socket of the client is here to tell it better.
fn ours(attempt: &Attempt, known: &Known<'_>) -> bool {
    let ip = attempt.client.ip();
    let of_node = |ip| known.start.is_some_and(|(_, s)| s.node_addrs.contains(&ip));
    let here = ip.is_loopback() || of_node(ip) || known.pods.owner(ip, attempt.first).is_some();
    let dialled = attempt.dialled;
    let node_port = || {
        known
            .endpoints
            .node_port(dialled.port())
            .filter(|_| of_node(dialled.ip()))
    };
    let service = || known.endpoints.service_at(dialled).or_else(node_port).is_some();
    let passed = attempt.translated() || (attempt.turned_away() && service());
    match attempt.protocol {
        Protocol::Udp => here || passed,
        Protocol::Tcp | Protocol::Sctp => !here && passed,
    }
}
