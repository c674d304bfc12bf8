//! The flows that may have failed: joins what belongs to one connection attempt, and hands each out once, a grace
//! after it ended.

mod ids;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    net::SocketAddr,
};

use ids::Ids;

use super::{
    early::Sent,
    endpoints::Endpoints,
    flow::{Flow, Live, Translated, began},
    join::{Seen, isn, leads_to, note, reset_seen, same_attempt, same_connection, soft_error},
    peer::Peer,
    unowned::{Reset, Unowned},
};
use crate::input::{Ktime, Observation, Protocol, Side, Sock, TcpState, Translation};

/// What is silent for too long is looked for so often.
const LOOK_MS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Flows {
    /// Boxed: a tree moves its values about, and fills its nodes by half when keys only grow.
    flows: BTreeMap<u64, Box<Live>>,
    /// By the client's address, and by the address the server saw instead.
    by_client: HashMap<Peer, Ids>,
    /// By the initial sequence number of the client's SYN.
    by_isn: HashMap<u32, u64>,
    due: BTreeSet<(Ktime, u64)>,
    next: u64,
    /// No flow's last event was before: until then there is nothing to forget, and nothing to look through.
    silent_since: Ktime,
    max: usize,
    evicted: u64,
    unowned: Unowned,
}

impl Flows {
    pub(super) fn new(max: usize) -> Self {
        Self {
            flows: BTreeMap::new(),
            by_client: HashMap::new(),
            by_isn: HashMap::new(),
            due: BTreeSet::new(),
            next: 0,
            silent_since: Ktime(u64::MAX),
            max,
            evicted: 0,
            unowned: Unowned::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn observe(
        &mut self,
        at: Ktime,
        side: Side,
        observation: &Observation,
        endpoints: &Endpoints,
        grace_ms: u64,
    ) {
        let (sock, to_syn) = match observation {
            Observation::ResetSent { sock, to_syn, .. } => (sock, *to_syn),
            Observation::FlowEnd { sock, .. }
            | Observation::Answer { sock, .. }
            | Observation::ResetReceived { sock }
            | Observation::SockError { sock }
            | Observation::Retransmit { sock, .. } => (sock, false),
            _ => return,
        };
        // Who answers a SYN with a RST is the server's side, whatever port it was.
        let side = if to_syn || self.dialled_by_its_peer(sock) {
            Side::Server
        } else {
            side
        };
        let (client, other) = match side {
            Side::Server => (sock.remote, sock.local),
            Side::Client => (sock.local, sock.remote),
        };
        let seen = Seen {
            at,
            side,
            client,
            other,
            sock,
        };
        let found = self.find(&seen, observation, endpoints);
        let opens = match observation {
            Observation::FlowEnd { .. } | Observation::Retransmit { .. } => true,
            // A RST without a socket to anything but a SYN trails some connection; alone it proves no request. That of
            // a client's side trails, too.
            Observation::ResetSent { has_socket, .. } => to_syn || (*has_socket && side == Side::Server),
            // The end that follows does not show whether a RST or an ICMP error refused the connection.
            Observation::ResetReceived { sock } => side == Side::Client && sock.state == TcpState::SynSent,
            // An ICMP error in connect(2): the end that follows no longer shows it.
            Observation::SockError { sock } => soft_error(side, sock),
            _ => false,
        };
        let id = match found {
            Some(id) => id,
            None if opens => self.open(client, began(sock).unwrap_or(at)),
            None => {
                if let (Side::Server, Some(reset)) = (side, reset_seen(at, observation)) {
                    self.unowned.keep(client, other, reset);
                }
                return;
            }
        };
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        let ended_before = flow.ended;
        let alias = note(flow, &seen, observation);
        // The RST comes before the end that it makes.
        if side == Side::Client
            && flow.server_reset.is_none()
            && matches!(observation, Observation::FlowEnd { .. })
        {
            let may_be =
                |server| flow.server().is_none_or(|s| s == server) && leads_to(endpoints, other, server);
            if let Some((server, reset)) = self.unowned.take(client, at, may_be) {
                flow.set_server(server);
                flow.server_reset = Some(Box::new(reset));
            }
        }
        if let Some(alias) = alias {
            index(&mut self.by_client, alias, id);
        }
        if let Some(isn) = isn(observation) {
            flow.isn = Some(isn);
            self.by_isn.insert(isn, id);
        }
        match (ended_before, flow.ended) {
            (None, Some(ended)) => drop(self.due.insert((ended.plus_ms(grace_ms), id))),
            // It goes on after all.
            (Some(ended), None) => drop(self.due.remove(&(ended.plus_ms(grace_ms), id))),
            _ => {}
        }
    }

    /// Returns the new connection that it is of, if this node has the client's socket and translated it.
    pub(super) fn translation(
        &mut self,
        at: Ktime,
        translation: &Translation,
        grace_ms: u64,
    ) -> Option<Sent> {
        if translation.protocol != Protocol::Tcp {
            return None;
        }
        let orig = translation.orig;
        let matches = |f: &Live| {
            at >= f.began
                && f.dialled().is_none_or(|d| d == orig.to)
                && f.ended.is_none_or(|e| at.ms_since(e) < 1_000.0)
        };
        let Some(id) = self.latest(orig.from, matches) else {
            self.unmask(at, translation);
            return None;
        };
        let flow = self.flows.get_mut(&id)?;
        if flow.dialled().is_none() {
            flow.set_dialled(orig.to);
        }
        let told = flow.translated().is_some_and(|t| t.reply.is_some());
        // The entry may be gone at the second look: what the first one said stands.
        if !told || translation.reply.is_some() {
            flow.set_translated(Some(Translated {
                reply: translation.reply,
                replied: translation.replied,
            }));
        }
        // Only a socket in SYN_SENT tells when its connection began.
        let began = flow.isn.map(|_| flow.began);
        let reply = translation.reply?;
        let sent = began.filter(|_| reply.from != orig.to).map(|at| Sent {
            server: reply.from,
            at,
        });
        if reply.to == orig.from {
            return sent;
        }
        flow.set_seen_as(reply.to);
        // The server's view of a masqueraded connection may have come first, under the masqueraded address.
        let alone =
            |f: &Live| f.client() == reply.to && f.server() == Some(reply.from) && f.client_end.is_none();
        let others = |o: &u64| *o != id && self.flows.get(o).is_some_and(|f| alone(f));
        let seen = self.by_client.get(&reply.to.into());
        let other = seen.and_then(|ids| ids.latest().find(others));
        index(&mut self.by_client, reply.to, id);
        let Some(server_view) = other.and_then(|o| self.remove(o)) else {
            return sent;
        };
        if let Some(flow) = self.flows.get_mut(&id) {
            let theirs = server_view.ended;
            flow.absorb(server_view);
            if let (None, Some(ended)) = (flow.ended, theirs) {
                flow.ended = Some(ended);
                self.due.insert((ended.plus_ms(grace_ms), id));
            }
        }
        sent
    }

    /// A translation of which only the server's side was seen, under the address of a masquerade.
    fn unmask(&mut self, at: Ktime, translation: &Translation) {
        let orig = translation.orig;
        let Some(reply) = translation.reply.filter(|r| r.to != orig.from) else {
            return;
        };
        let masked = |f: &Live| {
            f.client() == reply.to
                && f.server() == Some(reply.from)
                && f.client_end.is_none()
                && f.ended.is_none_or(|e| at.ms_since(e) < 1_000.0)
        };
        let found = self.latest(reply.to, masked);
        let Some(flow) = found.and_then(|id| self.flows.get_mut(&id)) else {
            return;
        };
        flow.unmask(orig.from);
        if flow.dialled().is_none() {
            flow.set_dialled(orig.to);
        }
        if flow.translated().is_none() {
            flow.set_translated(Some(Translated {
                reply: Some(reply),
                replied: translation.replied,
            }));
        }
        if let Some(id) = found {
            index(&mut self.by_client, orig.from, id);
        }
    }

    /// The latest flow under this address that fits.
    fn latest(&self, client: SocketAddr, fits: impl Fn(&Live) -> bool) -> Option<u64> {
        let mut ids = self.by_client.get(&client.into())?.latest();
        ids.find(|id| self.flows.get(id).is_some_and(|f| fits(f)))
    }

    /// The other end of this socket is known as a client that dialled it.
    fn dialled_by_its_peer(&self, sock: &Sock) -> bool {
        let dialled = |f: &Live| f.client_end.is_some() && f.dialled() == Some(sock.local);
        self.latest(sock.remote, dialled).is_some()
    }

    /// The flow that an observation belongs to.
    fn find(&self, seen: &Seen<'_>, observation: &Observation, endpoints: &Endpoints) -> Option<u64> {
        let fits = |f: &Live| same_connection(f, seen, endpoints) && same_attempt(f, seen, observation);
        if let Some(id) = self.latest(seen.client, fits) {
            return Some(id);
        }
        // Masqueraded and refused: conntrack drops its entry with the RST (net/netfilter/nf_conntrack_proto_tcp.c
        // nf_conntrack_tcp_packet), but both sides have seen the same initial sequence number.
        let id = self.by_isn.get(&isn(observation)?).copied()?;
        let flow = self.flows.get(&id)?;
        same_attempt(flow, seen, observation).then_some(id)
    }

    fn open(&mut self, client: SocketAddr, began: Ktime) -> u64 {
        if self.flows.len() >= self.max
            && let Some(oldest) = self.flows.keys().next().copied()
        {
            self.remove(oldest);
            self.evicted += 1;
        }
        let id = self.next;
        self.next += 1;
        self.flows.insert(id, Box::new(Live::new(client, began)));
        self.silent_since = self.silent_since.min(began);
        index(&mut self.by_client, client, id);
        id
    }

    /// RSTs without a socket that no client of this node has claimed: flows of their own where `half_open` says that they are
    /// what was left of a handshake.
    pub(super) fn open_unowned(&mut self, now: Ktime, grace_ms: u64, half_open: impl Fn(&Reset) -> bool) {
        while let Some(left) = self.unowned.alone(now) {
            if !half_open(&left) {
                continue;
            }
            let at = left.reset.at;
            let id = self.open(left.client, at);
            if let Some(flow) = self.flows.get_mut(&id) {
                flow.set_server(left.server);
                flow.server_reset = Some(Box::new(left.reset));
                flow.ended = Some(at);
                self.due.insert((at.plus_ms(grace_ms), id));
            }
        }
    }

    /// When the next flow is due, or may be: of a RST that nobody claims the flow is opened by then.
    pub(super) fn next_due(&self, grace_ms: u64) -> Option<Ktime> {
        let flow = self.due.first().map(|(due, _)| *due);
        let reset = self.unowned.first().map(|at| at.plus_ms(grace_ms));
        flow.into_iter().chain(reset).min()
    }

    /// A flow whose grace is over.
    pub(super) fn take_due(&mut self, now: Ktime) -> Option<Flow> {
        loop {
            let (due, _) = self.due.first().copied()?;
            if due > now {
                return None;
            }
            // An entry without a flow: that flow was absorbed by another, or evicted.
            if let Some(flow) = self.due.pop_first().and_then(|(_, id)| self.remove(id)) {
                return Some(flow.into());
            }
        }
    }

    /// Every flow that has ended, in the order of their ends; the rest is forgotten.
    pub(super) fn take_all(&mut self) -> Vec<Flow> {
        let due = std::mem::take(&mut self.due);
        let flows = due
            .into_iter()
            .filter_map(|(_, id)| self.flows.remove(&id))
            .map(|live| Flow::from(*live))
            .collect();
        self.flows.clear();
        self.by_client.clear();
        self.by_isn.clear();
        flows
    }

    /// Forgets flows without an end whose last event is before `before`; returns how many the bound has evicted since.
    pub(super) fn forget(&mut self, before: Ktime) -> u64 {
        if before <= self.silent_since {
            return std::mem::take(&mut self.evicted);
        }
        let old: Vec<u64> = self
            .flows
            .iter()
            .filter(|(_, f)| f.ended.is_none() && f.last < before)
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            self.remove(id);
        }
        // All of them are looked through once a second at most.
        let silent_since = self.flows.values().map(|f| f.last).min();
        self.silent_since = silent_since
            .unwrap_or(Ktime(u64::MAX))
            .max(before.plus_ms(LOOK_MS));
        std::mem::take(&mut self.evicted)
    }

    fn remove(&mut self, id: u64) -> Option<Live> {
        let flow = *self.flows.remove(&id)?;
        if let Some(isn) = flow.isn
            && let Entry::Occupied(named) = self.by_isn.entry(isn)
            && *named.get() == id
        {
            named.remove();
        }
        let seen_as = flow.client_as_seen();
        let seen_as = (seen_as != flow.client()).then_some(seen_as);
        for key in [flow.client()].into_iter().chain(seen_as) {
            if let Entry::Occupied(mut ids) = self.by_client.entry(key.into())
                && !ids.get_mut().remove(id)
            {
                ids.remove();
            }
        }
        Some(flow)
    }
}

fn index(by_client: &mut HashMap<Peer, Ids>, client: SocketAddr, id: u64) {
    by_client
        .entry(client.into())
        .and_modify(|ids| ids.push(id))
        .or_insert(Ids::One(id));
}
