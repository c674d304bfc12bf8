//! What is another cluster's on the same kernel.

use std::net::IpAddr;

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

    /// All that is known of it is a RST from a namespace that no pod of this cluster has, at the address of one that had ended.
    pub(super) fn nobodys(&self, flow: &Flow) -> bool {
        let alone = flow.client_end.is_none() && flow.client_got_reset.is_none() && !flow.outside;
        let (Some(reset), Some(server)) = (&flow.server_reset, flow.server) else {
            return false;
        };
        let owner = self.pods.owner(server.ip(), reset.at);
        let ended = owner
            .and_then(PodHistory::network_down)
            .is_some_and(|down| down <= reset.at);
        alone && ended && reset.netns.0 != 0 && !self.pods.has_netns(reset.netns)
    }
}
