//! The consuming end of the input channel: tee to the record, step, deliver. Live and replay run through this one.

use std::io;

use crate::{
    correlate::{Correlator, Settings, TableFill},
    input::{Input, Ktime, What},
    record::Recorder,
    sink::Sink,
    verdict::{Output, UnderWay},
};

/// What waits for the correlator to be told the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// When the next flow is due.
    pub due: Option<Ktime>,
    /// Something else is open that ends with time.
    pub open: bool,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            due: None,
            open: true,
        }
    }
}

/// Takes inputs in their one order.
pub struct Pipe {
    recorder: Option<Recorder>,
    judging: Option<(Correlator, Box<dyn Sink + Send>)>,
    outputs: Vec<Output>,
}

impl Pipe {
    /// Without a sink nothing is judged.
    pub fn new(recorder: Option<Recorder>, sink: Option<Box<dyn Sink + Send>>) -> Self {
        Self {
            recorder,
            judging: sink.map(|sink| (Correlator::new(Settings::default()), sink)),
            outputs: Vec::new(),
        }
    }

    /// Takes one input, and says what follows from it.
    pub fn step(&mut self, input: &Input) -> io::Result<()> {
        self.take(input);
        self.say()
    }

    /// Takes one input. What follows from it waits to be said.
    pub fn take(&mut self, input: &Input) {
        if let Some(recorder) = &mut self.recorder {
            // First the record: what was judged is in it.
            recorder.write(input);
            if matches!(input.what, What::Tick) {
                recorder.flush();
            }
        }
        if let Some((correlator, _)) = &mut self.judging {
            correlator.step(input, &mut self.outputs);
        }
    }

    /// Outputs that wait to be said.
    pub fn unsaid(&self) -> usize {
        self.outputs.len()
    }

    /// Delivers what waits. An error is the sink's: nobody reads, or the disk behind it is full.
    pub fn say(&mut self) -> io::Result<()> {
        if let Some(recorder) = self.recorder.as_mut().filter(|_| !self.outputs.is_empty()) {
            // What was said is in the record, however this process ends.
            recorder.settle();
        }
        self.deliver()
    }

    /// The input has ended: judges what waits, and flushes everything.
    pub fn finish(&mut self) -> io::Result<()> {
        self.say()?;
        // Dropped: its end is written.
        if let Some(recorder) = self.recorder.take()
            && recorder.lost_total() > 0
        {
            tracing::warn!("{} inputs are missing in the record", recorder.lost_total());
        }
        if let Some((correlator, _)) = &mut self.judging {
            correlator.finish(&mut self.outputs);
        }
        self.deliver()
    }

    /// Inputs that the record lacks.
    pub fn record_lost(&self) -> u64 {
        self.recorder.as_ref().map_or(0, Recorder::lost_total)
    }

    /// When the next flow is due.
    pub fn next_due(&self) -> Option<Ktime> {
        self.judging.as_ref()?.0.next_due()
    }

    /// Whether anything waits for time to pass, besides flows. What is only recorded is judged later, by these ticks.
    pub fn is_open(&self) -> bool {
        self.judging.as_ref().is_none_or(|(c, _)| c.is_open())
    }

    /// How full the correlator's tables are.
    pub fn tables(&self) -> Vec<TableFill> {
        self.judging
            .as_ref()
            .map(|(correlator, _)| correlator.tables())
            .unwrap_or_default()
    }

    /// The rollouts that are not over.
    pub fn under_way(&self) -> Vec<UnderWay> {
        self.judging
            .as_ref()
            .map(|(correlator, _)| correlator.under_way())
            .unwrap_or_default()
    }

    fn deliver(&mut self) -> io::Result<()> {
        let Some((_, sink)) = &mut self.judging else {
            return Ok(());
        };
        if self.outputs.is_empty() {
            return Ok(());
        }
        for output in self.outputs.drain(..) {
            sink.deliver(&output)?;
        }
        sink.flush()
    }
}
