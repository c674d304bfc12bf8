//! What the daemon's HTTP interface says, asked from inside the node's namespace.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::cluster::within;
use crate::{net::in_netns, node::Node};

pub(super) const PORT: u16 = 9734;

/// Where the daemon is told to listen. Each run has a namespace of its own. A run that is held listens on the node's address,
/// as the DaemonSet does: the gate asks the nodes from one of them.
pub(super) fn addr(node: &Node, held: bool) -> SocketAddr {
    let ip = if held {
        node.net().ip()
    } else {
        Ipv4Addr::LOCALHOST
    };
    SocketAddr::from((ip, PORT))
}

/// The daemon sums a rollout up when nothing has happened for 10 s (`rollout_quiet_ms`).
const SUMMARY_LIMIT: Duration = Duration::from_secs(40);

/// The text of `/metrics` once a rollout has been summed up in it.
pub(super) async fn summed_up(node: &Node, addr: SocketAddr) -> Result<String> {
    let ready = get(node, addr, "/readyz")?;
    if !ready.starts_with("HTTP/1.1 200 ") {
        bail!("the daemon said `ready:` and /readyz says {ready}");
    }
    let wait = async {
        loop {
            let answer = get(node, addr, "/metrics")?;
            let Some((head, text)) = answer.split_once("\r\n\r\n") else {
                bail!("/metrics answers {answer}");
            };
            if !head.starts_with("HTTP/1.1 200 ") {
                bail!("/metrics answers {head}");
            }
            if text.contains("\nzdt_rollouts_total{") {
                return Ok(text.to_owned());
            }
            // Polled, as Prometheus does; the text is made once a second.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    within("a rollout in /metrics", SUMMARY_LIMIT, wait).await?
}

/// The text of `/metrics` now.
pub(super) fn metrics(node: &Node, addr: SocketAddr) -> Result<String> {
    let answer = get(node, addr, "/metrics")?;
    match answer.split_once("\r\n\r\n") {
        Some((head, text)) if head.starts_with("HTTP/1.1 200 ") => Ok(text.to_owned()),
        _ => bail!("/metrics answers {answer}"),
    }
}

fn get(node: &Node, addr: SocketAddr, path: &str) -> Result<String> {
    let answer = in_netns(node.net().netns(), || {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {addr}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        io::Result::Ok(answer)
    });
    answer.with_context(|| format!("cannot get http://{addr}{path} in the node's namespace"))
}
