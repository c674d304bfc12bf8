//! What the daemon's HTTP interface says, asked from inside the node's namespace.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::cluster::within;
use crate::{net::in_netns, node::Node};

/// Where the daemon is told to listen. Each run has a namespace of its own.
pub(super) const ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9734);

/// The daemon sums a rollout up when nothing has happened for 10 s (`rollout_quiet_ms`).
const SUMMARY_LIMIT: Duration = Duration::from_secs(40);

/// The text of `/metrics` once a rollout has been summed up in it.
pub(super) async fn summed_up(node: &Node) -> Result<String> {
    let ready = get(node, "/readyz")?;
    if !ready.starts_with("HTTP/1.1 200 ") {
        bail!("the daemon said `ready:` and /readyz says {ready}");
    }
    let wait = async {
        loop {
            let answer = get(node, "/metrics")?;
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

fn get(node: &Node, path: &str) -> Result<String> {
    let answer = in_netns(node.net().netns(), || {
        let mut stream = TcpStream::connect(ADDR)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {ADDR}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        io::Result::Ok(answer)
    });
    answer.with_context(|| format!("cannot get http://{ADDR}{path} in the node's namespace"))
}
