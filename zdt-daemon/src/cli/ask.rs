//! Asks a running zdt over HTTP: plain, one request a connection, bounded in time and size.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::config::PORT;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Bytes of an answer; the daemon keeps 24 MiB and gives 4 MiB at once.
const MOST: u64 = 32 << 20;

const MOST_HEADERS: usize = 64;

/// `http://127.0.0.1:9734`, `10.0.0.7`, `zdt.zdt.svc:9734`, `[::1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
}

impl std::str::FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "wanted an address as http://127.0.0.1:{PORT}, 10.0.0.7 or zdt.zdt.svc:{PORT} (plain http, no path)"
            )
        };
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some(_) => return Err(wrong()),
            None => text,
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
            None if rest.parse::<std::net::Ipv6Addr>().is_ok() => (rest, None),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = port.map_or(Ok(PORT), |p| p.parse().map_err(|_| wrong()))?;
        if host.is_empty() || host.contains(['/', '?', '#', '@', ' ', '\r', '\n']) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "http://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "http://{}:{}", self.host, self.port)
        }
    }
}

impl Server {
    /// Every address of the name: a headless service's are one a node. Of both families only IPv4's, since each node has both.
    pub(super) fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let found = found.with_context(|| format!("cannot find {}", self.host))?;
        let mut all: Vec<SocketAddr> = found.collect();
        if all.iter().any(SocketAddr::is_ipv4) {
            all.retain(SocketAddr::is_ipv4);
        }
        all.sort_unstable();
        all.dedup();
        if all.is_empty() {
            bail!("{} has no address", self.host);
        }
        Ok(all)
    }
}

/// What came back.
pub(super) struct Answer {
    headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// GET; every status but 200 is an error.
pub(super) fn get(to: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    let raw = exchange(to, path).with_context(|| format!("no answer from http://{to}"))?;
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(&raw);
    let Ok(httparse::Status::Complete(length)) = parsed else {
        bail!("http://{to} does not speak HTTP: is another program there?");
    };
    let status = head.code.unwrap_or_default();
    let headers: BTreeMap<String, String> = head
        .headers
        .iter()
        .map(|h| {
            let value = String::from_utf8_lossy(h.value).into_owned();
            (h.name.to_ascii_lowercase(), value)
        })
        .collect();
    let body = raw.get(length..).unwrap_or_default().to_vec();
    let wanted = headers
        .get("content-length")
        .and_then(|l| l.parse::<usize>().ok());
    if wanted.is_some_and(|wanted| wanted != body.len()) {
        bail!("the answer from http://{to} is cut off");
    }
    if status != 200 {
        let said = String::from_utf8_lossy(&body);
        bail!("http://{to}{path} says {status}: {}", said.trim());
    }
    Ok(Answer { headers, body })
}

fn exchange(to: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&to, CONNECT_WITHIN)?;
    stream.set_read_timeout(Some(READ_WITHIN))?;
    stream.set_write_timeout(Some(READ_WITHIN))?;
    // 1.0: the answer ends with the connection, and is not chunked.
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {to}\r\n\r\n")?;
    let mut raw = Vec::new();
    stream.take(MOST).read_to_end(&mut raw)?;
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn servers_may_be_short_and_must_be_plain() {
        for (text, wanted) in [
            ("http://127.0.0.1:9734", "http://127.0.0.1:9734"),
            ("http://10.0.0.7/", "http://10.0.0.7:9734"),
            ("10.0.0.7", "http://10.0.0.7:9734"),
            ("zdt.zdt.svc:80", "http://zdt.zdt.svc:80"),
            ("::1", "http://[::1]:9734"),
            ("http://[::1]", "http://[::1]:9734"),
            ("[fd00::7]:80", "http://[fd00::7]:80"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), wanted, "{text}");
        }
        for text in [
            "",
            "https://a",
            "http://",
            "a:b",
            "a/b",
            "http://a/b",
            "u@a",
            "[::1]9",
            "a b",
        ] {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
    }
}
