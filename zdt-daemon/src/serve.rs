//! The HTTP interface: `/metrics`, `/healthz`, `/readyz`, the page and what it is made of; read-only, and limited in size,
//! rate, time and number.
//!
//! All of it is one future: connections are served side by side in it, so that it needs no task of its own and ends
//! when it is dropped. A request is answered from what is there; it waits for nothing but the text of the metrics,
//! which is made at most once a second whoever asks how often, and for what is made of many outputs, one at a time.

mod answer;
mod api;
mod connection;
mod limits;
mod page;
mod query;
mod site;
mod stream;
mod tls;

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt as _,
    future::{AbortHandle, abortable},
    stream::FuturesUnordered,
};
use tokio::time::{sleep, timeout};

use self::connection::HEAD_WITHIN;

pub use self::{
    api::Told,
    connection::one,
    site::{Admission, Admitted, Aside, Pages, Site, Text},
    tls::{Tls, TlsError},
};

/// Connections at the same time; the oldest gives way to a newer one, so that nobody can lock the kubelet's probes out.
const MOST_CONNECTIONS: usize = 64;

/// When no connection can be taken (no file descriptor is left), the next try comes after this time.
const AGAIN: Duration = Duration::from_millis(100);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "the port of {0} is in use: another program (or another zdt) listens there; end it, or choose another address \
         or port with --listen"
    )]
    InUse(SocketAddr),
    #[error(
        "{0} is no address of this machine: --listen takes one of its own, 127.0.0.1 for this machine only, or \
         0.0.0.0 for all of them"
    )]
    NotHere(SocketAddr),
    #[error(
        "zdt may not listen on {0}: ports below 1024 need CAP_NET_BIND_SERVICE; choose another one with --listen"
    )]
    NotPermitted(SocketAddr),
    #[error("cannot listen on {0}: {1}; choose another address with --listen")]
    Bind(SocketAddr, io::Error),
}

/// A port that is taken; nothing is answered on it until [`Server::run`].
pub struct Server {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
}

impl Server {
    /// Takes the port.
    pub fn bind(addr: SocketAddr) -> Result<Self, ServeError> {
        let bound = TcpListener::bind(addr).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = bound.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => ServeError::InUse(addr),
            io::ErrorKind::AddrNotAvailable => ServeError::NotHere(addr),
            io::ErrorKind::PermissionDenied => ServeError::NotPermitted(addr),
            _ => ServeError::Bind(addr, error),
        })?;
        Ok(Self { listener, tls: None })
    }

    /// Speaks TLS only.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(Arc::new(tls));
        self
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Where it listens; the port that the kernel chose where it was asked for port 0.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is dropped. An error means that it cannot even begin.
    pub async fn run(self, pages: Arc<dyn Pages>) -> io::Result<Infallible> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let site = Arc::new(Site::new(pages));
        let mut open = FuturesUnordered::new();
        let mut oldest: VecDeque<(u64, AbortHandle)> = VecDeque::new();
        let mut next = 0_u64;
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else {
                        sleep(AGAIN).await;
                        continue;
                    };
                    if oldest.len() >= MOST_CONNECTIONS
                        && let Some((_, abort)) = oldest.pop_front()
                    {
                        abort.abort();
                    }
                    let (connection, abort) = abortable(self::taken(stream, self.tls.clone(), Arc::clone(&site)));
                    let id = next;
                    next += 1;
                    oldest.push_back((id, abort));
                    open.push(async move {
                        // However it ended, it is over.
                        let _ = connection.await;
                        id
                    });
                }
                Some(id) = open.next() => oldest.retain(|(other, _)| *other != id),
            }
        }
    }
}

/// A connection that was taken; its handshake has the time that a request's head has.
async fn taken(stream: tokio::net::TcpStream, tls: Option<Arc<Tls>>, site: Arc<Site>) {
    let Some(tls) = tls else {
        return one(stream, site).await;
    };
    match timeout(HEAD_WITHIN, tls.accept(stream)).await {
        Ok(Ok(stream)) => one(stream, site).await,
        Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}
