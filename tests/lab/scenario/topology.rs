//! How many nodes there are, where the pods go, and how the Service leads to them.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topology {
    /// Their names are `n1` to `n<nodes>`; each has a kubelet, a kube-proxy and a daemon.
    pub nodes: u8,
    /// Numbers of the nodes that get the workloads' pods, in turn; absent: all, or with `client.place: other-node` all
    /// but the last.
    pub pods_on: Option<Vec<u8>>,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            nodes: 1,
            pods_on: None,
        }
    }
}

/// The Service `shop/web`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// `externalTrafficPolicy`
    pub external_traffic_policy: Policy,
    /// `internalTrafficPolicy`
    pub internal_traffic_policy: Policy,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            external_traffic_policy: Policy::Cluster,
            internal_traffic_policy: Policy::Cluster,
        }
    }
}

/// As Kubernetes writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// To an endpoint on any node; from outside masqueraded.
    Cluster,
    /// Only to endpoints of the node that was dialled; from outside with the client's own address.
    Local,
}

impl Policy {
    pub fn word(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}
