//! What the lab itself did, and when: `times.jsonl`, to measure the daemon's times against.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::node::{Backend, proxy::Family};

/// One line. Times are CLOCK_MONOTONIC in nanoseconds, as the kernel half's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub at_ns: u64,
    #[serde(flatten)]
    pub what: What,
}

/// What happened at that time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    /// The API server stored a pod's deletion (its deletionTimestamp, or a shorter grace period).
    PodDeleted { pod: String, grace_s: Option<i64> },
    /// The pod's Ready condition turned True.
    PodReady { pod: String, ips: Vec<IpAddr> },
    /// The pod's object is gone.
    PodRemoved { pod: String },
    /// The API server stored a slice of which an endpoint changed.
    SliceUpdated { slice: String, endpoints: Vec<Endpoint> },
    /// kube-proxy wrote its rules; `at_ns` is when they were in force.
    Sync(Sync),
    /// The API server fails for those who watch it; 0 ms: for a moment.
    ApiFails { fault: String, for_ms: u64 },
    /// A daemon was told to end, or killed.
    DaemonEnds { node: String, signal: String },
    /// The daemon after it says that it is ready.
    DaemonReady { node: String },
    /// The last connection that the load client began and that this pod answered.
    LastAnswered { pod: String },
}

/// An endpoint as the slice has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

/// One rewrite of one family's rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sync {
    pub node: String,
    pub family: Family,
    pub backend: Backend,
    pub began_ns: u64,
    pub ended_ns: u64,
    /// When the kernel said that they are in force, where it says so (nf_tables); else they are by `ended_ns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force_ns: Option<u64>,
    /// Service port name to the endpoints that it is routed to now.
    pub endpoints: BTreeMap<String, Vec<SocketAddr>>,
    /// Endpoints that no service port was routed to before.
    pub added: Vec<SocketAddr>,
    /// Endpoints that no service port is routed to any more.
    pub removed: Vec<SocketAddr>,
}

/// The file, for everything that writes to it.
#[derive(Clone, Debug)]
pub struct Times(Arc<Mutex<File>>);

impl Times {
    /// `times.jsonl` in a run's folder.
    pub fn path(out: &Path) -> PathBuf {
        out.join("times.jsonl")
    }

    /// Opens it in `out`, an existing folder.
    pub fn open(out: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(Self::path(out))?;
        Ok(Self(Arc::new(Mutex::new(file))))
    }

    /// Appends a line.
    pub fn write(&self, at_ns: u64, what: What) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Line { at_ns, what })?;
        text.push(b'\n');
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(&text)
    }

    /// Every line so far.
    pub fn read(out: &Path) -> io::Result<Vec<Line>> {
        let text = std::fs::read_to_string(Self::path(out))?;
        // The last line may be half written: its writer is at work.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|l| serde_json::from_str(l).map_err(io::Error::from))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_documented_and_back() {
        let dir = std::env::temp_dir().join(format!("zdt-times-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let times = Times::open(&dir).unwrap();
        let deleted = What::PodDeleted {
            pod: "shop/web-1".into(),
            grace_s: Some(30),
        };
        times.write(7, deleted.clone()).unwrap();
        assert_eq!(
            std::fs::read_to_string(Times::path(&dir)).unwrap(),
            "{\"at_ns\":7,\"what\":\"pod-deleted\",\"pod\":\"shop/web-1\",\"grace_s\":30}\n"
        );
        let read = Times::read(&dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            read,
            [Line {
                at_ns: 7,
                what: deleted
            }]
        );
    }
}
