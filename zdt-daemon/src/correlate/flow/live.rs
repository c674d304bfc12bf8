//! What is kept of a connection attempt while it may still go on. A storm keeps many of them, so they are small.

use std::net::SocketAddr;

use super::{
    super::peer::{Ends, Peer},
    AnswerSeen, End, GivenUp, LostAnswer, ResetSeen, Translated,
};
use crate::input::{Ktime, Tuple};

/// What sockets and conntrack have told of one connection attempt; of UDP, one datagram.
#[derive(Clone, Debug)]
pub struct Live {
    client: Peer,
    seen_as: Option<Peer>,
    dialled: Option<Peer>,
    server: Option<Peer>,
    reply: Option<Ends>,
    /// Conntrack was asked, and whether it had seen an answer.
    replied: Option<bool>,
    /// Initial sequence number of its SYN: the same on both sides of any translation.
    pub isn: Option<u32>,
    pub began: Ktime,
    pub ended: Option<Ktime>,
    pub last: Ktime,
    /// When its SYN was sent again for the last time.
    pub last_syn: Option<Ktime>,
    pub syn_retransmits: u32,
    /// Boxed, as all that comes with a failure: most flows that live have none of it yet.
    pub client_end: Option<Box<End>>,
    pub server_end: Option<Box<End>>,
    /// The first RST that the server's side sent.
    pub server_reset: Option<Box<ResetSeen>>,
    pub client_got_reset: Option<Ktime>,
    seldom: Option<Box<Seldom>>,
}

/// What few connection attempts have.
#[derive(Clone, Debug, Default)]
pub struct Seldom {
    /// The first RST that the client's side sent.
    pub client_reset: Option<Box<ResetSeen>>,
    /// A RST to the SYN that the server's side sent and the client did not get.
    pub lost_reset: Option<Box<ResetSeen>>,
    pub server_got_reset: Option<Ktime>,
    /// An ICMP error reached the client's socket while connect(2) still held it: the socket lives on with `sk_err_soft` set,
    /// and who asks SO_ERROR has the error (net/ipv4/tcp_ipv4.c tcp_v4_err, ip_icmp_error).
    pub soft_error: Option<Ktime>,
    /// The last answer before its end; of a request that was answered with an error, that answer.
    pub answer: Option<AnswerSeen>,
    /// What the server's kernel could not send any more.
    pub lost_answer: Option<LostAnswer>,
    /// The client closed, and nobody acknowledged even that.
    pub given_up: Option<GivenUp>,
    pub request_retransmits: u32,
    pub answer_retransmits: u32,
}

static NOTHING: Seldom = Seldom {
    client_reset: None,
    lost_reset: None,
    server_got_reset: None,
    soft_error: None,
    answer: None,
    lost_answer: None,
    given_up: None,
    request_retransmits: 0,
    answer_retransmits: 0,
};

impl Live {
    pub(in crate::correlate) fn new(client: SocketAddr, began: Ktime) -> Self {
        Self {
            client: client.into(),
            seen_as: None,
            dialled: None,
            server: None,
            reply: None,
            replied: None,
            isn: None,
            began,
            ended: None,
            last: began,
            last_syn: None,
            syn_retransmits: 0,
            client_end: None,
            server_end: None,
            server_reset: None,
            client_got_reset: None,
            seldom: None,
        }
    }

    pub fn seldom(&self) -> &Seldom {
        self.seldom.as_deref().unwrap_or(&NOTHING)
    }

    /// Something of it is about to be set.
    pub(in crate::correlate) fn seldom_mut(&mut self) -> &mut Seldom {
        self.seldom.get_or_insert_default()
    }

    /// The client's address before any masquerade, as far as known.
    pub fn client(&self) -> SocketAddr {
        self.client.into()
    }

    /// The client as the server saw it, where that was another address (masquerade).
    pub fn seen_as(&self) -> Option<SocketAddr> {
        self.seen_as.map(SocketAddr::from)
    }

    pub fn dialled(&self) -> Option<SocketAddr> {
        self.dialled.map(SocketAddr::from)
    }

    pub fn server(&self) -> Option<SocketAddr> {
        self.server.map(SocketAddr::from)
    }

    /// Where the node's address translation sent the connection.
    pub fn translated(&self) -> Option<Translated> {
        Some(Translated {
            reply: self.reply.map(Tuple::from),
            replied: self.replied?,
        })
    }

    /// The pod's side after translation: seen on its socket or packets, or as conntrack says, or dialled directly.
    pub fn server_addr(&self) -> Option<SocketAddr> {
        self.server().or_else(|| self.reply.map(|r| Tuple::from(r).from))
    }

    /// The client as the server saw it.
    pub fn client_as_seen(&self) -> SocketAddr {
        let translated = || self.reply.map(|r| Tuple::from(r).to);
        self.seen_as().or_else(translated).unwrap_or(self.client())
    }

    pub(in crate::correlate) fn set_seen_as(&mut self, addr: SocketAddr) {
        self.seen_as = Some(addr.into());
    }

    pub(in crate::correlate) fn set_dialled(&mut self, addr: SocketAddr) {
        self.dialled = Some(addr.into());
    }

    pub(in crate::correlate) fn set_server(&mut self, addr: SocketAddr) {
        self.server = Some(addr.into());
    }

    pub(in crate::correlate) fn set_translated(&mut self, translated: Option<Translated>) {
        self.reply = translated.and_then(|t| t.reply).map(Ends::from);
        self.replied = translated.map(|t| t.replied);
    }

    /// The client's own address: the one that was known so far is what the server saw.
    pub(in crate::correlate) fn unmask(&mut self, client: SocketAddr) {
        self.seen_as = Some(std::mem::replace(&mut self.client, client.into()));
    }

    /// Takes in what only the server's side of the same connection has told, under another address of its client.
    pub(in crate::correlate) fn absorb(&mut self, other: Self) {
        self.server = other.server;
        self.server_end = self.server_end.take().or(other.server_end);
        self.server_reset = self.server_reset.take().or(other.server_reset);
        self.began = self.began.min(other.began);
        self.last = self.last.max(other.last);
        if let Some(theirs) = other.seldom {
            let own = self.seldom_mut();
            own.server_got_reset = own.server_got_reset.or(theirs.server_got_reset);
            own.lost_reset = own.lost_reset.take().or(theirs.lost_reset);
            own.answer_retransmits += theirs.answer_retransmits;
        }
    }
}
