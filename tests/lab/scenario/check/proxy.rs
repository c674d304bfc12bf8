//! Bounds of `proxy`, and what does not go with one.

use super::{Found, ensure, workload};
use crate::scenario::{Kind, Mode, Scenario, Via};

pub(super) fn check(s: &Scenario) -> Result<(), Found> {
    let Some(proxy) = &s.proxy else {
        return Ok(());
    };
    workload::one(&proxy.workload, &s.app)?;
    let w = &proxy.workload;
    let one = w.kind == Kind::Deployment && w.sidecar.is_none() && w.replicas > 0;
    ensure(
        one,
        "proxy.workload",
        "another kind, no replica or a sidecar",
        "a deployment of at least 1 replica, without a sidecar",
    )?;
    ensure(
        proxy.connect_timeout_ms > 0,
        "proxy.connect_timeout_ms",
        proxy.connect_timeout_ms,
        "above 0",
    )?;
    let http = s.client.mode != Mode::Udp;
    ensure(http, "client.mode", "udp", "short or keepalive with a proxy")?;
    let dials = s.client.via != Via::PodIp;
    ensure(
        dials,
        "client.via",
        "pod-ip",
        "cluster-ip or node-port with a proxy",
    )
}
