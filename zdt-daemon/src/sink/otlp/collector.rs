//! A collector: its address, and one request to it (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP").

use std::{fmt, io, str::FromStr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use prost::Message as _;
use tokio::time::{sleep, timeout};

/// The port of OTLP over HTTP.
const PORT: u16 = 4318;

/// Added to the address.
const PATH: &str = "v1/logs";

/// Bytes of an answer; it says how many were rejected, and why.
const LONGEST_ANSWER: usize = 64 << 10;

/// How long a collector that is busy or away is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A request that hangs is one that failed.
    pub answer: Duration,
    /// It doubles each time.
    pub first_wait: Duration,
    pub tries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            first_wait: Duration::from_secs(1),
            tries: 5,
        }
    }
}

/// Where verdicts are sent to.
#[derive(Clone, Debug)]
pub struct Collector {
    to: Uri,
    client: Box<Client<HttpConnector, Full<Bytes>>>,
    pub patience: Patience,
}

impl FromStr for Collector {
    type Err = String;

    /// `http://collector.monitoring:4318`, with a path before `/v1/logs` where there is one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "wanted the address of a collector as http://collector.monitoring:{PORT} (plain http: one on the node or in the \
                 cluster, which speaks TLS with what is beyond)"
            )
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong());
        };
        if uri.query().is_some() || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        let port = uri.port_u16().unwrap_or(PORT);
        let path = uri.path().trim_end_matches('/');
        let to = format!("http://{}:{port}{path}/{PATH}", authority.host());
        Ok(Self {
            to: to.parse().map_err(|_| wrong())?,
            client: Box::new(Client::builder(TokioExecutor::new()).build_http()),
            patience: Patience::default(),
        })
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to.fmt(f)
    }
}

/// What it has not taken of a request that it has taken.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    pub(super) count: u64,
    pub(super) why: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] hyper_util::client::legacy::Error),
    #[error("its answer broke off: {0}")]
    BrokenOff(Box<dyn std::error::Error + Send + Sync>),
    #[error("it says {0}")]
    Refused(StatusCode),
    #[error("the request cannot be made: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("it takes no OTLP over HTTP: {0}")]
    Unreadable(io::Error),
}

impl Error {
    /// Whether waiting may help (the specification's table of retryable codes).
    fn passes(&self) -> bool {
        match self {
            Self::Refused(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Silent(_) | Self::Unreachable(_) | Self::BrokenOff(_) => true,
            Self::Request(_) | Self::Unreadable(_) => false,
        }
    }
}

impl Collector {
    /// Sends it, again while that may help.
    pub(super) async fn persistently(&self, request: &ExportLogsServiceRequest) -> Result<Rejected, Error> {
        let body = Bytes::from(request.encode_to_vec());
        let mut wait = self.patience.first_wait;
        for _ in 1..self.patience.tries {
            match self.in_time(body.clone()).await {
                Err(error) if error.passes() => {}
                done => return done,
            }
            sleep(wait).await;
            wait *= 2;
        }
        self.in_time(body).await
    }

    async fn in_time(&self, body: Bytes) -> Result<Rejected, Error> {
        let answer = self.patience.answer;
        timeout(answer, self.once(body))
            .await
            .unwrap_or(Err(Error::Silent(answer)))
    }

    async fn once(&self, body: Bytes) -> Result<Rejected, Error> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.to.clone())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, concat!("zdt/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))?;
        let response = self.client.request(request).await?;
        let status = response.status();
        let said = Limited::new(response.into_body(), LONGEST_ANSWER);
        let said = said.collect().await.map_err(Error::BrokenOff)?.to_bytes();
        if !status.is_success() {
            return Err(Error::Refused(status));
        }
        let said =
            ExportLogsServiceResponse::decode(said).map_err(|e| Error::Unreadable(io::Error::other(e)))?;
        Ok(said
            .partial_success
            .map_or_else(Rejected::default, |part| Rejected {
                count: u64::try_from(part.rejected_log_records).unwrap_or(0),
                why: part.error_message,
            }))
    }
}

#[cfg(test)]
mod tests {
    use super::Collector;

    #[test]
    fn a_collector_is_plain_http_and_its_port_may_be_left_out() {
        for (text, wanted) in [
            ("http://10.0.0.7:4318", "http://10.0.0.7:4318/v1/logs"),
            ("http://collector", "http://collector:4318/v1/logs"),
            (
                "http://collector.monitoring/otlp/",
                "http://collector.monitoring:4318/otlp/v1/logs",
            ),
            ("http://[fd00::7]:80/", "http://[fd00::7]:80/v1/logs"),
        ] {
            assert_eq!(text.parse::<Collector>().unwrap().to_string(), wanted);
        }
        for text in [
            "",
            "collector",
            "collector:4318",
            "https://collector:4318",
            "grpc://collector",
            "http://u:p@collector",
            "http://collector?x=1",
            "http://:4318",
        ] {
            assert!(text.parse::<Collector>().is_err(), "{text}");
        }
    }
}
