//! The one that takes inputs, in their one order.

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::{WRITE, meter::Meter, paused::Pauses, questions::Questions, tick::Waiting};
use crate::{
    clock,
    input::{Input, What},
    memory,
    pipe::Pipe,
};

/// Outputs are said together while more inputs are there: each saying waits for the record and wakes who writes. At most so many.
const TOGETHER: usize = 64;

/// Takes inputs until there are no more. Blocks.
pub(super) fn consume(
    mut from: mpsc::Receiver<Input>,
    (questions, waiting): (&mut Questions, &mut Waiting),
    pipe: &mut Pipe,
    meter: &Meter,
) -> anyhow::Result<()> {
    let mut pauses = Pauses::default();
    while let Some(input) = from.blocking_recv() {
        for input in pauses.before(clock::now(), &input).into_iter().chain([input]) {
            meter.input(&input, from.len());
            questions.follow(&input);
            pipe.take(&input);
            if from.is_empty() || matches!(input.what, What::Tick) || pipe.unsaid() >= TOGETHER {
                pipe.say().context(WRITE)?;
            }
            waiting.follow(&input, pipe);
            meter.tables(&input, pipe);
            if matches!(input.what, What::Synced) {
                // The pages of the first lists.
                memory::give_back();
            }
        }
    }
    pipe.finish().context(WRITE)
}
