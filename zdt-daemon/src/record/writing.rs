//! Writes a record, on a thread of its own: what a disk, or whoever reads a pipe, makes it wait for, nobody else waits for.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

/// A disk that took nothing is tried again so much later.
const AGAIN: Duration = Duration::from_millis(250);

/// What the pipe's end sends.
#[derive(Debug)]
pub(super) enum Message {
    /// Whole lines.
    Lines(Vec<u8>),
    /// Wants to be told when all before it is written.
    Written(SyncSender<()>),
}

/// The end of a record that writes.
#[derive(Debug)]
pub struct Writing<W> {
    to: W,
    from: Receiver<Message>,
    /// Not written yet; the first line may have been written in part.
    waiting: Vec<u8>,
    /// Bytes of `waiting` and of what is still to be received.
    held: Arc<AtomicUsize>,
    asked: Vec<SyncSender<()>>,
    failing: bool,
}

impl<W: Write> Writing<W> {
    pub(super) fn new(to: W, from: Receiver<Message>, held: Arc<AtomicUsize>) -> Self {
        Self {
            to,
            from,
            waiting: Vec::new(),
            held,
            asked: Vec::new(),
            failing: false,
        }
    }

    /// Writes until the pipe's end is gone. Blocks.
    pub fn write(mut self) {
        loop {
            // Where nothing comes it is tried again all the same: what is lost meanwhile is not sent.
            let next = if self.failing {
                self.from.recv_timeout(AGAIN)
            } else {
                self.from.recv().map_err(RecvTimeoutError::from)
            };
            match next {
                Ok(Message::Lines(lines)) if self.waiting.is_empty() => self.waiting = lines,
                Ok(Message::Lines(lines)) => self.waiting.extend(lines),
                Ok(Message::Written(asked)) => self.asked.push(asked),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.flush();
        }
        self.flush();
        if self.failing {
            tracing::warn!(
                "the end of the record, {} bytes, could not be written",
                self.waiting.len()
            );
        }
    }

    /// Hands everything to the operating system, as far as it takes it.
    fn flush(&mut self) {
        match self.write_out() {
            Ok(()) => {
                if self.failing {
                    tracing::info!("the record can be written again");
                }
                self.failing = false;
                for asked in self.asked.drain(..) {
                    // Nobody waits any more: it was too late.
                    let _ = asked.try_send(());
                }
            }
            Err(error) => {
                if !self.failing {
                    tracing::warn!(
                        "the record cannot be written: {error}; zdt goes on without it and tries again: \
                         free space on its disk, or start anew with another --record FILE"
                    );
                }
                self.failing = true;
            }
        }
    }

    /// Keeps what the writer did not take, to the byte: a line that was written in part is completed later.
    fn write_out(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            match self.to.write(&self.waiting) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    drop(self.waiting.drain(..n));
                    self.held.fetch_sub(n, Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.to.flush()
    }
}
