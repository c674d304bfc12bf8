//! One connection attempt as packets and conntrack tell of it, and when it is known to have failed.

use std::net::SocketAddr;

use super::super::{
    flow::{Flow, ResetSeen, Translated},
    packets::{DropSeen, ForwardedSeen, IcmpSeen, MAX_DROPS},
};
use crate::{
    input::{Ktime, Packet, Protocol, Translation, Tuple},
    verdict::Outcome,
};

/// A client sends its SYN again 1 s after the first one (RFC 6298 2.1; 3 s before it, RFC 1122), and then after the
/// double of the last pause at most: Linux pauses 1 s some times before it begins to double (tcp_syn_linear_timeouts,
/// 6.5). Who lets more than that pass has given up.
const FIRST_RTO_MS: f64 = 3_000.0;
/// How late a retransmit may be: its timer has a resolution of a jiffy, and the packet has a way to come.
const SLACK_MS: f64 = 200.0;

/// The same SYN within this time is the same packet at another place (a bridge's two devices, a drop, an ICMP error). Far
/// below the shortest retransmission timeout of Linux, 200 ms (TCP_RTO_MIN, include/net/tcp.h).
const SAME_SYN_MS: f64 = 100.0;
/// Datagrams have no number: within this time it is the same one. A packet crosses a bridge in some 10 µs. Two questions that
/// a resolver sends at once (A and AAAA) count as one request.
const SAME_DATAGRAM_MS: f64 = 1.0;

/// What waits for a neighbour that does not answer is dropped when the last of 3 solicitations, 1 s apart, was in vain
/// (net/ipv4/arp.c arp_tbl, net/core/neighbour.c neigh_timer_handler; `NEIGH_FAILED`). It was sent up to that long before.
const NEIGHBOUR_MS: u64 = 3_000;

/// What conntrack held of it, when it was asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Never,
    /// Nobody has answered.
    Unreplied(Ktime),
    /// No entry: a RST of the pod has ended it, or it was never confirmed since the packet was dropped.
    Gone(Ktime),
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Failed(Outcome),
    /// A datagram that was sent on: it failed if nothing lived where it went.
    SentOn,
    /// Nothing is known to have failed here.
    Unknown,
}

/// One attempt: of TCP, a SYN and its retransmits; of UDP, one datagram.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub protocol: Protocol,
    pub isn: Option<u32>,
    /// Before any masquerade.
    pub client: SocketAddr,
    pub dialled: SocketAddr,
    /// As conntrack has it: the pod, and the client as the pod sees it.
    pub reply: Option<Tuple>,
    pub first: Ktime,
    pub last: Ktime,
    /// The last packet was dropped.
    last_dropped: bool,
    /// The first, and the last sight of it was a drop that comes late.
    first_late: bool,
    last_late: bool,
    /// Between the last two SYNs.
    gap_ms: f64,
    pub retransmits: u32,
    drops: Vec<DropSeen>,
    icmp: Option<IcmpSeen>,
    forwarded: Option<ForwardedSeen>,
    look: Look,
    /// A RST to a SYN of it, which its client did not get.
    pub lost_reset: Option<Box<ResetSeen>>,
    /// The first datagram's entry had been answered before.
    replied_before: bool,
    /// Its verdict is out, or its sockets tell all of it: further packets make no other one.
    pub counted: bool,
}

/// What this node did with a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Done<'a> {
    Forwarded,
    Dropped(Option<&'a str>),
    Icmp { kind: u8, code: u8 },
}

impl Done<'_> {
    /// Seconds behind the packet: see [`NEIGHBOUR_MS`].
    fn comes_late(self) -> bool {
        matches!(self, Self::Dropped(Some("NEIGH_FAILED")))
    }
}

impl Attempt {
    pub(super) fn new(at: Ktime, packet: &Packet, done: Done<'_>) -> Self {
        let orig = orig(packet);
        let mut attempt = Self {
            protocol: packet.protocol,
            isn: packet.isn,
            client: orig.from,
            dialled: orig.to,
            reply: None,
            first: at,
            last: at,
            last_dropped: false,
            first_late: done.comes_late(),
            last_late: false,
            gap_ms: 0.0,
            retransmits: 0,
            drops: Vec::new(),
            icmp: None,
            forwarded: None,
            look: Look::Never,
            lost_reset: None,
            replied_before: packet.ct.as_ref().is_some_and(|ct| ct.replied),
            counted: false,
        };
        attempt.seen(at, packet, done);
        attempt
    }

    /// The packet belongs to this attempt: `at` may go back a little.
    pub(super) fn takes(&self, at: Ktime, packet: &Packet) -> bool {
        match self.protocol {
            Protocol::Udp => at.ms_since(self.last).abs() <= SAME_DATAGRAM_MS,
            _ => self.isn == packet.isn,
        }
    }

    pub(super) fn seen(&mut self, at: Ktime, packet: &Packet, done: Done<'_>) {
        let gap = at.ms_since(self.last);
        let same = gap <= SAME_SYN_MS;
        if !same {
            self.retransmits += 1;
            self.gap_ms = gap;
            self.last = at;
        }
        if !done.comes_late() && at.ms_since(self.first) <= SAME_SYN_MS {
            self.first_late = false;
        }
        self.last_late = done.comes_late();
        self.first = self.first.min(at);
        if let Some(ct) = &packet.ct {
            self.reply = ct.reply.or(self.reply);
        }
        match done {
            Done::Forwarded => {
                self.last_dropped = false;
                let seen = self.forwarded.get_or_insert(ForwardedSeen {
                    first: at,
                    last: at,
                    count: 0,
                });
                if seen.count == 0 || !same {
                    seen.count += 1;
                }
                seen.first = seen.first.min(at);
                seen.last = seen.last.max(at);
            }
            Done::Dropped(reason) => {
                self.last_dropped = true;
                if self.drops.len() < MAX_DROPS {
                    self.drops.push(DropSeen {
                        at,
                        reason: reason.map(str::to_owned),
                    });
                }
            }
            Done::Icmp { kind, code } => self.icmp = Some(IcmpSeen { at, kind, code }),
        }
    }

    /// Takes in what conntrack says. `false`: the attempt was answered, there is nothing more to know.
    pub(super) fn looked(&mut self, at: Ktime, said: &Translation) -> bool {
        // An entry of UDP may have been answered long before this datagram.
        if said.replied {
            return self.replied_before;
        }
        match said.reply {
            Some(reply) => {
                self.reply = Some(reply);
                self.look = Look::Unreplied(at);
            }
            None => self.look = Look::Gone(at),
        }
        true
    }

    /// This node has translated its address.
    pub(super) fn translated(&self) -> bool {
        self.reply.is_some_and(|r| r.from != self.dialled)
    }

    /// This node dropped or refused it.
    pub(super) fn turned_away(&self) -> bool {
        !self.drops.is_empty() || self.icmp.is_some()
    }

    /// An ICMP error ended it: no packet came behind it.
    fn ended_by_icmp(&self) -> Option<IcmpSeen> {
        self.icmp.filter(|i| self.last.ms_since(i.at) <= SAME_SYN_MS)
    }

    /// When it is over if no packet of it comes any more.
    pub(super) fn over(&self) -> Ktime {
        if self.protocol == Protocol::Udp {
            return self.last;
        }
        if let Some(icmp) = self.ended_by_icmp() {
            return icmp.at;
        }
        let waits = FIRST_RTO_MS.max(2.0 * self.gap_ms) + SLACK_MS;
        // The next SYN may wait for the neighbour, too.
        let queued = if self.last_late { NEIGHBOUR_MS } else { 0 };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few minutes at most, and positive"
        )]
        self.last.plus_ms(waits as u64 + queued)
    }

    /// What became of it, once it is over.
    ///
    /// Silence needs a proof: conntrack was asked behind the last SYN and has no answer, or the client sent a SYN again,
    /// which it does only when a whole retransmission timeout has passed without one.
    pub(super) fn fate(&self) -> Fate {
        if let Some(icmp) = self.ended_by_icmp() {
            return Fate::Failed(if icmp.refuses() {
                Outcome::Refused
            } else {
                Outcome::Unreachable
            });
        }
        let dropped_by = |reason| {
            self.drops
                .last()
                .is_some_and(|d| d.reason.as_deref() == Some(reason))
        };
        if self.protocol == Protocol::Udp {
            return if self.drops.is_empty() {
                Fate::SentOn
            } else {
                Fate::Failed(Outcome::TimedOut)
            };
        }
        match self.look {
            // The pod's kernel sent a RST: its node counts it.
            Look::Gone(at) if at >= self.last && !self.last_dropped => return Fate::Unknown,
            Look::Unreplied(at) | Look::Gone(at)
                if at >= self.last && self.retransmits == 0 && self.rejects() =>
            {
                return Fate::Failed(Outcome::Refused);
            }
            Look::Unreplied(at) | Look::Gone(at) if at >= self.last => {
                return Fate::Failed(Outcome::TimedOut);
            }
            _ => {}
        }
        // Conntrack has the entry by then (it is confirmed before the neighbour is asked for), so that every further SYN
        // goes the same way.
        if self.retransmits > 0 || dropped_by("NEIGH_FAILED") {
            return Fate::Failed(Outcome::TimedOut);
        }
        Fate::Unknown
    }

    /// A rule dropped the first SYN, and the client never sent it again. Of IPv4 the ICMP error that a REJECT rule sends would
    /// have been seen (the client then gave up within a second); that of IPv6 is not seen (there is no tracepoint in
    /// net/ipv6/icmp.c), and a client that stops at once has got it.
    fn rejects(&self) -> bool {
        let rule = |d: &DropSeen| d.reason.as_deref() == Some("NETFILTER_DROP");
        self.dialled.is_ipv6() && self.drops.last().is_some_and(rule)
    }

    /// Its packets as evidence of a flow that has sockets.
    pub(super) fn tell(&self, flow: &mut Flow) {
        flow.drops.clone_from(&self.drops);
        flow.icmp = self.icmp;
        flow.forwarded = self.forwarded;
        if flow.dialled().is_none() {
            flow.set_dialled(self.dialled);
        }
        if flow.client() != self.client && flow.client_end.is_none() {
            flow.unmask(self.client);
        }
        if flow.translated().is_none_or(|t| t.reply.is_none()) {
            flow.set_translated(self.reply.map(|reply| Translated {
                reply: Some(reply),
                replied: false,
            }));
        }
    }

    /// Its packets came after this time: what was sent to it then, the client has not got.
    pub(super) fn went_on_after(&self, at: Ktime) -> bool {
        self.last.ms_since(at) > SAME_SYN_MS
    }

    /// A flow of its own, since no socket of its client is on this node.
    pub(super) fn flow(&self, outcome: Outcome) -> Flow {
        let mut flow = Flow::new(self.client, self.first);
        self.tell(&mut flow);
        flow.protocol = self.protocol;
        flow.outside = true;
        flow.told_by_packets = Some(outcome);
        flow.isn = self.isn;
        if self.lost_reset.is_some() {
            flow.seldom_mut().lost_reset.clone_from(&self.lost_reset);
        }
        if self.first_late {
            flow.began_within_ms = NEIGHBOUR_MS;
        }
        flow.syn_retransmits = self.retransmits;
        flow.last_syn = Some(self.last);
        flow.last = self.last;
        flow.ended = Some(self.over());
        flow
    }
}

/// The addresses as the client had them.
pub(super) fn orig(packet: &Packet) -> Tuple {
    packet.ct.as_ref().map_or(
        Tuple {
            from: packet.from,
            to: packet.to,
        },
        |ct| ct.orig,
    )
}
