//! The load client: where it runs, what it dials and how it sends.

use serde::{Deserialize, Serialize};

/// The load client: a pod, or a program outside of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    pub mode: Mode,
    /// Requests a second.
    pub rate: f64,
    /// How long it begins requests.
    pub seconds: f64,
    /// For a whole request, connecting included.
    pub timeout_ms: u64,
    pub place: Place,
    pub via: Via,
    /// With `via: node-port`: the number of the node whose address it dials.
    pub dial_node: u8,
    /// A fixed set of so many source ports, used in turn; absent: the kernel chooses (mode `udp`: 4).
    pub source_ports: Option<u16>,
    /// Connections in mode `keepalive`.
    pub connections: u32,
    /// Hangs up this long after a request began; absent: never.
    pub abort_after_ms: Option<u64>,
    /// Share of the requests that `abort_after_ms` applies to.
    pub abort_share: f64,
    /// Uses an idle connection again without looking whether its server has closed it.
    pub stale_pool: bool,
    /// Time between the connection and its first request.
    pub send_delay_ms: u64,
    /// Sends HEAD requests.
    pub head: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            mode: Mode::Short,
            rate: 100.0,
            seconds: 8.0,
            timeout_ms: 3000,
            place: Place::SameNode,
            via: Via::ClusterIp,
            dial_node: 1,
            source_ports: None,
            connections: 8,
            abort_after_ms: None,
            abort_share: 1.0,
            stale_pool: false,
            send_delay_ms: 0,
            head: false,
        }
    }
}

/// Whether a connection is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Short,
    Keepalive,
    /// One datagram a request; the Service has a UDP port then.
    Udp,
}

/// Where the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A pod on the first node.
    SameNode,
    /// A pod on the last node, which has none of the workloads' pods.
    OtherNode,
    /// Beyond the nodes' router, not in the cluster.
    Outside,
}

/// What the client dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// The service's cluster address.
    ClusterIp,
    /// The node's address and the service's node port.
    NodePort,
    /// One pod's own address, the first in the order of names when the client starts.
    PodIp,
}
