//! What the machine and one of its processes have used so far, as /proc tells it.

use std::{fs, time::Duration};

use nix::unistd::{SysconfVar, sysconf};

/// Time that all CPUs spent on something (proc(5), /proc/stat): all columns but idle and iowait.
pub fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let per_second = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap();
    Duration::from_secs_f64(busy_ticks(&stat) as f64 / per_second as f64)
}

/// guest and guest_nice are part of user and nice.
pub fn busy_ticks(stat: &str) -> u64 {
    let columns = stat.lines().next().unwrap().split_whitespace().skip(1).take(8);
    let ticks: Vec<u64> = columns.map(|c| c.parse().unwrap()).collect();
    ticks.iter().sum::<u64>() - ticks[3] - ticks[4]
}

/// One process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// On a CPU, in user and kernel mode.
    pub cpu: Duration,
    /// How often its threads began to wait, and so were woken.
    pub wake_ups: u64,
    pub rss_mib: f64,
}

impl Process {
    /// Zero for one that has ended.
    pub fn look(pid: u32) -> Self {
        let mut all = Self::default();
        for task in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .map_while(Result::ok)
        {
            let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            // Nanoseconds, where /proc/PID/stat has ticks of 10 ms (Documentation/scheduler/sched-stats.rst).
            let ran = read("schedstat").split(' ').next().and_then(|ns| ns.parse().ok());
            all.cpu += Duration::from_nanos(ran.unwrap_or(0));
            let status = read("status");
            all.wake_ups += field(&status, "voluntary_ctxt_switches").unwrap_or(0);
            all.rss_mib = field(&status, "VmRSS").unwrap_or(0) as f64 / 1024.0;
        }
        all
    }
}

/// A number of /proc/PID/status.
pub fn field(status: &str, name: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What the figures are of: kernel and CPUs.
pub fn describe() -> serde_json::Value {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    serde_json::json!({
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "model": model.map(|(_, name)| name),
        "load_before": load.split(' ').next().and_then(|l| l.parse::<f64>().ok()),
        "date": zdt_daemon::clock::wall().0,
    })
}
