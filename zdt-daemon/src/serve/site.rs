//! What is on which page, and who gets it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
};

use super::{
    answer::{Answer, later, plain, state, typed},
    api::{self, Told},
    limits::Rate,
    page,
    stream::{self, Listening},
};
use crate::{
    clock,
    input::Ktime,
    report::{NodeTold, Wanted},
    sink::recent::Recent,
};

/// Bytes of a request's body; only the gate's webhook has one.
const BODY: usize = 64 << 10;

/// The text of the metrics is as old as this at most.
const FRESH_MS: f64 = 1_000.0;

/// The future of a page's text; None: it could not be made.
pub type Text = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// The future of what is made on a thread for what takes long; None: it broke down.
pub type Aside = Pin<Box<dyn Future<Output = Option<Told>> + Send>>;

/// Whether somebody may read what names pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    Yes,
    /// There is no token, or it is nobody's.
    NoToken,
    No,
    /// Whoever decides it does not answer.
    Unknown,
}

/// The future of that.
pub type Admission = Pin<Box<dyn Future<Output = Admitted> + Send>>;

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
    /// Whether whoever has this token may do that with one of the pages that name pods. Everybody, unless somebody is asked.
    fn admits(&self, _token: Option<&str>, _verb: &str, _page: &str) -> Admission {
        Box::pin(async { Admitted::Yes })
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

/// What all connections share.
pub struct Site {
    pages: Arc<dyn Pages>,
    rate: Mutex<Rate>,
    /// Whoever floods the rest must not blind who watches zdt.
    metrics_rate: Mutex<Rate>,
    /// The last text of the metrics, and when it was made.
    cached: tokio::sync::Mutex<Option<(Ktime, Bytes)>>,
    /// One long answer is made at a time.
    making: tokio::sync::Mutex<()>,
    listeners: stream::Listeners,
}

impl Site {
    pub fn new(pages: Arc<dyn Pages>) -> Self {
        Self {
            pages,
            rate: Mutex::new(Rate::new(clock::now())),
            metrics_rate: Mutex::new(Rate::new(clock::now())),
            cached: tokio::sync::Mutex::new(None),
            making: tokio::sync::Mutex::new(()),
            listeners: stream::Listeners::default(),
        }
    }

    pub(super) fn dropped_listener(&self) {
        self.pages.dropped_listener();
    }

    pub(super) async fn answer(&self, request: Request<Incoming>, listening: &Arc<Listening>) -> Answer {
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
                .rate(page)
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .admits(clock::now())
        {
            return (page, later(StatusCode::TOO_MANY_REQUESTS, "too many requests\n"));
        }
        if let Some(refused) = self.refused(page, &request).await {
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

    fn rate(&self, page: &str) -> &Mutex<Rate> {
        if page == "/metrics" {
            &self.metrics_rate
        } else {
            &self.rate
        }
    }

    /// What names pods and addresses is not for everybody.
    async fn refused(&self, page: &str, request: &Request<Incoming>) -> Option<Answer> {
        if !page.starts_with("/api/") {
            return None;
        }
        let token = request.headers().get(AUTHORIZATION);
        let token = token.and_then(|t| t.to_str().ok()?.strip_prefix("Bearer "));
        let verb = if request.method() == Method::POST {
            "post"
        } else {
            "get"
        };
        match self.pages.admits(token, verb, page).await {
            Admitted::Yes => None,
            Admitted::NoToken => {
                let mut refused = plain(
                    StatusCode::UNAUTHORIZED,
                    "who are you? send a token that the API server knows: Authorization: Bearer TOKEN\n",
                );
                let bearer = HeaderValue::from_static("Bearer");
                refused.headers_mut().insert(WWW_AUTHENTICATE, bearer);
                Some(refused)
            }
            Admitted::No => Some(plain(
                StatusCode::FORBIDDEN,
                "you may not: it takes a ClusterRole with nonResourceURLs: [/api/v1/*], verbs: [get, post]\n",
            )),
            Admitted::Unknown => Some(later(
                StatusCode::SERVICE_UNAVAILABLE,
                "the API server does not say whether you may\n",
            )),
        }
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
