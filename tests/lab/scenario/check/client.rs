//! Bounds of `client`, `topology` and `network`.

use super::{Found, MOST_REQUESTS, MOST_SECONDS, ensure, share};
use crate::scenario::{Mode, Place, Scenario, Via};

/// More nodes on two cores start too late.
const MOST_NODES: u8 = 4;
/// The ports that the load client has for it (client/ports.rs).
const MOST_PORTS: u16 = 10_000;

pub(super) fn check(s: &Scenario) -> Result<(), Found> {
    let c = &s.client;
    let seconds_fit = c.seconds > 0.0 && c.seconds <= MOST_SECONDS;
    ensure(
        seconds_fit,
        "client.seconds",
        c.seconds,
        format!("above 0, at most {MOST_SECONDS}"),
    )?;
    let rate_fits = c.rate > 0.0 && c.rate * c.seconds <= MOST_REQUESTS;
    ensure(
        rate_fits,
        "client.rate",
        c.rate,
        format!("above 0, with rate x seconds at most {MOST_REQUESTS}"),
    )?;
    ensure(c.timeout_ms > 0, "client.timeout_ms", c.timeout_ms, "above 0")?;
    ensure(
        share(c.abort_share),
        "client.abort_share",
        c.abort_share,
        "0 to 1",
    )?;
    let some = c.mode != Mode::Keepalive || c.connections > 0;
    ensure(
        some,
        "client.connections",
        c.connections,
        "at least 1 with mode keepalive",
    )?;
    if let Some(ports) = c.source_ports {
        let fit = (1..=MOST_PORTS).contains(&ports);
        ensure(fit, "client.source_ports", ports, format!("1 to {MOST_PORTS}"))?;
        let used = c.mode != Mode::Keepalive;
        ensure(used, "client.source_ports", ports, "with mode short or udp")?;
    }
    let never = c.mode != Mode::Udp || c.abort_after_ms.is_none();
    ensure(never, "client.abort_after_ms", "set", "absent with mode udp")?;
    nodes(s)
}

fn nodes(s: &Scenario) -> Result<(), Found> {
    let (c, t) = (&s.client, &s.topology);
    ensure(
        (1..=MOST_NODES).contains(&t.nodes),
        "topology.nodes",
        t.nodes,
        format!("1 to {MOST_NODES}"),
    )?;
    let is_node = |n: u8| (1..=t.nodes).contains(&n);
    if let Some(on) = &t.pods_on {
        let fit = !on.is_empty() && on.iter().all(|n| is_node(*n));
        ensure(
            fit,
            "topology.pods_on",
            format!("{on:?}"),
            "numbers of nodes, 1 to topology.nodes",
        )?;
    }
    let elsewhere = c.place != Place::OtherNode || t.nodes > 1;
    ensure(
        elsewhere,
        "client.place",
        "other-node",
        "with topology.nodes above 1",
    )?;
    let reaches = c.place != Place::Outside || c.via == Via::NodePort;
    ensure(
        reaches,
        "client.place",
        "outside",
        "with via node-port: nothing else leads in from outside",
    )?;
    ensure(
        is_node(c.dial_node),
        "client.dial_node",
        c.dial_node,
        "1 to topology.nodes",
    )?;
    let used = c.dial_node == 1 || c.via == Via::NodePort;
    ensure(used, "client.dial_node", c.dial_node, "1 without via node-port")?;
    let late = s.network.rules_delay_node;
    ensure(
        late.is_none_or(is_node),
        "network.rules_delay_node",
        late.unwrap_or_default(),
        "1 to topology.nodes",
    )
}
