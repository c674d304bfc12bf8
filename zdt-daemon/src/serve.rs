//! The HTTP interface: `/metrics`, `/healthz`, `/readyz`; read-only, and limited in size, rate, time and number.
//!
//! All of it is one future: connections are served side by side in it, so that it needs no task of its own and ends
//! when it is dropped. A request is answered from what is there; it waits for nothing but the text of the metrics,
//! which is made at most once a second whoever asks how often.

mod limits;

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt as _,
    future::{AbortHandle, abortable},
    stream::FuturesUnordered,
};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{sleep, timeout};

use self::limits::Rate;
use crate::{clock, input::Ktime};

/// Connections at the same time; the oldest gives way to a newer one, so that nobody can lock the kubelet's probes out.
const MOST_CONNECTIONS: usize = 64;

/// Bytes of a request's head; hyper's smallest.
const HEAD: usize = 8192;

const MOST_HEADERS: usize = 64;

/// The head must be there by then.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// And the answer must be taken by then: a connection is one request.
const DONE_WITHIN: Duration = Duration::from_secs(15);

/// The text of the metrics is as old as this at most.
const FRESH_MS: f64 = 1_000.0;

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

/// The future of a page's text; None: it could not be made.
pub type Text = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// What the pages say. Nothing here may wait for the verdict path, and nothing there waits for this.
pub trait Pages: Send + Sync {
    /// The text of `/metrics`.
    fn metrics(&self) -> Text;
    /// Its media type.
    fn metrics_type(&self) -> &'static str;
    /// Why zdt is stuck and should be restarted.
    fn alive(&self) -> Result<(), &'static str>;
    /// Why zdt does not see everything yet.
    fn ready(&self) -> Result<(), &'static str>;
    /// A request was answered.
    fn asked(&self, page: &'static str, code: u16);
}

/// A port that is taken; nothing is answered on it until [`Server::run`].
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
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
        Ok(Self { listener })
    }

    /// Where it listens; the port that the kernel chose where it was asked for port 0.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is dropped. An error means that it cannot even begin.
    pub async fn run(self, pages: Arc<dyn Pages>) -> io::Result<Infallible> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let site = Arc::new(Site {
            pages,
            rate: Mutex::new(Rate::new(clock::now())),
            cached: tokio::sync::Mutex::new(None),
        });
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
                    let (connection, abort) = abortable(timeout(DONE_WITHIN, one(stream, Arc::clone(&site))));
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

/// One connection, one request.
async fn one(stream: tokio::net::TcpStream, site: Arc<Site>) {
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD)
        .max_headers(MOST_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("an HTTP connection broke off: {error}");
    }
}

/// What all connections share.
struct Site {
    pages: Arc<dyn Pages>,
    rate: Mutex<Rate>,
    /// The last text of the metrics, and when it was made.
    cached: tokio::sync::Mutex<Option<(Ktime, Bytes)>>,
}

impl Site {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (page, response) = self.page(request).await;
        self.pages.asked(page, response.status().as_u16());
        response
    }

    async fn page(&self, request: &Request<Incoming>) -> (&'static str, Response<Full<Bytes>>) {
        let page = match request.uri().path() {
            "/metrics" => "/metrics",
            "/healthz" => "/healthz",
            "/readyz" => "/readyz",
            _ => "other",
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refused
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return (page, refused);
        }
        // The probes cost nothing, and who floods the rest must not get zdt restarted.
        let probe = matches!(page, "/healthz" | "/readyz");
        if !probe
            && !self
                .rate
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .admits(clock::now())
        {
            let mut refused = plain(StatusCode::TOO_MANY_REQUESTS, "too many requests\n");
            refused
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return (page, refused);
        }
        let response = match page {
            "/metrics" => match self.metrics().await {
                Some(text) => typed(StatusCode::OK, self.pages.metrics_type(), text),
                None => plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the metrics cannot be written\n",
                ),
            },
            "/healthz" => state(self.pages.alive()),
            "/readyz" => state(self.pages.ready()),
            _ => plain(StatusCode::NOT_FOUND, "zdt has /metrics, /healthz and /readyz\n"),
        };
        (page, response)
    }

    /// Whoever asks while the text is made waits for that one.
    async fn metrics(&self) -> Option<Bytes> {
        let mut cached = self.cached.lock().await;
        if let Some((at, text)) = &*cached
            && clock::now().ms_since(*at) < FRESH_MS
        {
            return Some(text.clone());
        }
        let text = Bytes::from(self.pages.metrics().await?);
        *cached = Some((clock::now(), text.clone()));
        Some(text)
    }
}

fn state(state: Result<(), &'static str>) -> Response<Full<Bytes>> {
    match state {
        Ok(()) => plain(StatusCode::OK, "ok\n"),
        Err(why) => typed(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            Bytes::from(format!("{why}\n")),
        ),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    typed(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

fn typed(status: StatusCode, media: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
