//! Reads the ring buffer. The kernel half does not wake the reader for each event (that costs far more than the
//! event): the reader looks every few milliseconds, and is woken only when a quarter of the ring is full.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};
use zdt_common::{DecodeError, Decoded, decode};

/// How long an event waits in the ring at most, while the reader keeps up.
pub const DRAIN_EVERY: Duration = Duration::from_millis(10);

/// The only reader of the ring buffer.
pub struct EventRing {
    ring: RingBuf<MapData>,
}

impl EventRing {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Hands every event that is there to `each`, straight from the ring's memory, in the order of reservation.
    /// Returns how many there were. Never waits and never allocates.
    pub fn drain(&mut self, mut each: impl FnMut(Result<Decoded<'_>, DecodeError>)) -> usize {
        let mut count = 0;
        while let Some(record) = self.ring.next() {
            each(decode(&record));
            count += 1;
        }
        count
    }

    /// Drains for ever: every [`DRAIN_EVERY`], or at once when the kernel half asks for it. Ends with an error of
    /// epoll(7) only. Cancel by dropping.
    pub async fn run(
        &mut self,
        mut each: impl FnMut(Result<Decoded<'_>, DecodeError>),
    ) -> io::Result<std::convert::Infallible> {
        let wakeup = wakeup(self.ring.as_fd().try_clone_to_owned()?)?;
        let mut tick = tokio::time::interval(DRAIN_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                ready = wakeup.readable() => ready?.clear_ready(),
            }
            self.drain(&mut each);
        }
    }
}

/// Becomes readable when the kernel half asks for a drain.
#[expect(
    unsafe_code,
    reason = "registering a file descriptor with epoll is unsafe in tokio"
)]
fn wakeup(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open file until it is dropped, which `AsyncFd` does after deregistering.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}
