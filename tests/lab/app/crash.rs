//! Ways in which the server dies by its own fault.

use std::{convert::Infallible, future::pending, hint::black_box, time::Duration};

use tokio::time::sleep;

use super::Args;

/// More than any limit that a scenario may set (512 MiB); a machine without limits must survive it.
const MOST_TAKEN_MIB: usize = 640;

/// Dies at the time that the switches say, or never.
pub(super) async fn in_time(args: &Args) -> Infallible {
    let after = |ms: Option<u64>| async move {
        match ms {
            Some(ms) => sleep(Duration::from_millis(ms)).await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = after(args.crash_after_ms) => std::process::exit(args.exit_code),
        () = after(args.oom_after_ms) => take_memory(),
    }
}

/// Dies if this is the request to die on.
pub(super) fn on_request(args: &Args, number: u64) {
    if args.crash_on_request == Some(number) {
        std::process::exit(args.exit_code);
    }
    if args.oom_on_request == Some(number) {
        take_memory();
    }
}

/// Touches page after page until the OOM killer of the memory cgroup ends the process.
fn take_memory() -> ! {
    let mut taken = Vec::new();
    for _ in 0..MOST_TAKEN_MIB {
        taken.push(vec![1u8; 1 << 20]);
        black_box(&taken);
    }
    tracing::error!("{MOST_TAKEN_MIB} MiB and no OOM kill: has the container a memory limit?");
    std::process::exit(255);
}
