//! Where outputs go. First version: standard output, as text or as JSON lines.

mod stdout;

use std::io;

pub use stdout::{Format, Stdout};

use crate::verdict::Output;

/// Takes outputs in order.
pub trait Sink {
    /// Delivers one output. An error of kind `BrokenPipe` means that nobody reads any more.
    fn deliver(&mut self, output: &Output) -> io::Result<()>;

    /// Makes everything delivered so far visible.
    fn flush(&mut self) -> io::Result<()>;
}
