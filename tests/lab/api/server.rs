//! The HTTP side: accepts connections, answers lists and watches, and can fail on command as an API server does.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use socket2::SockRef;
use tokio::task::{JoinHandle, JoinSet};

use super::fault::{Asked, Fault, Faults};
use super::feed::Feed;
use super::kinds;
use super::operate::{self, Powers};
use super::request::{Question, Target, Version};
use super::status::Failure;
use super::store::Store;
use super::write;

/// Pending connections that the kernel keeps for us.
const BACKLOG: i32 = 1024;
/// The real server's bookmark period (apiserver cacher.go defaultBookmarkFrequency).
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);

/// The real server's limit of a request (3 MiB; staging apiserver server/config.go, MaxRequestBodyBytes).
pub(super) const BODY_LIMIT: usize = 3 << 20;

/// What a test may change while watches run.
#[derive(Debug)]
pub struct Switches {
    watch_delay_us: AtomicU64,
    bookmark_every_us: AtomicU64,
    pub(super) faults: Faults,
}

impl Switches {
    pub fn watch_delay(&self) -> Duration {
        Duration::from_micros(self.watch_delay_us.load(Ordering::Relaxed))
    }

    pub fn bookmark_every(&self) -> Duration {
        Duration::from_micros(self.bookmark_every_us.load(Ordering::Relaxed))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A running API server. Dropping it closes the listener and every connection.
#[derive(Debug)]
pub struct ApiServer {
    store: Store,
    listener: TcpListener,
    addr: SocketAddr,
    switches: Arc<Switches>,
    powers: Option<Arc<Powers>>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// Serves `store` on a listener that the caller bound, in whichever network namespace it likes. Bind an explicit port:
/// a port that the kernel chose (bind to 0) is lost when the server goes away, and `come_back` fails.
pub async fn serve(store: Store, listener: TcpListener) -> io::Result<ApiServer> {
    start(store, listener, None)
}

/// The same for whoever operates the cluster: also creates, patches and deletes, and reads logs (operate.rs).
pub async fn serve_operator(store: Store, listener: TcpListener, powers: Powers) -> io::Result<ApiServer> {
    start(store, listener, Some(Arc::new(powers)))
}

fn start(store: Store, listener: TcpListener, powers: Option<Arc<Powers>>) -> io::Result<ApiServer> {
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let switches = Arc::new(Switches {
        watch_delay_us: AtomicU64::new(0),
        bookmark_every_us: AtomicU64::new(micros(BOOKMARK_EVERY)),
        faults: Faults::default(),
    });
    let server = ApiServer {
        store,
        listener,
        addr,
        switches,
        powers,
        accepting: Mutex::new(None),
    };
    server.start()?;
    Ok(server)
}

impl ApiServer {
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Delivers each change to HTTP watches this much later than it happened.
    pub fn set_watch_delay(&self, delay: Duration) {
        self.switches
            .watch_delay_us
            .store(micros(delay), Ordering::Relaxed);
    }

    /// The period of BOOKMARK events of watches that start from now on (default 60 s).
    pub fn set_bookmark_every(&self, period: Duration) {
        self.switches
            .bookmark_every_us
            .store(micros(period), Ordering::Relaxed);
    }

    /// Fails from now on, until [`Self::heal`].
    pub async fn fail(&self, fault: Fault, asked: Asked) -> io::Result<()> {
        match fault {
            Fault::Refuse => self.go_away().await?,
            Fault::Gone | Fault::ForgetHistory => self.forget_history(),
            _ => {}
        }
        self.switches.faults.begin(fault, asked);
        Ok(())
    }

    pub fn heal(&self) -> io::Result<()> {
        self.switches.faults.end();
        // Where it is there it stays.
        self.come_back()
    }

    /// Cuts every connection and refuses new ones, as a server that died.
    pub async fn go_away(&self) -> io::Result<()> {
        let task = self
            .accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            task.abort();
            // Cancellation is the answer we asked for.
            let _cancelled = task.await;
        }
        // Stops listening but keeps the address: tcp_disconnect() leaves an explicitly bound port with the socket
        // (SOCK_BINDPORT_LOCK, net/ipv4/tcp.c tcp_set_state).
        match SockRef::from(&self.listener).shutdown(std::net::Shutdown::Both) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
            _ => Ok(()),
        }
    }

    /// Serves again at the same address, in the same network namespace.
    pub fn come_back(&self) -> io::Result<()> {
        SockRef::from(&self.listener).listen(BACKLOG)?;
        let now = self.listener.local_addr()?;
        if now != self.addr {
            let text = format!(
                "the API server was at {} and would come back at {now}: bind an explicit port",
                self.addr
            );
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
        }
        self.start()
    }

    /// As a compaction: running watches end with 410, and every version known so far is too old to watch from.
    pub fn forget_history(&self) {
        self.store.forget_history();
    }

    fn start(&self) -> io::Result<()> {
        let mut accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        if accepting.as_ref().is_some_and(|task| !task.is_finished()) {
            return Ok(());
        }
        let listener = tokio::net::TcpListener::from_std(self.listener.try_clone()?)?;
        let answers = Answers {
            store: self.store.clone(),
            switches: Arc::clone(&self.switches),
            powers: self.powers.clone(),
        };
        let app = Router::new().fallback(answer).with_state(answers);
        #[expect(
            clippy::disallowed_methods,
            reason = "the lab is its own process; dropping the server ends the task"
        )]
        let task = tokio::spawn(accept(listener, app));
        *accepting = Some(task);
        Ok(())
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(task) = self
            .accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            task.abort();
        }
    }
}

/// Owns its connections: when this future is dropped, they are all cut.
async fn accept(listener: tokio::net::TcpListener, app: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // A watch event must not wait for the next one (Nagle).
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::warn!(%error, "api server: TCP_NODELAY");
                    }
                    let service = TowerToHyperService::new(app.clone());
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    connections.spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "api server: a connection ended early");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "api server: accept");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

#[derive(Debug, Clone)]
struct Answers {
    store: Store,
    switches: Arc<Switches>,
    powers: Option<Arc<Powers>>,
}

async fn answer(State(answers): State<Answers>, request: Request) -> Response {
    if let Some(powers) = &answers.powers {
        if !powers.are_of(request.headers()) {
            return Failure::unauthorized().into_response();
        }
        if operate::is_for_operators(&request) {
            let done = operate::answer(&answers.store, powers, request).await;
            return done.unwrap_or_else(IntoResponse::into_response);
        }
    }
    if request.method() == Method::POST {
        return post(&answers.store, request)
            .await
            .unwrap_or_else(IntoResponse::into_response);
    }
    if request.method() != Method::GET {
        return Failure::method_not_allowed().into_response();
    }
    answers.switches.faults.unless_hanging().await;
    let uri = request.uri();
    if let Some(discovery) = discovery(uri.path()) {
        return discovery;
    }
    let Some(target) = Target::parse(uri.path()).filter(|target| target.subresource.is_none()) else {
        return Failure::not_found(&format!("the path {:?}", uri.path())).into_response();
    };
    let response = Question::parse(target, uri).and_then(|question| {
        if let Some(instead) = answers.switches.faults.instead(question.watch) {
            return Ok(instead);
        }
        if question.watch {
            let feed = Feed::start(answers.store, question, answers.switches);
            let json = [(header::CONTENT_TYPE, "application/json")];
            Ok((json, Body::from_stream(feed.into_stream())).into_response())
        } else {
            read(&answers.store, &question)
        }
    });
    response.unwrap_or_else(IntoResponse::into_response)
}

async fn post(store: &Store, request: Request) -> Result<Response, Failure> {
    let path = request.uri().path().to_owned();
    let target = Target::parse(&path).ok_or_else(|| Failure::not_found(&format!("the path {path:?}")))?;
    let body = axum::body::to_bytes(request.into_body(), BODY_LIMIT)
        .await
        .map_err(|error| Failure::bad_request(format!("cannot read the body: {error}")))?;
    write::create(store, &target, &body)
}

fn discovery(path: &str) -> Option<Response> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let document = match parts.as_slice() {
        ["healthz" | "livez" | "readyz"] => return Some("ok".into_response()),
        ["version"] => Some(kinds::version()),
        ["api"] => Some(kinds::core_versions()),
        ["apis"] => Some(kinds::groups()),
        ["api", version] => kinds::resources("", version),
        ["apis", group] => kinds::group(group),
        ["apis", group, version] => kinds::resources(group, version),
        _ => None,
    };
    document.map(|document| Json(document).into_response())
}

/// A list in one page, or one object.
fn read(store: &Store, question: &Question) -> Result<Response, Failure> {
    let kind = question.target.kind;
    let (version, entries) = store.snapshot(kind.plural);
    match question.version {
        Version::AtLeast(asked) | Version::Exactly(asked) if asked > version => {
            return Err(Failure::too_large(asked, version));
        }
        // Only the newest state is kept, so any other exact version counts as compacted.
        Version::Exactly(asked) if asked < version => return Err(Failure::gone(asked, version)),
        _ => {}
    }
    let mut items = entries
        .iter()
        .filter(|entry| question.selects(entry))
        .map(|entry| &entry.json);
    if let Some(name) = &question.target.name {
        let object = items
            .next()
            .ok_or_else(|| Failure::not_found(&format!("{} {name:?}", kind.plural.name)))?;
        return Ok(Json(object).into_response());
    }
    let items: Vec<_> = items.collect();
    let metadata = json!({ "resourceVersion": version.to_string() });
    let list = json!({ "kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": metadata, "items": items });
    Ok(Json(list).into_response())
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
