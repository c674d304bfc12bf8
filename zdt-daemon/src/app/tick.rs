//! Time and losses, as inputs: the correlator's clock, and what was lost since its last tick.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use super::{Lost, meter::Meter};
use crate::{
    clock,
    input::{Input, Ktime, What},
    kernel::{Costs, Losses},
    netfilter::losses::Loss,
    pipe::{Pipe, Waits},
};

/// Time passes for the correlator in steps of this length, while anything is open that ends by itself.
const TICK_MS: u64 = 250;

/// And while nothing is. Losses are read and metrics are written as often.
const IDLE_TICK_MS: u64 = 1_000;

/// What is due within this time shares a tick.
const TOGETHER_MS: u64 = 20;

/// The kernel half's counters are read at most so often.
const COUNT_MS: u64 = 1_000;

/// Told by whoever consumes the inputs, since it alone knows what waits for a tick.
pub(super) struct Waiting {
    told: Waits,
    to: watch::Sender<Waits>,
}

impl Waiting {
    pub(super) fn new() -> (Self, watch::Receiver<Waits>) {
        let told = Waits::default();
        let (to, from) = watch::channel(told);
        (Self { told, to }, from)
    }

    /// After `input` was taken. What is due later than was told is told with the next tick, or each verdict of a storm would
    /// wake the clock.
    pub(super) fn follow(&mut self, input: &Input, pipe: &Pipe) {
        let ticked = matches!(input.what, What::Tick);
        let waits = Waits {
            due: pipe.next_due(),
            // A tick finds out whether what came from a watch has opened anything.
            open: if ticked {
                pipe.is_open()
            } else {
                self.told.open || !of_the_node(&input.what)
            },
        };
        if waits != self.told && (ticked || waits.sooner(self.told)) {
            self.told = waits;
            self.to.send_replace(waits);
        }
    }
}

/// What the kernel and the clock tell opens nothing that a tick would end, but flows.
fn of_the_node(what: &What) -> bool {
    matches!(
        what,
        What::Kernel(_) | What::Translation(_) | What::Conntrack(_) | What::Loss { .. } | What::Rules(_)
    )
}

impl Waits {
    fn sooner(self, than: Self) -> bool {
        let due = self.due.is_some_and(|due| than.due.is_none_or(|d| due < d));
        due || (self.open && !than.open)
    }

    /// When the tick behind that of `last` is to come.
    fn next_tick(self, last: Ktime) -> Ktime {
        let regular = last.plus_ms(if self.open { TICK_MS } else { IDLE_TICK_MS });
        self.due
            .map_or(regular, |due| due.max(last.plus_ms(TOGETHER_MS)).min(regular))
    }
}

/// The tick goes through the channel like everything else, so that time never overtakes events.
pub(super) async fn tick(
    (mut losses, mut costs, meter): (Losses, Costs, Meter),
    mut waits: watch::Receiver<Waits>,
    to: mpsc::Sender<Input>,
    lost: Arc<Lost>,
    mut stop: watch::Receiver<()>,
) {
    let mut unreadable = false;
    let mut running = true;
    let (mut last, mut counted) = (Ktime::default(), Ktime::default());
    while running {
        let next = waits.borrow_and_update().next_tick(last);
        let wait = Duration::from_nanos(next.0.saturating_sub(clock::now().0));
        tokio::select! {
            () = sleep(wait) => {}
            // Another time may be the next.
            Ok(()) = waits.changed() => continue,
            _ = stop.changed() => running = false,
        }
        let at = clock::now();
        last = at;
        let mut counts = vec![
            ("input-channel".to_owned(), lost.channel.swap(0, Relaxed)),
            ("conntrack-lookup".to_owned(), lost.lookup.swap(0, Relaxed)),
            ("conntrack-dump".to_owned(), lost.dump.swap(0, Relaxed)),
            ("conntrack-counters".to_owned(), lost.counters.swap(0, Relaxed)),
            ("decode".to_owned(), lost.decode.swap(0, Relaxed)),
        ];
        let rules = lost.rules.take();
        counts.extend(Loss::ALL.map(|loss| (loss.source().to_owned(), rules.of(loss))));
        match losses.take() {
            Ok(by_hook) => counts.extend(
                by_hook
                    .into_iter()
                    .map(|(h, n)| (format!("ring:{}", h.name()), n)),
            ),
            Err(error) if !unreadable => {
                unreadable = true;
                tracing::warn!("{error}; losses in the ring buffer go unnoticed");
            }
            Err(_) => {}
        }
        // An idle tick is never a moment too early for it.
        if !running || at >= counted.plus_ms(COUNT_MS - TOGETHER_MS) {
            counted = at;
            meter.kernel(&losses, &costs);
            let missed = costs.take_missed().into_iter();
            counts.extend(missed.map(|(program, n)| (format!("missed:{program}"), n)));
        }
        let losses = counts
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(source, count)| What::Loss { source, count });
        for what in losses.chain([What::Tick]) {
            if to.send(Input { at, what }).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "tick_tests.rs"]
mod tests;
