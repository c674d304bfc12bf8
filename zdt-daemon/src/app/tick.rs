//! Time and losses, as inputs: the correlator's clock, and what was lost since its last tick.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};

use super::{Lost, meter::Meter};
use crate::{
    clock,
    input::{Input, What},
    kernel::{Costs, Losses},
    netfilter::losses::Loss,
};

/// Time passes for the correlator in steps of this length.
const TICK: Duration = Duration::from_millis(250);
const TICKS_A_SECOND: u32 = 4;

/// The tick goes through the channel like everything else, so that time never overtakes events.
pub(super) async fn tick(
    (mut losses, mut costs, meter): (Losses, Costs, Meter),
    to: mpsc::Sender<Input>,
    lost: Arc<Lost>,
    mut stop: watch::Receiver<()>,
) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unreadable = false;
    let mut running = true;
    let mut ticks = 0_u32;
    while running {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.changed() => running = false,
        }
        let at = clock::now();
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
        if ticks.is_multiple_of(TICKS_A_SECOND) {
            meter.kernel(&losses, &costs);
            let missed = costs.take_missed().into_iter();
            counts.extend(missed.map(|(program, n)| (format!("missed:{program}"), n)));
        }
        ticks = ticks.wrapping_add(1);
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
