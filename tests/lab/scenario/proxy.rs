//! A proxy in front of the workload: which one, what it dials, and how late it learns of its backends.

use serde::{Deserialize, Serialize};

use super::Workload;

/// The Deployment `ingress/proxy` with its Service, which the client dials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    pub kind: ProxyKind,
    /// Settings of its Deployment.
    pub workload: Workload,
    pub dials: Dials,
    /// From a change of the endpoint slices to the proxy's reload with the new list.
    pub lag_ms: u64,
    pub connect_timeout_ms: u64,
    /// Other endpoints that it tries when one cannot be reached or does not answer.
    pub retries: u32,
    /// How long requests in flight may go on in a worker that a reload has replaced (nginx `worker_shutdown_timeout`,
    /// haproxy `hard-stop-after`); absent: to their end.
    pub shutdown_timeout_s: Option<u32>,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            kind: ProxyKind::Nginx,
            workload: Workload {
                replicas: 1,
                ..Workload::default()
            },
            dials: Dials::PodIp,
            lag_ms: 1_000,
            connect_timeout_ms: 1_000,
            retries: 0,
            shutdown_timeout_s: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyKind {
    Nginx,
    Haproxy,
}

/// What the proxy dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dials {
    /// The ready endpoints' own addresses, as ingress controllers do.
    PodIp,
    /// The service's cluster address: the node's rules balance.
    ClusterIp,
}
