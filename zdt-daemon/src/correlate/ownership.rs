//! One failure, one count. A connection is seen by up to three nodes, and each decides alone whether it is the one that
//! counts it: what the pod's kernel sent or got is counted by the pod's node, silence and what a node itself answers by the
//! client's. A client without a socket on any node is the translating node's ([`super::attempts`]).

use super::{
    endpoints::{EndpointHistory, Endpoints},
    flow::Flow,
    history::PodHistory,
};
use crate::verdict::Outcome;

/// What tells where a flow's server is.
#[derive(Clone, Copy)]
pub(super) struct Server<'a> {
    /// A pod of this node.
    pub pod: Option<&'a PodHistory>,
    pub endpoint: Option<&'a EndpointHistory>,
    pub endpoints: &'a Endpoints,
    pub node: &'a str,
    /// Nothing was lost while it happened: what was not seen did not happen here.
    pub whole: bool,
}

/// The pod's node has the better evidence of it, and counts it.
pub(super) fn counted_by_the_pods_node(flow: &Flow, outcome: Outcome, server: &Server<'_>) -> bool {
    heard_from_the_pod(flow, outcome) && elsewhere(flow, server)
}

/// The pod's kernel took part: it sent the RST or the FIN, or has acknowledged the request that its client gave up.
fn heard_from_the_pod(flow: &Flow, outcome: Outcome) -> bool {
    // The client's kernel reset what came from an address that it never dialled: only its node knows.
    if flow.stray_reset.is_some() {
        return false;
    }
    match outcome {
        // An ICMP error refuses, too.
        Outcome::Refused => flow.client_got_reset.is_some(),
        Outcome::TimedOut if flow.failed_to_connect() => false,
        Outcome::TimedOut => {
            let end = flow.client_end.as_ref();
            end.is_some_and(|e| e.tcp.unacked == 0 && e.tcp.bytes_sent > 0)
                && flow.seldom().request_retransmits == 0
        }
        Outcome::Unreachable => false,
        Outcome::Reset | Outcome::ClosedEarly | Outcome::ServedError => true,
    }
}

/// The server is a pod of another node.
fn elsewhere(flow: &Flow, server: &Server<'_>) -> bool {
    let seen_here = flow.outside
        || flow.server_end.is_some()
        || flow.server_reset.is_some()
        || flow.seldom().lost_reset.is_some()
        || flow.seldom().lost_answer.is_some()
        || flow.seldom().server_got_reset.is_some();
    if seen_here || server.pod.is_some() {
        return false;
    }
    if let Some(node) = server.endpoint.and_then(|e| e.node.as_deref()) {
        return node != server.node;
    }
    // Conntrack forgets a refused connection with its RST. Had a pod of this node sent that, it would have been seen.
    let service = flow.dialled().and_then(|d| {
        let by_port = || server.endpoints.node_port(d.port());
        server.endpoints.service_at(d).or_else(by_port)
    });
    service.is_some_and(|service| {
        let mut nodes = server.endpoints.nodes_of(service).peekable();
        let known = nodes.peek().is_some();
        let all_here = nodes.clone().all(|node| node == server.node);
        let all_elsewhere = nodes.all(|node| node != server.node);
        known && (all_elsewhere || (server.whole && !all_here))
    })
}
