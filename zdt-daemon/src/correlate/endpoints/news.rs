//! What a slice update tells of an endpoint for the first time, and the connections that this node has sent to it.

use std::net::{IpAddr, SocketAddr};

use super::{EndpointHistory, Endpoints, uid};
use crate::input::{Ktime, NsName, PodUid};

/// What was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::correlate) enum Told {
    Ready,
    /// It is terminating, or left its slice without having been.
    Ending,
    Removed,
}

/// One endpoint that is a pod, and what was told of it.
#[derive(Clone, Debug)]
pub(in crate::correlate) struct News {
    pub told: Told,
    pub uid: PodUid,
    pub pod: NsName,
    pub node: Option<String>,
    pub ip: IpAddr,
}

impl News {
    pub(super) fn of(told: Told, ip: IpAddr, endpoint: &EndpointHistory) -> Option<Self> {
        let (uid, name) = endpoint.pod.as_deref()?;
        Some(Self {
            told,
            uid: uid.clone(),
            pod: NsName {
                namespace: endpoint.service.namespace.clone(),
                name: name.clone(),
            },
            node: endpoint.node.as_deref().map(str::to_owned),
            ip,
        })
    }
}

impl Endpoints {
    /// This node sent a new connection to `server`.
    pub(in crate::correlate) fn connected(&mut self, server: SocketAddr, at: Ktime) {
        let all = self.by_addr.get_mut(&server.ip()).into_iter().flatten().rev();
        let mut then = all.filter(|e| e.added <= at);
        // The last one that took the address; a pod may stand behind several services.
        let Some(last) = then.next() else { return };
        let pod = last.pod.clone();
        last.note(at);
        for other in then {
            if uid(&other.pod) == uid(&pod) {
                other.note(at);
            }
        }
    }

    /// The first and the last new connection that this node was seen to send to this pod.
    pub(in crate::correlate) fn connections(&self, ip: IpAddr, uid: &PodUid) -> Option<(Ktime, Ktime)> {
        let seen = self.of_pod(ip, uid).filter_map(|e| e.noted.as_ref()?.connections);
        seen.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// When a slice first said that this pod is ready, having said otherwise before.
    pub(in crate::correlate) fn became_ready(&self, ip: IpAddr, uid: &PodUid) -> Option<Ktime> {
        let ready = self
            .of_pod(ip, uid)
            .filter_map(|e| e.noted.as_ref()?.became_ready);
        ready.min()
    }

    /// Since when no slice holds this pod at this address. None: one does.
    pub(in crate::correlate) fn gone(&self, ip: IpAddr, uid: &PodUid) -> Option<Ktime> {
        let mut last = None;
        for endpoint in self.of_pod(ip, uid) {
            last = last.max(Some(endpoint.removed?));
        }
        last
    }
}

impl EndpointHistory {
    fn note(&mut self, at: Ktime) {
        let connections = &mut self.noted.get_or_insert_default().connections;
        let (first, last) = connections.unwrap_or((at, at));
        *connections = Some((first.min(at), last.max(at)));
    }
}
