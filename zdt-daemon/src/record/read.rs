//! Reads a record line by line; whatever is wrong with the file is an error that names the line.

use std::io::{self, BufRead, Read as _};

use thiserror::Error;

use super::{FORMAT, Head, VERSION};
use crate::input::Input;

/// Longest line accepted, in bytes. The largest input is an endpoint slice; the API allows it 1,000 endpoints, which
/// is about 300 KiB here.
pub const MAX_LINE_BYTES: u64 = 4 << 20;

/// Why a record cannot be read (on).
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("the file is empty: no record was written to it (write one with `zdt record FILE`)")]
    Empty,
    #[error(
        "line 1 is not the head of a zdt record ({{\"format\":\"{FORMAT}\",…}}): \
         give a file that `zdt record FILE` or `zdt run --record FILE` wrote"
    )]
    NotARecord,
    #[error(
        "the record has format version {version}, and this zdt ({ours}) reads versions up to {VERSION}: \
         replay it with zdt {zdt} or newer",
        ours = env!("CARGO_PKG_VERSION")
    )]
    Newer { version: u32, zdt: String },
    #[error(
        "line {line} is cut off: whatever wrote the record stopped there; \
         the {whole} inputs before it are whole and were used"
    )]
    Truncated { line: u64, whole: u64 },
    #[error("line {line} is not an input: {source}; the inputs before it were used")]
    Malformed { line: u64, source: serde_json::Error },
    #[error("line {line} is longer than {MAX_LINE_BYTES} bytes: this is not a record that zdt wrote")]
    TooLong { line: u64 },
    #[error("line {line} cannot be read: {source}")]
    Io { line: u64, source: io::Error },
}

/// Inputs of a record, in order. After an error there are no more.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    /// Number of the line read last, counted from 1.
    line: u64,
    buffer: Vec<u8>,
    failed: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads and checks the first line.
    pub fn new(from: R) -> Result<Self, ReadError> {
        let mut reader = Self {
            from,
            line: 0,
            buffer: Vec::new(),
            failed: false,
        };
        if !reader.next_line()? {
            return Err(ReadError::Empty);
        }
        // Version and format first: a newer head may have fields that this zdt does not know.
        let head: Head = serde_json::from_slice(&reader.buffer).map_err(|_| ReadError::NotARecord)?;
        if head.format != FORMAT {
            return Err(ReadError::NotARecord);
        }
        if head.version > VERSION {
            return Err(ReadError::Newer {
                version: head.version,
                zdt: head.zdt,
            });
        }
        Ok(reader)
    }

    /// Fills `buffer` with the next line; false at the end of the file.
    fn next_line(&mut self) -> Result<bool, ReadError> {
        self.buffer.clear();
        self.line += 1;
        let line = self.line;
        let read = (&mut self.from)
            .take(MAX_LINE_BYTES + 1)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|source| ReadError::Io { line, source })?;
        if self.buffer.len() as u64 > MAX_LINE_BYTES {
            return Err(ReadError::TooLong { line });
        }
        Ok(read > 0)
    }

    fn next_input(&mut self) -> Result<Option<Input>, ReadError> {
        if !self.next_line()? {
            return Ok(None);
        }
        match serde_json::from_slice(&self.buffer) {
            Ok(input) => Ok(Some(input)),
            // A line that ends without a newline is the last one: its writer was stopped in the middle of it.
            Err(_) if !self.buffer.ends_with(b"\n") => Err(ReadError::Truncated {
                line: self.line,
                whole: self.line.saturating_sub(2),
            }),
            Err(source) => Err(ReadError::Malformed {
                line: self.line,
                source,
            }),
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Input, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_input();
        self.failed = next.is_err();
        next.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Ktime, What};

    const HEAD: &str = "{\"format\":\"zdt-record\",\"version\":1,\"zdt\":\"0.1.0\"}\n";
    const TICK: &str = "{\"at\":5,\"what\":\"tick\"}\n";

    fn read(text: &str) -> (Vec<Input>, Option<ReadError>) {
        let reader = match Reader::new(text.as_bytes()) {
            Ok(reader) => reader,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let mut inputs = Vec::new();
        for next in reader {
            match next {
                Ok(input) => inputs.push(input),
                Err(error) => return (inputs, Some(error)),
            }
        }
        (inputs, None)
    }

    #[test]
    fn whole_record_is_read_to_its_end() {
        let (inputs, error) = read(&format!("{HEAD}{TICK}{TICK}"));
        assert!(error.is_none(), "{error:?}");
        let tick = Input {
            at: Ktime(5),
            what: What::Tick,
        };
        assert_eq!(inputs, [tick.clone(), tick]);
    }

    #[test]
    fn empty_file_is_said_to_be_empty() {
        assert!(matches!(read("").1, Some(ReadError::Empty)));
    }

    #[test]
    fn other_files_are_not_records() {
        for text in [
            "hello\n",
            "{}\n",
            "{\"format\":\"other\",\"version\":1,\"zdt\":\"1\"}\n",
            "\u{0}\u{1}",
        ] {
            assert!(matches!(read(text).1, Some(ReadError::NotARecord)), "{text:?}");
        }
    }

    #[test]
    fn newer_record_names_the_zdt_that_reads_it() {
        let (_, error) = read("{\"format\":\"zdt-record\",\"version\":9,\"zdt\":\"4.2.0\",\"new\":1}\n");
        let text = error.map(|e| e.to_string()).unwrap_or_default();
        assert!(
            text.contains("version 9") && text.contains("zdt 4.2.0 or newer"),
            "{text}"
        );
    }

    #[test]
    fn cut_off_last_line_keeps_what_came_before() {
        let (inputs, error) = read(&format!("{HEAD}{TICK}{{\"at\":6,\"wh"));
        assert_eq!(inputs.len(), 1);
        assert!(
            matches!(error, Some(ReadError::Truncated { line: 3, whole: 1 })),
            "{error:?}"
        );
    }

    #[test]
    fn malformed_line_is_named_by_its_number() {
        let (inputs, error) = read(&format!("{HEAD}{TICK}{{\"at\":6,\"what\":\"nonsense\"}}\n{TICK}"));
        assert_eq!(inputs.len(), 1, "nothing after the bad line is used");
        assert!(
            matches!(error, Some(ReadError::Malformed { line: 3, .. })),
            "{error:?}"
        );
    }

    #[test]
    fn endless_line_does_not_fill_the_memory() {
        let endless = io::BufReader::new(HEAD.as_bytes().chain(io::repeat(b'x')));
        let mut reader = Reader::new(endless).unwrap();
        assert!(matches!(reader.next(), Some(Err(ReadError::TooLong { line: 2 }))));
        assert!(reader.next().is_none());
    }
}
