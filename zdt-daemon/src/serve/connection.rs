//! One connection: one request, within its limits of size and time.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep,
};

use super::{Site, stream::Listening};
use crate::clock;

/// Bytes of a request's head; hyper's smallest.
const HEAD: usize = 8192;

const MOST_HEADERS: usize = 64;

/// The head must be there by then.
pub(super) const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// And the answer must be taken by then: a connection is one request. A listener to events has to take each in its time.
const DONE_WITHIN: Duration = Duration::from_secs(15);

/// One connection, one request.
pub async fn one(stream: impl AsyncRead + AsyncWrite + Unpin, site: Arc<Site>) {
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
            site.dropped_listener();
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
