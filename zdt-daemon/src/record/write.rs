//! Takes inputs as they come and hands them to the thread that writes them ([`Writing`]). A disk that is slow or full costs
//! the record, never the pipe: what found no room is counted, and marked in the file behind what did.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    time::Duration,
};

use super::{Head, Writing, writing::Message};
use crate::{
    clock,
    input::{Input, Ktime, What},
};

/// Handed over when this many bytes are waiting.
const BATCH_BYTES: usize = 64 << 10;

/// Bytes kept at most while the disk takes none.
const MAX_WAITING_BYTES: usize = 8 << 20;

/// Batches that may wait; each tick makes one, and what finds no place stays with the next.
const BATCHES: usize = 256;

/// So long may the pipe wait in each tick's time for the record to have what is about to be said.
const PATIENCE: Duration = Duration::from_millis(50);

/// The pipe's end of a record. [`Recorder::flush`] on each tick; what drops it ends the record.
#[derive(Debug)]
pub struct Recorder {
    to: SyncSender<Message>,
    /// Whole lines that are not handed over yet.
    batch: Vec<u8>,
    /// Bytes that were handed over and are not written yet.
    held: Arc<AtomicUsize>,
    /// Inputs that found no room since the last one that did, and when the newest of them came.
    lost: u64,
    lost_at: Ktime,
    lost_total: u64,
    /// What is left of [`PATIENCE`] until the next tick.
    patience: Duration,
    /// The writer has not said yet that it has written all that it was asked for.
    asked: Option<Receiver<()>>,
}

impl Recorder {
    /// The pipe's end, and the one that writes to `to`. Writes the first line; fails when even that cannot be written.
    pub fn new<W: io::Write>(mut to: W) -> io::Result<(Self, Writing<W>)> {
        let mut head = serde_json::to_vec(&Head::current())?;
        head.push(b'\n');
        to.write_all(&head)?;
        to.flush()?;
        let (sender, from) = sync_channel(BATCHES);
        let held = Arc::new(AtomicUsize::new(0));
        let recorder = Self {
            to: sender,
            batch: Vec::new(),
            held: Arc::clone(&held),
            lost: 0,
            lost_at: Ktime::default(),
            lost_total: 0,
            patience: PATIENCE,
            asked: None,
        };
        Ok((recorder, Writing::new(to, from, held)))
    }

    /// Adds one input.
    pub fn write(&mut self, input: &Input) {
        if self.batch.len() >= BATCH_BYTES {
            self.hand_over();
        }
        if self.batch.len() + self.held.load(Relaxed) >= MAX_WAITING_BYTES {
            self.lose(input.at);
            return;
        }
        self.mark(input.at);
        self.push(input);
    }

    /// Hands everything to the thread that writes.
    pub fn flush(&mut self) {
        self.patience = PATIENCE;
        self.hand_over();
    }

    /// Waits until everything is written, so that whatever ends this process the record has what was said; but not
    /// for a writer that is behind.
    pub fn settle(&mut self) {
        self.hand_over();
        if let Some(answer) = &self.asked {
            if answer.try_recv() == Err(TryRecvError::Empty) {
                return;
            }
            self.asked = None;
        }
        let (tell, answer) = sync_channel(1);
        if !self.batch.is_empty() || self.to.try_send(Message::Written(tell)).is_err() {
            return;
        }
        let began = clock::now();
        if answer.recv_timeout(self.patience).is_err() {
            self.asked = Some(answer);
        }
        let took = Duration::from_nanos(clock::now().0.saturating_sub(began.0));
        self.patience = self.patience.saturating_sub(took);
    }

    /// Inputs that the record lacks.
    pub fn lost_total(&self) -> u64 {
        self.lost_total
    }

    fn lose(&mut self, at: Ktime) {
        self.lost += 1;
        self.lost_total += 1;
        self.lost_at = at;
    }

    /// Says in the record what it lacks.
    fn mark(&mut self, at: Ktime) {
        if self.lost == 0 {
            return;
        }
        let (source, count) = ("record".into(), std::mem::take(&mut self.lost));
        self.push(&Input {
            at,
            what: What::Loss { source, count },
        });
    }

    fn push(&mut self, input: &Input) {
        let whole = self.batch.len();
        // Writing to memory fails only when a value refuses to be serialized, which no input does.
        if serde_json::to_writer(&mut self.batch, input).is_err() {
            self.batch.truncate(whole);
            self.lose(input.at);
            return;
        }
        self.batch.push(b'\n');
    }

    fn hand_over(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let size = batch.len();
        // Before the writer can subtract it.
        self.held.fetch_add(size, Relaxed);
        if let Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) =
            self.to.try_send(Message::Lines(batch))
        {
            self.held.fetch_sub(size, Relaxed);
            if let Message::Lines(lines) = refused {
                self.batch = lines;
            }
        }
    }
}

impl Drop for Recorder {
    /// The record ends with what it lacks, if its last inputs found no room.
    fn drop(&mut self) {
        self.mark(self.lost_at);
        self.hand_over();
        if !self.batch.is_empty() {
            tracing::warn!("the end of the record was not written: its disk is too slow");
        }
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
