//! Removes what a run made, from its ledger alone: the same code for a run that ends and for one that died.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{ip::ip_here, netns::NETNS_DIR, run::STATE_DIR};

/// How many of each were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub runs: usize,
    pub processes: usize,
    pub cgroups: usize,
    pub netns: usize,
}

impl Swept {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.processes += other.processes;
        self.cgroups += other.cgroups;
        self.netns += other.netns;
    }
}

/// Removes the leftovers of runs whose owner is dead. Runs of living owners stay.
pub fn clean() -> io::Result<Swept> {
    let mut total = Swept::default();
    let dirs = match fs::read_dir(STATE_DIR) {
        Ok(dirs) => Some(dirs),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    for dir in dirs.into_iter().flatten() {
        let dir = dir?.path();
        if !owner_lives(&dir) {
            total.add(sweep(&dir));
        }
    }
    // A namespace that was made while its run was being removed has no ledger any more; its name has the owner's pid.
    for (run, pid) in netns_runs() {
        let dir = Path::new(STATE_DIR).join(run);
        if !dir.exists() && start_time(pid).is_none() {
            total.add(sweep(&dir));
        }
    }
    Ok(total)
}

/// Runs and owners that the names of the existing namespaces tell: `zl<pid>x<n>-<what>`.
fn netns_runs() -> BTreeSet<(String, u32)> {
    let names = fs::read_dir(NETNS_DIR).into_iter().flatten().flatten();
    names
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (run, _) = name.strip_prefix("zl")?.split_once('-')?;
            let (pid, count) = run.split_once('x')?;
            count.parse::<u32>().ok()?;
            Some((run.to_owned(), pid.parse().ok()?))
        })
        .collect()
}

/// When a process started, in clock ticks since boot (proc_pid_stat(5), field 22): tells a pid from its next owner.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may hold anything; the third starts after the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// `<pid> <start time>` names a living process.
fn lives(line: &str) -> Option<u32> {
    let (pid, started) = line.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    let started: u64 = started.parse().ok()?;
    (start_time(pid)? == started).then_some(pid)
}

fn owner_lives(dir: &Path) -> bool {
    fs::read_to_string(dir.join("owner")).is_ok_and(|line| lives(&line).is_some())
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Removes everything that the ledger in `dir` names, and the ledger. Goes on after errors: what cannot be removed is
/// logged, and the ledger stays for the next try.
pub(super) fn sweep(dir: &Path) -> Swept {
    let mut swept = Swept {
        runs: 1,
        ..Swept::default()
    };
    let mut whole = true;
    for pid in lines(&dir.join("pids")).iter().filter_map(|line| lives(line)) {
        swept.processes += usize::from(kill_pid(pid));
    }
    for cgroup in lines(&dir.join("cgroups")) {
        let cgroup = PathBuf::from(cgroup);
        if cgroup.exists() {
            swept.processes += kill_cgroup(&cgroup);
            match remove_cgroup(&cgroup) {
                Ok(()) => swept.cgroups += 1,
                Err(error) => {
                    tracing::warn!(%error, cgroup = %cgroup.display(), "cannot remove a cgroup");
                    whole = false;
                }
            }
        }
        // The levels above are shared by all runs: gone when empty.
        for parent in cgroup
            .ancestors()
            .skip(1)
            .take_while(|p| p.to_string_lossy().contains("kubepods"))
        {
            let _ = fs::remove_dir(parent);
        }
    }
    let prefix = format!("zl{}-", dir.file_name().unwrap_or_default().to_string_lossy());
    let names = fs::read_dir(NETNS_DIR).into_iter().flatten().flatten();
    for name in names
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.starts_with(&prefix))
    {
        match ip_here(&format!("netns del {name}")) {
            Ok(()) => swept.netns += 1,
            // A kubelet that was still at work removed its pod's first.
            Err(_) if !Path::new(NETNS_DIR).join(&name).exists() => {}
            Err(error) => {
                tracing::warn!(%error, "cannot remove a namespace");
                whole = false;
            }
        }
    }
    if whole
        && let Err(error) = fs::remove_dir_all(dir).or_else(|e| {
            if e.kind() == io::ErrorKind::NotFound {
                Ok(())
            } else {
                Err(e)
            }
        })
    {
        tracing::warn!(%error, dir = %dir.display(), "cannot remove a ledger");
    }
    swept
}

fn kill_pid(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok())
}

/// SIGKILL to every process below `cgroup`, and waits until they are gone; returns how many there were.
pub(crate) fn kill_cgroup(cgroup: &Path) -> usize {
    let processes = |dir: &Path| -> Vec<u32> {
        lines(&dir.join("cgroup.procs"))
            .iter()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    };
    let all = || -> Vec<u32> {
        let mut pids = processes(cgroup);
        for child in children(cgroup) {
            pids.extend(processes(&child));
        }
        pids
    };
    let killed = all();
    // By pid, for cgroup.kill came only with Linux 5.14. A process that forks in between is caught by the next round.
    for _ in 0..1000 {
        let pids = all();
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            kill_pid(pid);
        }
        thread::sleep(Duration::from_millis(2));
    }
    killed.len()
}

fn children(cgroup: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

/// Removes a pod's cgroup and its containers' below it. The kernel frees a dying process's membership late, so EBUSY
/// right after an exit is tried again.
pub(crate) fn remove_cgroup(cgroup: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        let removed = children(cgroup)
            .iter()
            .try_for_each(fs::remove_dir)
            .and_then(|()| fs::remove_dir(cgroup));
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < 500 => tries += 1,
            other => return other,
        }
        thread::sleep(Duration::from_millis(2));
    }
}
