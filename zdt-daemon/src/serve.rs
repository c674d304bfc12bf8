//! The HTTP interface: `/metrics`, `/healthz`, `/readyz`, the page and what it is made of; read-only, and limited in size,
//! rate, time and number.
//!
//! All of it is one future: connections are served side by side in it, so that it needs no task of its own and ends
//! when it is dropped. A request is answered from what is there; it waits for nothing but the text of the metrics,
//! which is made at most once a second whoever asks how often, and for what is made of many outputs, one at a time.

mod answer;
mod api;
mod limits;
mod page;
mod query;
mod stream;

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
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::sleep;

pub use self::api::Told;
use self::{
    answer::{Answer, later, plain, state, typed},
    limits::Rate,
    stream::Listening,
};
use crate::{
    clock,
    input::Ktime,
    report::{NodeTold, Wanted},
    sink::recent::Recent,
};

/// Connections at the same time; the oldest gives way to a newer one, so that nobody can lock the kubelet's probes out.
const MOST_CONNECTIONS: usize = 64;

/// Bytes of a request's head; hyper's smallest.
const HEAD: usize = 8192;

const MOST_HEADERS: usize = 64;

/// The head must be there by then.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// And the answer must be taken by then: a connection is one request. A listener to events has to take each in its time.
const DONE_WITHIN: Duration = Duration::from_secs(15);

/// Bytes of a request's body; only the gate's webhook has one.
const BODY: usize = 64 << 10;

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

/// The future of what is made on a thread for what takes long; None: it broke down.
pub type Aside = Pin<Box<dyn Future<Output = Option<Told>> + Send>>;

/// What the pages say. Nothing here may wait for the verdict path, and nothing there waits for this.
pub trait Pages: Send + Sync {
    /// The text of `/metrics`, where there are some.
    fn metrics(&self) -> Text {
        Box::pin(async { None })
    }
    /// Its media type.
    fn metrics_type(&self) -> &'static str {
        "text/plain"
    }
    /// Why zdt is stuck and should be restarted; what watches nothing is never.
    fn alive(&self) -> Result<(), &'static str> {
        Ok(())
    }
    /// Why zdt does not see everything yet.
    fn ready(&self) -> Result<(), &'static str> {
        Ok(())
    }
    /// The last outputs, and how things stand.
    fn recent(&self) -> &Arc<Recent>;
    /// Who is asked by the gate about a workload: this node, from what is kept. Runs where it may take long.
    fn nodes(&self, wanted: &Wanted) -> Vec<NodeTold> {
        api::own(self.recent(), wanted)
    }
    /// Only the gate is served, not the pages of a node.
    fn only_gate(&self) -> bool {
        false
    }
    /// Makes an answer where it holds up nobody.
    fn aside(&self, work: Box<dyn FnOnce() -> Told + Send>) -> Aside;
    /// Whoever listened to events took nothing for too long, and was dropped.
    fn dropped_listener(&self) {}
    /// A request was answered.
    fn asked(&self, _page: &'static str, _code: u16) {}
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
            making: tokio::sync::Mutex::new(()),
            listeners: stream::Listeners::default(),
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
                    let (connection, abort) = abortable(one(stream, Arc::clone(&site)));
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
    let listening = Arc::new(Listening::default());
    let asked = Arc::clone(&listening);
    let answering = Arc::clone(&site);
    let service = service_fn(move |request| {
        let (site, listening) = (Arc::clone(&answering), Arc::clone(&asked));
        async move { Ok::<_, Infallible>(site.answer(request, &listening).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD)
        .max_headers(MOST_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = served => if let Err(error) = served {
            tracing::debug!("an HTTP connection broke off: {error}");
        },
        () = overdue(&listening) => if listening.began() {
            site.pages.dropped_listener();
        },
    }
}

/// Ends when the answer should have been taken.
async fn overdue(listening: &Listening) {
    sleep(DONE_WITHIN).await;
    while listening.takes(clock::now()) {
        sleep(DONE_WITHIN / 3).await;
    }
}

/// What all connections share.
struct Site {
    pages: Arc<dyn Pages>,
    rate: Mutex<Rate>,
    /// The last text of the metrics, and when it was made.
    cached: tokio::sync::Mutex<Option<(Ktime, Bytes)>>,
    /// One long answer is made at a time.
    making: tokio::sync::Mutex<()>,
    listeners: stream::Listeners,
}

impl Site {
    async fn answer(&self, request: Request<Incoming>, listening: &Arc<Listening>) -> Answer {
        let (page, response) = self.page(request, listening).await;
        self.pages.asked(page, response.status().as_u16());
        response
    }

    async fn page(&self, request: Request<Incoming>, listening: &Arc<Listening>) -> (&'static str, Answer) {
        let mut page = known(request.uri().path());
        if self.pages.only_gate() && !matches!(page, api::GATE | "/healthz" | "/readyz") {
            page = "other";
        }
        let posts = page == api::GATE && request.method() == Method::POST;
        if !posts && !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            let allowed = if page == api::GATE {
                "GET, HEAD, POST"
            } else {
                "GET, HEAD"
            };
            refused
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allowed));
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
            return (page, later(StatusCode::TOO_MANY_REQUESTS, "too many requests\n"));
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
            "/" => page::page(),
            stream::EVENTS if request.method() == Method::GET => {
                let asked = stream::Asked::of(&request);
                self.listeners
                    .listen(self.pages.recent(), &asked, listening)
                    .unwrap_or_else(|| later(StatusCode::SERVICE_UNAVAILABLE, "too many listeners\n"))
            }
            api::OUTPUTS => api::outputs(self.pages.recent(), request.uri().query()),
            api::STATE => api::state(self.pages.recent()),
            api::GATE | api::LANES | api::REPORT => self.made(page, request).await,
            _ => plain(
                StatusCode::NOT_FOUND,
                "zdt has /, /metrics, /healthz, /readyz, /api/v1/outputs, /api/v1/events, /api/v1/state, \
                 /api/v1/gate, /api/v1/lanes and /api/v1/report\n",
            ),
        };
        (page, response)
    }

    /// What is made of many outputs.
    async fn made(&self, page: &'static str, request: Request<Incoming>) -> Answer {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let posted = request.method() == Method::POST;
        let body = if posted {
            match Limited::new(request.into_body(), BODY).collect().await {
                Ok(body) => Some(body.to_bytes()),
                Err(_) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"),
            }
        } else {
            None
        };
        let recent = Arc::clone(self.pages.recent());
        let _one = self.making.lock().await;
        let pages = Arc::clone(&self.pages);
        let told = self.pages.aside(Box::new(move || {
            let nodes = |wanted: &Wanted| pages.nodes(wanted);
            api::made(&recent, &nodes, page, &query, body.as_deref())
        }));
        match told.await {
            Some(told) => typed(told.status, told.media, Bytes::from(told.text)),
            None => plain(StatusCode::INTERNAL_SERVER_ERROR, "it cannot be made\n"),
        }
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

/// The name of a page, for the metrics.
fn known(path: &str) -> &'static str {
    const PAGES: [&str; 10] = [
        "/",
        "/metrics",
        "/healthz",
        "/readyz",
        stream::EVENTS,
        api::OUTPUTS,
        api::STATE,
        api::GATE,
        api::LANES,
        api::REPORT,
    ];
    PAGES.into_iter().find(|p| *p == path).unwrap_or("other")
}
