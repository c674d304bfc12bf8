//! What zdt costs the node: its CPU time, memory, threads and file descriptors, read when `/metrics` is.
//!
//! Names as Prometheus' own client libraries have them. Not the `prometheus` crate's collector: that one gives CPU time
//! in whole seconds (0.14, process_collector.rs), and zdt uses few of those in a day.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use prometheus::{Counter, Gauge, IntGauge, Registry, Result, core::Collector};

use crate::clock;

pub(super) struct Process {
    cpu: Counter,
    resident: IntGauge,
    virtual_size: IntGauge,
    threads: IntGauge,
    open_fds: IntGauge,
}

impl Process {
    pub(super) fn register(registry: &Registry) -> Result<Self> {
        let process = Self {
            cpu: Counter::new(
                "process_cpu_seconds_total",
                "User and system CPU time that zdt has used.",
            )?,
            resident: IntGauge::new("process_resident_memory_bytes", "Resident memory of zdt.")?,
            virtual_size: IntGauge::new("process_virtual_memory_bytes", "Virtual memory of zdt.")?,
            threads: IntGauge::new("process_threads", "Threads of zdt.")?,
            open_fds: IntGauge::new("process_open_fds", "Open file descriptors of zdt.")?,
        };
        let started = Gauge::new(
            "process_start_time_seconds",
            "When zdt started, in seconds since the Unix epoch.",
        )?;
        started.set(clock::wall().0 as f64 / 1000.0);
        let max_fds = IntGauge::new(
            "process_max_fds",
            "Most file descriptors that zdt may have (RLIMIT_NOFILE).",
        )?;
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            max_fds.set(i64::try_from(soft).unwrap_or(i64::MAX));
        }
        let all: [Box<dyn Collector>; 7] = [
            Box::new(process.cpu.clone()),
            Box::new(process.resident.clone()),
            Box::new(process.virtual_size.clone()),
            Box::new(process.threads.clone()),
            Box::new(process.open_fds.clone()),
            Box::new(started),
            Box::new(max_fds),
        ];
        for one in all {
            registry.register(one)?;
        }
        Ok(process)
    }

    /// Asks the kernel. What it does not tell stays as it was.
    pub(super) fn read(&self) {
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
            let used = seconds(usage.user_time()) + seconds(usage.system_time());
            self.cpu.inc_by((used - self.cpu.get()).max(0.0));
        }
        // proc_pid_status(5); sizes in kB, which are KiB.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for line in status.lines() {
            let mut words = line.split_whitespace();
            let (key, Some(number)) = (words.next(), words.next().and_then(|n| n.parse::<i64>().ok())) else {
                continue;
            };
            match key {
                Some("VmSize:") => self.virtual_size.set(number.saturating_mul(1024)),
                Some("VmRSS:") => self.resident.set(number.saturating_mul(1024)),
                Some("Threads:") => self.threads.set(number),
                _ => {}
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is this look at the folder.
            let open = entries.count().saturating_sub(1);
            self.open_fds.set(i64::try_from(open).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_this_process() {
        let process = Process::register(&Registry::new()).unwrap();
        process.read();
        assert!(process.resident.get() > 1 << 20, "{}", process.resident.get());
        assert!(process.virtual_size.get() > process.resident.get());
        assert!(process.threads.get() >= 1);
        assert!(process.open_fds.get() >= 3);
        let first = process.cpu.get();
        let mut n = 0_u64;
        while process.cpu.get() <= first {
            n = std::hint::black_box(n + 1);
            process.read();
        }
        assert!(process.cpu.get() - first < 1.0, "finer than a second");
    }
}
