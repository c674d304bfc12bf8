//! Where outputs go: standard output (text or JSON lines), metrics, Events in Kubernetes, a collector (OTLP), and the last
//! ones kept for HTTP. None of those of a running daemon waits for whoever reads.

pub mod events;
mod fan_out;
pub mod metrics;
pub mod otlp;
pub mod queued;
pub mod recent;
mod stdout;

use std::io;

pub use fan_out::FanOut;
pub use stdout::{Format, Stdout};

use crate::verdict::Output;

/// Takes outputs in order.
pub trait Sink {
    /// Delivers one output. An error of kind `BrokenPipe` means that nobody reads any more.
    fn deliver(&mut self, output: &Output) -> io::Result<()>;

    /// Makes everything delivered so far visible.
    fn flush(&mut self) -> io::Result<()>;
}
