//! Whoever takes outputs.

use std::io;

use super::Output;

/// Takes outputs in order.
pub trait Sink {
    /// Delivers one output. An error of kind `BrokenPipe` means that nobody reads any more.
    fn deliver(&mut self, output: &Output) -> io::Result<()>;

    /// The same, of an output whose JSON (`report::json`) is there already.
    fn deliver_json(&mut self, output: &Output, json: &str) -> io::Result<()> {
        let _ = json;
        self.deliver(output)
    }

    /// It writes outputs as JSON: where several do, it is made once.
    fn writes_json(&self) -> bool {
        false
    }

    /// Makes everything delivered so far visible.
    fn flush(&mut self) -> io::Result<()>;
}
