//! Standard output behind a queue: whoever reads there slowly, or not at all, loses lines, and they are counted. The pipe
//! goes on.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::mpsc;

use super::{Sink, Stdout, metrics::ExportCount};
use crate::verdict::Output;

/// Bytes that may wait: thousands of outputs, and a sixteenth of the memory that the DaemonSet may have.
pub const MOST_BYTES: usize = 16 << 20;

/// Flushes that may wait; the channel's own memory grows with them.
const MOST: usize = 65_536;

/// Written at once, where as much waits: what a pipe takes.
const CHUNK: usize = 64 << 10;

/// Whole lines.
struct Lines {
    text: Vec<u8>,
    count: u64,
}

/// Puts outputs into the queue, with each flush those since the last one: what comes alone wakes the one who writes for itself.
pub struct Queued {
    text: Stdout<Vec<u8>>,
    /// Lines in it.
    lines: u64,
    to: mpsc::Sender<Lines>,
    waiting: Arc<AtomicUsize>,
    count: ExportCount,
}

/// The other end: what is to be written.
pub struct Printing {
    from: mpsc::Receiver<Lines>,
    waiting: Arc<AtomicUsize>,
    count: ExportCount,
}

impl Queued {
    /// The sink, and the end that is to be written. `text` makes the lines.
    pub fn new(text: Stdout<Vec<u8>>, count: ExportCount) -> (Self, Printing) {
        let (to, from) = mpsc::channel(MOST);
        let waiting = Arc::new(AtomicUsize::new(0));
        let printing = Printing {
            from,
            waiting: Arc::clone(&waiting),
            count: count.clone(),
        };
        let queued = Self {
            text,
            lines: 0,
            to,
            waiting,
            count,
        };
        (queued, printing)
    }
}

impl Queued {
    /// Counts what `write` has written, or takes it back.
    fn add(&mut self, write: impl FnOnce(&mut Stdout<Vec<u8>>) -> io::Result<()>) -> io::Result<()> {
        let before = self.text.written();
        write(&mut self.text)?;
        let size = self.text.written() - before;
        if size == 0 {
            return Ok(());
        }
        if self.waiting.fetch_add(size, Relaxed) + size > MOST_BYTES {
            self.waiting.fetch_sub(size, Relaxed);
            self.text.truncate(before);
            self.count.dropped.inc();
            return Ok(());
        }
        self.lines += 1;
        if self.text.written() >= CHUNK {
            self.hand_over();
        }
        Ok(())
    }

    fn hand_over(&mut self) {
        let count = std::mem::take(&mut self.lines);
        if count == 0 {
            return;
        }
        let text = self.text.take();
        let size = text.len();
        if self.to.try_send(Lines { text, count }).is_err() {
            self.waiting.fetch_sub(size, Relaxed);
            self.count.dropped.inc_by(count);
        }
    }
}

impl Sink for Queued {
    fn deliver(&mut self, output: &Output) -> io::Result<()> {
        self.add(|text| text.deliver(output))
    }

    fn deliver_json(&mut self, output: &Output, json: &str) -> io::Result<()> {
        self.add(|text| text.deliver_json(output, json))
    }

    fn writes_json(&self) -> bool {
        self.text.writes_json()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over();
        Ok(())
    }
}

impl Printing {
    /// Writes until there is nothing more to come, or nobody reads any more. Blocks.
    pub fn write(mut self, mut to: impl Write) -> io::Result<()> {
        let (mut chunk, mut dropped) = (Vec::new(), 0);
        while let Some(first) = self.from.blocking_recv() {
            chunk.clear();
            chunk.extend(first.text);
            let mut lines = first.count;
            while chunk.len() < CHUNK
                && let Ok(more) = self.from.try_recv()
            {
                chunk.extend(more.text);
                lines += more.count;
            }
            to.write_all(&chunk)?;
            to.flush()?;
            self.waiting.fetch_sub(chunk.len(), Relaxed);
            self.count.delivered.inc_by(lines);
            // Here and not where they are dropped: the log may lead to the same reader.
            let now = self.count.dropped.get();
            if now > dropped {
                tracing::warn!(
                    "standard output was not read fast enough: {} outputs were dropped",
                    now - dropped
                );
                dropped = now;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "queued_tests.rs"]
mod tests;
