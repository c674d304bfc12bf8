//! One lab run: its name, and a ledger on disk of what it made, so that another process can remove it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use super::sweep;

/// Ledgers of all runs, one folder each.
pub const STATE_DIR: &str = "/run/zdt-lab";

/// Why a run cannot start or be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the lab makes network namespaces and cgroups and needs root: run it with sudo")]
    NotRoot,
    #[error("cannot write {path}: {source}; the lab keeps the list of what it made there")]
    Ledger { path: PathBuf, source: io::Error },
    #[error("cannot lock {path}: {source}; each running lab has a lock file there")]
    Slot { path: PathBuf, source: io::Error },
}

/// Fails with a clear text unless this process is root.
pub fn require_root() -> Result<(), RunError> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(RunError::NotRoot)
    }
}

/// A run. Dropping it ends its processes and removes its namespaces, cgroups and ledger; after a `kill -9` of the
/// owner, `zdt-lab clean` does the same from the ledger.
#[derive(Debug)]
pub struct Run {
    id: String,
    dir: PathBuf,
}

impl Run {
    /// Starts a run owned by this process. Its id holds the owner's pid.
    pub fn start() -> Result<Self, RunError> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        require_root()?;
        let pid = process::id();
        let id = format!("{pid}x{}", RUNS.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(STATE_DIR).join(&id);
        let run = Self { id, dir };
        let ledger = |source| RunError::Ledger {
            path: run.dir.clone(),
            source,
        };
        fs::create_dir_all(&run.dir).map_err(ledger)?;
        let started = sweep::start_time(pid).unwrap_or_default();
        fs::write(run.dir.join("owner"), format!("{pid} {started}\n")).map_err(ledger)?;
        Ok(run)
    }

    /// Part of every name that the run gives: `<owner's pid>x<count>`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The ledger's folder; it goes with the run.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `zl<run>-<suffix>`, the name of a namespace.
    pub fn netns(&self, suffix: &str) -> String {
        format!("zl{}-{suffix}", self.id)
    }

    /// Records a cgroup **before** it is made.
    pub fn record_cgroup(&self, path: &Path) -> Result<(), RunError> {
        self.append("cgroups", &path.display().to_string())
    }

    /// Records a process that is in none of the run's cgroups.
    pub fn record_pid(&self, pid: u32) -> Result<(), RunError> {
        let started = sweep::start_time(pid).unwrap_or_default();
        self.append("pids", &format!("{pid} {started}"))
    }

    fn append(&self, file: &str, line: &str) -> Result<(), RunError> {
        let path = self.dir.join(file);
        let write = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)?
                .write_all(format!("{line}\n").as_bytes())
        };
        write().map_err(|source| RunError::Ledger {
            path: path.clone(),
            source,
        })
    }
}

impl Run {
    /// Ends the run's processes and removes what it made. Again is nothing.
    pub fn remove(&self) {
        let swept = sweep::sweep(&self.dir);
        tracing::debug!(run = self.id, ?swept, "run removed");
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.remove();
    }
}
