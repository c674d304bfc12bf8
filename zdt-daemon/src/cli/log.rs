//! What goes to stderr: the log and the last error. Names of others stand in both, and none of them begins a line or moves a
//! cursor.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use crate::report::escape;

pub(super) fn to_stderr(filter: &str) {
    let plain = EnvFilter::try_new(filter);
    let complaint = plain.as_ref().err().map(ToString::to_string);
    tracing_subscriber::fmt()
        .with_env_filter(plain.unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(|| Escaped(io::stderr()))
        // Colours would be escaped with the rest.
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false)
        .init();
    if let Some(complaint) = complaint {
        tracing::warn!("--log {filter:?} is not a filter ({complaint}); logging at info");
    }
}

/// An error as the last thing that is said. It may have several lines (the verifier's log); what begins with the sign is one of them.
pub(super) fn last_words(error: &anyhow::Error) -> String {
    let said = format!("{error:#}");
    let lines: Vec<_> = said.lines().map(escape).collect();
    format!("zdt: {}\n", lines.join("\n   | "))
}

/// Takes whole events, as the subscriber writes them.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        self.0.write_all(format!("{}\n", escape(line)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_one_line_whatever_it_names() {
        let mut to = Vec::new();
        let event = "WARN the pod a\u{1b}[31m\nERROR b\u{9b}\n".as_bytes();
        assert_eq!(Escaped(&mut to).write(event).unwrap(), event.len());
        assert_eq!(
            String::from_utf8(to).unwrap(),
            "WARN the pod a\\u{1b}[31m\\u{a}ERROR b\\u{9b}\n"
        );
    }

    #[test]
    fn error_of_several_lines_has_them_marked() {
        let error = anyhow::anyhow!("a\nzdt: b\u{1b}").context("c");
        assert_eq!(last_words(&error), "zdt: c: a\n   | zdt: b\\u{1b}\n");
    }
}
