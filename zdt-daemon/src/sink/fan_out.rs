//! One output to several sinks, in order.

use std::io;

use super::Sink;
use crate::verdict::Output;

/// Delivers to each of its sinks; the first one that fails ends it.
pub struct FanOut(pub Vec<Box<dyn Sink + Send>>);

impl Sink for FanOut {
    fn deliver(&mut self, output: &Output) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.deliver(output))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.flush())
    }
}
