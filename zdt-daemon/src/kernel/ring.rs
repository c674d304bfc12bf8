//! Reads the ring buffer. The kernel half does not wake the reader for each event (that costs far more than the
//! event): the reader looks every few milliseconds while something is in transition or was just seen, seldom otherwise, and is
//! woken when a quarter of the ring is full.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
};
use zdt_common::{DecodeError, Decoded, decode};

/// How long an event waits in the ring at most, while the reader keeps up and more are expected.
const DRAIN_EVERY: Duration = Duration::from_millis(10);

/// The same, while none are.
const DRAIN_IDLE: Duration = Duration::from_millis(100);

/// So many looks behind an event find what belongs to it: 2 s, which is how long a failure waits for that.
const LOOKS_BEHIND: u32 = 200;

/// Whoever takes events as they come.
pub trait TakesEvents {
    /// One event. Returns whether more may follow soon.
    fn event(&mut self, event: Result<Decoded<'_>, DecodeError>) -> bool;

    /// That were all for now.
    fn drained(&mut self);
}

struct Each<F>(F);

impl<F: FnMut(Result<Decoded<'_>, DecodeError>) -> bool> TakesEvents for Each<F> {
    fn event(&mut self, event: Result<Decoded<'_>, DecodeError>) -> bool {
        (self.0)(event)
    }

    fn drained(&mut self) {}
}

/// The only reader of the ring buffer.
pub struct EventRing {
    ring: RingBuf<MapData>,
    /// Something is in transition.
    moving: watch::Receiver<bool>,
}

impl EventRing {
    pub(super) fn new(ring: RingBuf<MapData>, moving: watch::Receiver<bool>) -> Self {
        Self { ring, moving }
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

    /// Drains for ever, and at once when the kernel half asks for it. `each` says whether more may follow soon. Ends with an
    /// error of epoll(7) only. Cancel by dropping.
    pub async fn run(
        &mut self,
        each: impl FnMut(Result<Decoded<'_>, DecodeError>) -> bool,
    ) -> io::Result<std::convert::Infallible> {
        self.feed(&mut Each(each)).await
    }

    /// The same, to one who is told where each drain ends.
    pub async fn feed(&mut self, taker: &mut impl TakesEvents) -> io::Result<std::convert::Infallible> {
        let wakeup = readable(self.ring.as_fd().try_clone_to_owned()?)?;
        // Not the runtime's timer: that wakes up once more on the way to anything that is more than 64 ms off.
        let alarm = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        let time_to_look = readable(alarm.as_fd().try_clone_to_owned()?)?;
        let mut looks = 0_u32;
        loop {
            let expected = *self.moving.borrow_and_update() || looks > 0;
            let wait = if expected { DRAIN_EVERY } else { DRAIN_IDLE };
            let once = Expiration::OneShot(wait.into());
            alarm.set(once, TimerSetTimeFlags::empty())?;
            tokio::select! {
                ready = time_to_look.readable() => ready?.clear_ready(),
                ready = wakeup.readable() => ready?.clear_ready(),
                Ok(()) = self.moving.changed() => {}
            }
            let mut more = false;
            self.drain(|event| more |= taker.event(event));
            taker.drained();
            looks = if more {
                LOOKS_BEHIND
            } else {
                looks.saturating_sub(1)
            };
        }
    }
}

/// Becomes readable when the kernel half asks for a drain, or when the alarm's time has come. Neither is ever read: each time
/// makes a new edge for epoll(7).
#[expect(
    unsafe_code,
    reason = "registering a file descriptor with epoll is unsafe in tokio"
)]
fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open file until it is dropped, which `AsyncFd` does after deregistering.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}
