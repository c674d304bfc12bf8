//! Standard output: one line a verdict, one block a rollout (text), or one JSON object a line.

use std::io::{self, Write};

use super::Sink;
use crate::{
    report::{self, Style},
    verdict::{Blame, Output},
};

/// How outputs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One line a verdict, one block a rollout.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes outputs to `to`.
#[derive(Debug)]
pub struct Stdout<W> {
    to: W,
    format: Format,
    style: Style,
}

impl<W: Write> Stdout<W> {
    pub fn new(to: W, format: Format, style: Style) -> Self {
        Self { to, format, style }
    }
}

impl Stdout<Vec<u8>> {
    /// Bytes that were written since the last time.
    pub fn written(&self) -> usize {
        self.to.len()
    }

    /// Takes back what was written behind so many.
    pub fn truncate(&mut self, written: usize) {
        self.to.truncate(written);
    }

    /// What was written since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to)
    }
}

impl<W: Write> Sink for Stdout<W> {
    fn deliver(&mut self, output: &Output) -> io::Result<()> {
        let mut text = match self.format {
            Format::Json => report::json(output)?,
            Format::Text => match output {
                // A refused probe is no news to somebody who reads; machines get it.
                Output::Verdict(verdict) if verdict.blame == Blame::NotARequest => return Ok(()),
                // A rollout's block sums them up.
                Output::Propagation(_) => return Ok(()),
                Output::Verdict(verdict) => report::verdict_line(verdict, self.style),
                Output::Rollout(rollout) => report::rollout_block(rollout, self.style),
                Output::SelectorSwitch(switch) => report::switch_line(switch),
                Output::NotSeen(not_seen) => report::not_seen_line(not_seen),
            },
        };
        text.push('\n');
        self.to.write_all(text.as_bytes())
    }

    fn deliver_json(&mut self, output: &Output, json: &str) -> io::Result<()> {
        match self.format {
            Format::Json => {
                self.to.write_all(json.as_bytes())?;
                self.to.write_all(b"\n")
            }
            Format::Text => self.deliver(output),
        }
    }

    fn writes_json(&self) -> bool {
        matches!(self.format, Format::Json)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
