//! What is another cluster's on the same kernel.

use std::net::{IpAddr, SocketAddr};

use super::{Correlator, flow::Flow, history::PodHistory};
use crate::input::{Ktime, NetnsInum, Side, Sock};

impl Correlator {
    /// Which end of its connection a socket is. The filter knows the servers by the endpoint slices; what no service selects
    /// is told by its listener.
    pub(super) fn side(&self, at: Ktime, sock: &Sock) -> Side {
        let listens = || {
            let pod = self.pods.owner(sock.local.ip(), at);
            pod.is_some_and(|p| p.has_listened(sock.local.port(), at))
        };
        match sock.side {
            Side::Client if listens() => Side::Server,
            side => side,
        }
    }

    /// One kernel may carry several clusters with the same addresses (kind does): a view from a namespace that is
    /// known not to be the address owner's is another cluster's.
    pub(super) fn foreign(&self, at: Ktime, sock: &Sock) -> bool {
        self.anothers(at, sock.local.ip(), sock.netns)
    }

    pub(super) fn anothers(&self, at: Ktime, local: IpAddr, netns: NetnsInum) -> bool {
        if netns.0 == 0 {
            return false;
        }
        let owner = match self.pods.owner(local, at) {
            // The API may name the address's next owner later than that one's first packet comes: see `nobodys`.
            Some(pod) if pod.network_down().is_some_and(|down| down <= at) => None,
            Some(pod) => pod.netns,
            None => {
                let node = self.start.as_ref().map(|(_, s)| s);
                node.filter(|s| s.netns.0 != 0 && s.node_addrs.contains(&local))
                    .map(|s| s.netns)
            }
        };
        owner.is_some_and(|owner| owner != netns)
    }

    /// A process of the node dialled the node itself, at a port that is no pod's and no service's: an API server that is away is
    /// asked again and again by zdt alone.
    pub(super) fn of_the_node_alone(&self, flow: &Flow) -> bool {
        let Some((_, start)) = &self.start else {
            return false;
        };
        let of_node = |ip| start.node_addrs.contains(&ip);
        let Some(server) = flow.server_addr().or(flow.dialled()) else {
            return false;
        };
        let of_nobody = |at: SocketAddr| {
            of_node(at.ip())
                && !self.endpoints.is_endpoint(at)
                && self.endpoints.service_at(at).is_none()
                && self.endpoints.node_port(at.port()).is_none()
        };
        let at = flow.ended.unwrap_or(flow.began);
        of_node(flow.client().ip())
            && of_nobody(server)
            && flow.dialled().is_none_or(of_nobody)
            && self.pods.on_host(server.port(), None, at).is_none()
    }

    /// All that is known of it is a RST from a namespace that no pod of this cluster has, at the address of one that had ended.
    pub(super) fn nobodys(&self, flow: &Flow) -> bool {
        let alone = flow.client_end.is_none() && flow.client_got_reset.is_none() && !flow.outside;
        let (Some(reset), Some(server)) = (&flow.server_reset, flow.server()) else {
            return false;
        };
        let owner = self.pods.owner(server.ip(), reset.at);
        let ended = owner
            .and_then(PodHistory::network_down)
            .is_some_and(|down| down <= reset.at);
        alone && ended && reset.netns.0 != 0 && !self.pods.has_netns(reset.netns)
    }
}
