//! How long this node took to let go of a terminating pod: the stages between its deletion and the rules.

use std::net::SocketAddr;

use super::{endpoints::Endpoints, history::PodHistory, routes::Routes};
use crate::{input::Protocol, verdict::Propagation};

/// The stages of one pod, as far as they are known. None: it was not deleted, or is no endpoint.
pub(super) fn of_pod(pod: &PodHistory, endpoints: &Endpoints, routes: &Routes) -> Option<Propagation> {
    let deleted = pod.deletion_seen?;
    let since = |at| -> f64 { crate::input::Ktime::ms_since(at, deleted) };
    let served: Vec<SocketAddr> = pod
        .state
        .ips
        .iter()
        .flat_map(|ip| endpoints.served_by(*ip, &pod.state.uid))
        .collect();
    if served.is_empty() {
        return None;
    }
    let slice = pod
        .state
        .ips
        .iter()
        .filter_map(|ip| endpoints.left_service(*ip, &pod.state.uid))
        .max();
    // The last rule to go is the one that counts.
    let rules = served
        .iter()
        .filter_map(|to| routes.dropped(Protocol::Tcp, *to, deleted))
        .max();
    let closed = pod
        .listeners
        .iter()
        .filter_map(|l| l.closed)
        .filter(|c| *c >= deleted)
        .min();
    let stopped = [closed, pod.network_down()].into_iter().flatten().min();
    Some(Propagation {
        pod: pod.state.pod.name.clone(),
        slice_ms: slice.map(since),
        rules_ms: rules.map(since),
        stopped_serving_ms: stopped.map(since),
    })
}
