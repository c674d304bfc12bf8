//! What the programs cost the kernel: their run time, as the kernel counts it while `kernel.bpf_stats_enabled` is 1.
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

/// Keeps a file descriptor of each program.
#[derive(Debug, Default)]
pub struct Costs {
    programs: Vec<(&'static str, OwnedFd)>,
}

impl Costs {
    pub(super) fn new(programs: Vec<(&'static str, OwnedFd)>) -> Self {
        Self { programs }
    }

    /// Programs that have run while the kernel counted; none where it does not.
    pub fn read(&self) -> Vec<RunTime> {
        let read = self.programs.iter().filter_map(|(program, fd)| {
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
            run_time(program, &text)
        });
        read.filter(|r| r.runs > 0).collect()
    }

    /// Instructions that the verifier went through to accept each program; none where the kernel does not tell (before 5.16).
    pub fn verified(&self) -> Vec<(&'static str, u64)> {
        let read = self.programs.iter().filter_map(|(program, fd)| {
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
            Some((*program, value(&text, "verified_insns")?))
        });
        read.collect()
    }
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
        assert_eq!(value(text, "verified_insns"), Some(533));
    }

    #[test]
    fn kernel_that_does_not_count_gives_nothing() {
        assert_eq!(run_time("tcp_send_reset", "pos:\t0\nprog_type:\t26\n"), None);
    }
}
