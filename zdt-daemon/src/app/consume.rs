//! The one that takes inputs, in their one order.

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::{WRITE, meter::Meter, questions::Questions};
use crate::{input::Input, pipe::Pipe};

/// Takes inputs until there are no more. Blocks.
pub(super) fn consume(
    mut from: mpsc::Receiver<Input>,
    questions: &mut Questions,
    pipe: &mut Pipe,
    meter: &Meter,
) -> anyhow::Result<()> {
    while let Some(input) = from.blocking_recv() {
        meter.input(&input, from.len());
        questions.follow(&input);
        pipe.step(&input).context(WRITE)?;
        meter.tables(&input, pipe);
    }
    pipe.finish().context(WRITE)
}
