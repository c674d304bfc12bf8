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

/// Outputs that may wait; the channel's own memory grows with them.
const MOST: usize = 65_536;

/// Written at once, where as much waits: what a pipe takes.
const CHUNK: usize = 64 << 10;

/// Puts outputs into the queue.
pub struct Queued {
    text: Stdout<Vec<u8>>,
    to: mpsc::Sender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    count: ExportCount,
}

/// The other end: what is to be written.
pub struct Printing {
    from: mpsc::Receiver<Vec<u8>>,
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
            to,
            waiting,
            count,
        };
        (queued, printing)
    }
}

impl Sink for Queued {
    fn deliver(&mut self, output: &Output) -> io::Result<()> {
        self.text.deliver(output)?;
        let line = self.text.take();
        if line.is_empty() {
            return Ok(());
        }
        let size = line.len();
        if self.waiting.fetch_add(size, Relaxed) + size > MOST_BYTES || self.to.try_send(line).is_err() {
            self.waiting.fetch_sub(size, Relaxed);
            self.count.dropped.inc();
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Printing {
    /// Writes until there is nothing more to come, or nobody reads any more. Blocks.
    pub fn write(mut self, mut to: impl Write) -> io::Result<()> {
        let (mut chunk, mut dropped) = (Vec::new(), 0);
        while let Some(line) = self.from.blocking_recv() {
            chunk.clear();
            chunk.extend(line);
            let mut lines = 1;
            while chunk.len() < CHUNK
                && let Ok(line) = self.from.try_recv()
            {
                chunk.extend(line);
                lines += 1;
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
