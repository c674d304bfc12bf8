//! Asks a running zdt over HTTP, plain or with TLS: one request a connection, bounded in time and size.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::access::{Access, hint};
use crate::config::PORT;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Bytes of an answer; the daemon keeps 24 MiB and gives 4 MiB at once.
const MOST: u64 = 32 << 20;

const MOST_HEADERS: usize = 64;

/// `http://127.0.0.1:9734`, `10.0.0.7`, `https://zdt.zdt.svc:9734`, `[::1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    tls: bool,
    host: String,
    port: u16,
}

/// One daemon: an address of a [`Server`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) addr: SocketAddr,
    /// As it was asked for, which its certificate has to say.
    host: String,
    tls: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", scheme(self.tls), self.addr)
    }
}

fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

impl std::str::FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "wanted an address as http://127.0.0.1:{PORT}, 10.0.0.7 or https://zdt.zdt.svc:{PORT} (no path)"
            )
        };
        let (tls, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => {
                (scheme == "https", rest.strip_suffix('/').unwrap_or(rest))
            }
            Some(_) => return Err(wrong()),
            None => (false, text),
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
            tls,
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = scheme(self.tls);
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl Server {
    pub(super) fn tls(&self) -> bool {
        self.tls
    }

    /// Every address of the name: a headless service's are one a node. Of both families only IPv4's, since each node has both.
    pub(super) fn addresses(&self) -> anyhow::Result<Vec<Target>> {
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
        let target = |addr| Target {
            addr,
            host: self.host.clone(),
            tls: self.tls,
        };
        Ok(all.into_iter().map(target).collect())
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
pub(super) fn get(access: &Access, to: &Target, path: &str) -> anyhow::Result<Answer> {
    let shown = access.header(to.tls)?;
    let raw = exchange(access, to, &shown, path).map_err(|error| {
        let hint = hint(&error);
        let error = anyhow::Error::from(error).context(format!("no answer from {to}"));
        hint.into_iter()
            .fold(error, |e, hint| anyhow::anyhow!("{e:#}; {hint}"))
    })?;
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(&raw);
    let Ok(httparse::Status::Complete(length)) = parsed else {
        bail!("{to} does not speak HTTP: does it serve with TLS (https://), or is another program there?");
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
        bail!("the answer from {to} is cut off");
    }
    if status != 200 {
        let said = String::from_utf8_lossy(&body);
        let hint = access.refused(to.tls, status);
        let hint = hint.map(|h| format!("; {h}")).unwrap_or_default();
        bail!("{to}{path} says {status}: {}{hint}", said.trim());
    }
    Ok(Answer { headers, body })
}

fn exchange(access: &Access, to: &Target, shown: &str, path: &str) -> io::Result<Vec<u8>> {
    let stream = TcpStream::connect_timeout(&to.addr, CONNECT_WITHIN)?;
    stream.set_read_timeout(Some(READ_WITHIN))?;
    stream.set_write_timeout(Some(READ_WITHIN))?;
    // 1.0: the answer ends with the connection, and is not chunked.
    let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n{shown}\r\n", to.addr);
    if to.tls {
        converse(access.dial(stream, &to.host)?, &request)
    } else {
        converse(stream, &request)
    }
}

fn converse(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut raw = Vec::new();
    stream.take(MOST).read_to_end(&mut raw)?;
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn servers_may_be_short_and_have_no_path() {
        for (text, wanted) in [
            ("http://127.0.0.1:9734", "http://127.0.0.1:9734"),
            ("http://10.0.0.7/", "http://10.0.0.7:9734"),
            ("10.0.0.7", "http://10.0.0.7:9734"),
            ("zdt.zdt.svc:80", "http://zdt.zdt.svc:80"),
            ("::1", "http://[::1]:9734"),
            ("http://[::1]", "http://[::1]:9734"),
            ("[fd00::7]:80", "http://[fd00::7]:80"),
            ("https://zdt.zdt.svc", "https://zdt.zdt.svc:9734"),
            ("https://[::1]:443/", "https://[::1]:443"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), wanted, "{text}");
        }
        for text in [
            "",
            "ftp://a",
            "https://",
            "https://a/b",
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
