//! The lab's clock: CLOCK_MONOTONIC in nanoseconds, as the kernel half's `bpf_ktime_get_ns` counts.

use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC, nanoseconds.
pub fn monotonic_ns() -> u64 {
    // clock_gettime(2) fails only for an unknown clock or a bad pointer.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| {
        u64::try_from(t.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0)
    })
}
