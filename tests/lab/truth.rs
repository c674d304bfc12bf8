//! The ground truth: what the load client saw, one JSON line per request.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// One request as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Counts from 0 in the order of the schedule.
    pub id: u64,
    /// CLOCK_MONOTONIC, nanoseconds: just before `connect` (first request of a connection) or the write.
    pub began_ns: u64,
    /// CLOCK_MONOTONIC, nanoseconds: the client knew the outcome.
    pub ended_ns: u64,
    /// The client's side of the connection; None when no local port was had (`local-error`).
    pub local: Option<SocketAddr>,
    /// What the client dialled (a ClusterIP, a NodePort, a pod).
    pub remote: SocketAddr,
    pub outcome: Outcome,
    /// How far the request got.
    pub phase: Phase,
    /// errno of the failed call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// HTTP status code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Pod name, as the answer's `x-served-by` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The connection had carried a request before.
    #[serde(default)]
    pub reused: bool,
}

/// What the client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Ok,
    /// ECONNREFUSED.
    Refused,
    /// ECONNRESET, EPIPE or ECONNABORTED.
    Reset,
    /// The client's own timeout, or ETIMEDOUT.
    TimedOut,
    /// EHOSTUNREACH, ENETUNREACH or EACCES.
    Unreachable,
    /// End of file before the whole answer.
    ClosedEarly,
    /// An answer with status 500 or more, or one that is not HTTP.
    ServedError,
    /// The client hung up on purpose (`--abort-after-ms`).
    Aborted,
    /// The client's machine could not even try (no port, no file descriptor).
    LocalError,
}

impl Outcome {
    /// Every outcome, in the order of the summary.
    pub const ALL: &'static [Self] = &[
        Self::Ok,
        Self::Refused,
        Self::Reset,
        Self::TimedOut,
        Self::Unreachable,
        Self::ClosedEarly,
        Self::ServedError,
        Self::Aborted,
        Self::LocalError,
    ];

    /// A request that a user would call failed: neither answered nor given up on purpose.
    pub fn failed(self) -> bool {
        !matches!(self, Self::Ok | Self::Aborted)
    }

    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::TimedOut => "timed-out",
            Self::Unreachable => "unreachable",
            Self::ClosedEarly => "closed-early",
            Self::ServedError => "served-error",
            Self::Aborted => "aborted",
            Self::LocalError => "local-error",
        }
    }
}

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// No connection yet.
    Connect,
    /// Connected; the request is not wholly written.
    Request,
    /// The request is written; the answer is not whole.
    Response,
}

/// Why a truth file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    #[error("cannot read the ground truth {path}: {source}; did the load client run?")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{path}:{line} is not a line of ground truth ({source}); was the load client killed while it wrote?"
    )]
    Line {
        path: PathBuf,
        line: usize,
        source: serde_json::Error,
    },
}

/// A whole truth file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// In the order in which they ended.
    pub requests: Vec<Request>,
}

impl Truth {
    /// Reads a file that `zdt-lab client --truth` wrote.
    pub fn read(path: &Path) -> Result<Self, TruthError> {
        let read = |source| TruthError::Read {
            path: path.to_owned(),
            source,
        };
        let file = BufReader::new(File::open(path).map_err(read)?);
        let mut requests = Vec::new();
        for (n, line) in file.lines().enumerate() {
            let line = line.map_err(read)?;
            if line.is_empty() {
                continue;
            }
            requests.push(serde_json::from_str(&line).map_err(|source| TruthError::Line {
                path: path.to_owned(),
                line: n + 1,
                source,
            })?);
        }
        Ok(Self { requests })
    }

    /// Requests that failed, in the order in which they ended.
    pub fn failed(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|r| r.outcome.failed())
    }

    /// How many requests had this outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.requests.iter().filter(|r| r.outcome == outcome).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_file_has_the_documented_names() {
        let text = r#"{"id":7,"began_ns":1,"ended_ns":2,"local":"10.244.1.9:40000","remote":"[fd00::1]:80","outcome":"timed-out","phase":"connect"}"#;
        let r: Request = serde_json::from_str(text).unwrap();
        assert_eq!(r.outcome, Outcome::TimedOut);
        assert_eq!(r.local, Some("10.244.1.9:40000".parse().unwrap()));
        assert!(r.outcome.failed() && !Outcome::Aborted.failed());
        for outcome in Outcome::ALL {
            assert_eq!(
                serde_json::to_string(outcome).unwrap(),
                format!("\"{}\"", outcome.name())
            );
        }
    }

    #[test]
    fn a_torn_last_line_is_an_error_that_names_the_line() {
        let path = std::env::temp_dir().join(format!("zdt-truth-{}", std::process::id()));
        std::fs::write(&path, "{\"id\":7,").unwrap();
        let error = Truth::read(&path).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains(":1 is not a line"), "{error}");
    }
}
