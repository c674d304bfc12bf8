//! Writes inputs as they come. A full disk costs the record, never the pipe: what could not be written is counted,
//! said once, and marked in the file when it can be written again.

use std::io::{self, Write};

use super::Head;
use crate::input::{Input, What};

/// Written out when this many bytes are waiting.
const FLUSH_BYTES: usize = 64 << 10;

/// Bytes kept at most while the disk takes none.
const MAX_WAITING_BYTES: usize = 8 << 20;

/// Writes a record. [`Recorder::flush`] on each tick and at the end.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    to: W,
    /// Whole lines that are not written yet, except that the first may have been written in part.
    waiting: Vec<u8>,
    /// Inputs that found no room since the last one that did.
    lost: u64,
    lost_total: u64,
    failing: bool,
}

impl<W: Write> Recorder<W> {
    /// Writes the first line; fails when even that cannot be written.
    pub fn new(to: W) -> io::Result<Self> {
        let mut recorder = Self {
            to,
            waiting: Vec::new(),
            lost: 0,
            lost_total: 0,
            failing: false,
        };
        serde_json::to_writer(&mut recorder.waiting, &Head::current())?;
        recorder.waiting.push(b'\n');
        recorder.write_out()?;
        Ok(recorder)
    }

    /// Adds one input.
    pub fn write(&mut self, input: &Input) {
        if self.waiting.len() >= FLUSH_BYTES {
            self.flush();
        }
        if self.waiting.len() >= MAX_WAITING_BYTES {
            self.lost += 1;
            self.lost_total += 1;
            return;
        }
        if self.lost > 0 {
            let loss = Input {
                at: input.at,
                what: What::Loss {
                    source: "record".into(),
                    count: self.lost,
                },
            };
            self.lost = 0;
            self.push(&loss);
        }
        self.push(input);
    }

    /// Hands everything to the operating system, as far as it takes it.
    pub fn flush(&mut self) {
        match self.write_out() {
            Ok(()) => {
                if self.failing {
                    tracing::info!(
                        "the record can be written again; {} inputs are missing in it",
                        self.lost_total
                    );
                }
                self.failing = false;
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

    /// Inputs that the record lacks.
    pub fn lost_total(&self) -> u64 {
        self.lost_total
    }

    fn push(&mut self, input: &Input) {
        let whole = self.waiting.len();
        // Writing to memory fails only when a value refuses to be serialized, which no input does.
        if serde_json::to_writer(&mut self.waiting, input).is_err() {
            self.waiting.truncate(whole);
            self.lost += 1;
            self.lost_total += 1;
            return;
        }
        self.waiting.push(b'\n');
    }

    /// Keeps what the writer did not take, to the byte: a line that was written in part is completed later.
    fn write_out(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            match self.to.write(&self.waiting) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.to.flush()
    }
}

impl<W: Write> Drop for Recorder<W> {
    /// Whatever ends the pipe, what was taken is in the file.
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        input::{Ktime, PodUid},
        record::Reader,
    };

    /// Takes `room` bytes and then fails, as a full disk does.
    #[derive(Default)]
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for &mut Disk {
        fn write(&mut self, from: &[u8]) -> io::Result<usize> {
            let n = from.len().min(self.room);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= n;
            self.bytes.extend_from_slice(&from[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gone(at: u64) -> Input {
        Input {
            at: Ktime(at),
            what: What::PodGone {
                uid: PodUid("x".repeat(1000)),
            },
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Vec::new();
        let mut recorder = Recorder::new(&mut bytes).unwrap();
        for at in 0..200 {
            recorder.write(&gone(at));
        }
        drop(recorder);
        let back: Result<Vec<_>, _> = Reader::new(bytes.as_slice()).unwrap().collect();
        assert_eq!(back.unwrap(), (0..200).map(gone).collect::<Vec<_>>());
    }

    #[test]
    fn full_disk_is_counted_and_marked_and_the_rest_stays_readable() {
        let mut disk = Disk {
            room: 10_000,
            ..Disk::default()
        };
        let mut recorder = Recorder::new(&mut disk).unwrap();
        let sent = 12_000;
        for at in 0..sent {
            recorder.write(&gone(at));
        }
        let lost = recorder.lost_total();
        assert!(lost > 0);
        recorder.to.room = usize::MAX;
        recorder.flush();
        recorder.write(&gone(sent));
        drop(recorder);
        let back: Vec<_> = Reader::new(disk.bytes.as_slice())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            back.len() as u64,
            sent - lost + 2,
            "all that were kept, the mark, and the last"
        );
        let mark = What::Loss {
            source: "record".into(),
            count: lost,
        };
        assert!(back.iter().any(|input| input.what == mark));
    }

    #[test]
    fn disk_full_from_the_start_is_an_error() {
        assert!(Recorder::new(&mut Disk::default()).is_err());
    }
}
