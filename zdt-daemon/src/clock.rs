//! The only reader of clocks.

use nix::time::{ClockId, clock_gettime};

use crate::input::{Ktime, Wall};

/// CLOCK_MONOTONIC now: the clock of `bpf_ktime_get_ns()`.
pub fn now() -> Ktime {
    // clock_gettime(2) fails only for a clock that does not exist.
    let t = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or_else(|_| nix::sys::time::TimeSpec::new(0, 0));
    Ktime(u64::try_from(t.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0))
}

/// Wall clock now.
pub fn wall() -> Wall {
    let t = clock_gettime(ClockId::CLOCK_REALTIME).unwrap_or_else(|_| nix::sys::time::TimeSpec::new(0, 0));
    Wall(t.tv_sec() * 1000 + t.tv_nsec() / 1_000_000)
}
