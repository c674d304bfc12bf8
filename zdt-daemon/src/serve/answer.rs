//! Answers: a status, a media type and a body, with the headers that all of them have.

use std::convert::Infallible;

use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
};

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

pub(super) fn state(state: Result<(), &'static str>) -> Answer {
    match state {
        Ok(()) => plain(StatusCode::OK, "ok\n"),
        Err(why) => typed(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            Bytes::from(format!("{why}\n")),
        ),
    }
}

/// Refused for now.
pub(super) fn later(status: StatusCode, text: &'static str) -> Answer {
    let mut refused = plain(status, text);
    refused
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    refused
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> Answer {
    typed(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

pub(super) fn typed(status: StatusCode, media: &'static str, body: Bytes) -> Answer {
    bodied(status, media, Full::new(body).boxed_unsync())
}

pub(super) fn bodied(
    status: StatusCode,
    media: &'static str,
    body: UnsyncBoxBody<Bytes, Infallible>,
) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
