//! What the programs cost the kernel: their run time, as the kernel counts it while `kernel.bpf_stats_enabled` is 1.
//!
//! And how often the kernel left a program out: it runs no tracing program inside of itself, so that an interrupt that comes
//! while one runs passes it by on that CPU (kernel/trace/bpf_trace.c `__bpf_trace_run`).
//!
//! Read from the file descriptor's fdinfo (kernel/bpf/syscall.c `bpf_prog_show_fdinfo`, since 5.1), which needs no
//! privilege; asking by id would need CAP_SYS_ADMIN.

use std::{
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

/// Time and runs of one program since it was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunTime {
    /// Name of the program, that of its tracepoint.
    pub program: &'static str,
    pub time: Duration,
    pub runs: u64,
}

/// Programs that also run for healthy traffic: nearly everything that they are left out of is none of ours, and to call each
/// time a loss would put every verdict of a busy node in doubt.
const BUSY: [&str; 5] = [
    "inet_sock_set_state",
    "kfree_skb",
    "net_dev_queue",
    "cgroup_skb_egress",
    "cgroup_skb_ingress",
];

/// Keeps a file descriptor of each program.
#[derive(Debug, Default)]
pub struct Costs {
    programs: Vec<(&'static str, OwnedFd)>,
    /// How often each was left out when it was last asked, in the same order.
    missed: Vec<u64>,
}

impl Costs {
    pub(super) fn new(programs: Vec<(&'static str, OwnedFd)>) -> Self {
        let missed = vec![0; programs.len()];
        Self { programs, missed }
    }

    /// How often each of the programs that only failures run was left out since the last call.
    pub fn take_missed(&mut self) -> Vec<(&'static str, u64)> {
        let known = self.programs.iter().zip(&mut self.missed);
        let rare = known.filter(|((program, _), _)| !BUSY.contains(program));
        let missed = rare.filter_map(|((program, fd), seen)| {
            let now = value(&fdinfo(fd)?, "recursion_misses")?;
            let before = std::mem::replace(seen, now);
            (now > before).then(|| (*program, now - before))
        });
        missed.collect()
    }

    /// Programs that have run while the kernel counted; none where it does not.
    pub fn read(&self) -> Vec<RunTime> {
        let read = self
            .programs
            .iter()
            .filter_map(|(program, fd)| run_time(program, &fdinfo(fd)?));
        read.filter(|r| r.runs > 0).collect()
    }

    /// Instructions that the verifier went through to accept each program; none where the kernel does not tell (before 5.16).
    pub fn verified(&self) -> Vec<(&'static str, u64)> {
        let read = self
            .programs
            .iter()
            .filter_map(|(program, fd)| Some((*program, value(&fdinfo(fd)?, "verified_insns")?)));
        read.collect()
    }
}

fn fdinfo(fd: &OwnedFd) -> Option<String> {
    fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()
}

fn value(fdinfo: &str, key: &str) -> Option<u64> {
    let line = fdinfo.lines().find_map(|l| l.strip_prefix(key))?;
    line.trim_start_matches(':').trim().parse().ok()
}

fn run_time(program: &'static str, fdinfo: &str) -> Option<RunTime> {
    Some(RunTime {
        program,
        time: Duration::from_nanos(value(fdinfo, "run_time_ns")?),
        runs: value(fdinfo, "run_cnt")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_time_is_read_from_fdinfo_of_6_18() {
        let text = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t2094\nprog_type:\t26\nprog_jited:\t1\n\
                    prog_tag:\t8ad0f1a7a1bc2b1c\nmemlock:\t4096\nprog_id:\t61\nrun_time_ns:\t12345\nrun_cnt:\t67\n\
                    recursion_misses:\t0\nverified_insns:\t533\n";
        let wanted = RunTime {
            program: "tcp_send_reset",
            time: Duration::from_nanos(12_345),
            runs: 67,
        };
        assert_eq!(run_time("tcp_send_reset", text), Some(wanted));
        assert_eq!(value(text, "recursion_misses"), Some(0));
        assert_eq!(value(text, "verified_insns"), Some(533));
    }

    #[test]
    fn kernel_that_does_not_count_gives_nothing() {
        assert_eq!(run_time("tcp_send_reset", "pos:\t0\nprog_type:\t26\n"), None);
    }
}
