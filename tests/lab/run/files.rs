//! Where a run's files are.

use std::path::PathBuf;

/// A run's folder. What there is one of for each node has the node's number, but for the first node's.
#[derive(Clone, Debug)]
pub struct Files {
    pub dir: PathBuf,
    /// Number of the node, from 1.
    node: u8,
    /// Daemons that ran on it before.
    before: u8,
}

impl Files {
    /// Of the first node.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            node: 1,
            before: 0,
        }
    }

    /// Those of another node of the same run.
    #[must_use]
    pub fn of(&self, node: u8) -> Self {
        let dir = self.dir.clone();
        Self { dir, node, before: 0 }
    }

    /// Those of the daemon that runs there next.
    #[must_use]
    pub fn next(&self) -> Self {
        let mut next = self.clone();
        next.before += 1;
        next
    }

    pub fn node(&self) -> u8 {
        self.node
    }

    pub fn truth(&self) -> PathBuf {
        self.dir.join("truth.jsonl")
    }

    /// What the clients of the background saw.
    pub fn noise_truth(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.truth.jsonl"))
    }

    /// The Events that the daemons wrote.
    pub fn events(&self) -> PathBuf {
        self.dir.join("events.jsonl")
    }

    /// Where a Prometheus finds the daemons.
    pub fn targets(&self) -> PathBuf {
        self.dir.join("targets.json")
    }

    pub fn verdicts(&self) -> PathBuf {
        self.one("verdicts", "jsonl")
    }

    pub fn record(&self) -> PathBuf {
        self.one("record", "jsonl")
    }

    /// What conntrack translated, with a client that dials a node port.
    pub fn translations(&self) -> PathBuf {
        self.one("conntrack", "log")
    }

    /// What the daemon took, with a soak only.
    pub fn samples(&self) -> PathBuf {
        self.dir.join("samples.jsonl")
    }

    /// With `--scrape` only.
    pub fn metrics(&self) -> PathBuf {
        self.one("metrics", "prom")
    }

    /// Where the daemons listen, with `--hold` only.
    pub fn daemons(&self) -> PathBuf {
        self.dir.join("daemons.json")
    }

    /// Ends a run with `--hold`.
    pub fn release(&self) -> PathBuf {
        self.dir.join("release")
    }

    pub fn daemon_log(&self) -> PathBuf {
        self.one("daemon", "log")
    }

    fn one(&self, name: &str, ending: &str) -> PathBuf {
        let node = match self.node {
            1 => String::new(),
            other => format!("-n{other}"),
        };
        let then = match self.before {
            0 => String::new(),
            before => format!("-then{before}"),
        };
        self.dir.join(format!("{name}{node}{then}.{ending}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_own_files_and_the_truth_is_one() {
        let files = Files::new("/x".into());
        assert_eq!(files.record(), PathBuf::from("/x/record.jsonl"));
        assert_eq!(files.of(2).record(), PathBuf::from("/x/record-n2.jsonl"));
        assert_eq!(files.of(2).truth(), files.truth());
        let second = files.of(2).next();
        assert_eq!(second.verdicts(), PathBuf::from("/x/verdicts-n2-then1.jsonl"));
    }
}
