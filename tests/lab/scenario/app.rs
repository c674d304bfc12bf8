//! How the test server behaves.

use serde::{Deserialize, Serialize};

/// The test server in each pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct App {
    pub on_sigterm: OnSigterm,
    /// With `drain-first`: how long it still accepts after SIGTERM.
    pub drain_ms: u64,
    /// Time before it listens.
    pub start_delay_ms: u64,
    /// Time between a request and its answer.
    pub response_delay_ms: u64,
    /// Time between a request's arrival and its reading: a busy server, whose exit meets unread data.
    pub read_delay_ms: u64,
    /// One IPv6 socket that serves both families, as Go's servers have it; false: a socket of IPv4 alone.
    pub dual_stack: bool,
}

impl Default for App {
    fn default() -> Self {
        Self {
            on_sigterm: OnSigterm::Exit,
            drain_ms: 3000,
            start_delay_ms: 0,
            response_delay_ms: 0,
            read_delay_ms: 0,
            dual_stack: true,
        }
    }
}

/// What the server does at SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSigterm {
    /// Exits at once; requests in flight are cut.
    Exit,
    /// Closes the listener at once, finishes the requests in flight, exits.
    CloseListener,
    /// Accepts for `drain_ms` more, then as `close-listener`.
    DrainFirst,
    /// Nothing: SIGKILL ends it.
    Ignore,
}
