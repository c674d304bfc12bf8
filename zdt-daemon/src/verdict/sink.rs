//! Whoever takes outputs.

use std::io;

use super::Output;

/// Takes outputs in order.
pub trait Sink {
    /// Delivers one output. An error of kind `BrokenPipe` means that nobody reads any more.
    fn deliver(&mut self, output: &Output) -> io::Result<()>;

    /// Makes everything delivered so far visible.
    fn flush(&mut self) -> io::Result<()>;
}
