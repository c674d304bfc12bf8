//! The lab's clock: CLOCK_MONOTONIC in nanoseconds, as the kernel half's `bpf_ktime_get_ns` counts.

use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC, nanoseconds.
pub fn monotonic_ns() -> u64 {
    // clock_gettime(2) fails only for an unknown clock or a bad pointer.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| {
        u64::try_from(t.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0)
    })
}

/// The same of a time of the wall clock, in seconds since 1970. Right as far as nobody has set the clock since.
pub fn monotonic_of_wall(seconds: f64) -> u64 {
    let wall = clock_gettime(ClockId::CLOCK_REALTIME);
    let now = wall.map_or(0.0, |t| t.tv_sec() as f64 + t.tv_nsec() as f64 / 1e9);
    let ago_ns = (now - seconds).max(0.0) * 1e9;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and centuries fit"
    )]
    monotonic_ns().saturating_sub(ago_ns as u64)
}

/// Nanoseconds since 1970 less [`monotonic_ns`], now.
pub fn wall_ahead_ns() -> i64 {
    let wall = clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec());
    wall.saturating_sub_unsigned(monotonic_ns())
}
