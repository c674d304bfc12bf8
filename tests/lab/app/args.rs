//! The switches of the test server.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What a signal to stop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSigterm {
    /// Exits after `exit_delay_ms`; requests in flight are cut.
    Exit,
    /// Closes the listener at once, finishes the requests in flight, exits.
    CloseListener,
    /// Accepts for `drain_ms` more, then as `close-listener`.
    DrainFirst,
    /// Accepts nothing for `drain_ms` more, then as `close-listener`: what ends it keeps the thread that accepts.
    StallFirst,
    /// Closes the listener and the sending side of every connection at once, reads on until the clients close, exits.
    HalfClose,
    /// Nothing: SIGKILL ends it.
    Ignore,
}

/// Switches of the test server. Times after which something happens count from its listening.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; `[::]:8080` also serves IPv4, as Go servers do
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// What SIGTERM does
    #[arg(long, value_enum, default_value = "exit")]
    pub on_sigterm: OnSigterm,
    /// What SIGQUIT does; without it SIGQUIT is not handled
    #[arg(long, value_enum)]
    pub on_sigquit: Option<OnSigterm>,
    /// With `drain-first` and `stall-first`: time between SIGTERM and the close of the listener
    #[arg(long, default_value_t = 3000)]
    pub drain_ms: u64,
    /// With `exit`: time between the signal and the exit
    #[arg(long, default_value_t = 0)]
    pub exit_delay_ms: u64,
    /// Answer 503 from the signal on
    #[arg(long)]
    pub errors_while_draining: bool,
    /// Answer `/ready` with 503 from the signal on
    #[arg(long)]
    pub unready_on_sigterm: bool,
    /// Time before it listens
    #[arg(long, default_value_t = 0)]
    pub start_delay_ms: u64,
    /// Answer `/ready` with 503 for this long
    #[arg(long, default_value_t = 0)]
    pub ready_after_ms: u64,
    /// Answer `/healthz` with 500 after this time
    #[arg(long)]
    pub unhealthy_after_ms: Option<u64>,
    /// Answer nothing at all after this time: a deadlock; it still accepts
    #[arg(long)]
    pub hang_after_ms: Option<u64>,
    /// Time between a request and its answer (not for probes)
    #[arg(long, default_value_t = 0)]
    pub response_delay_ms: u64,
    /// Time between a request's arrival and its reading: a busy server, whose exit meets unread data
    #[arg(long, default_value_t = 0)]
    pub read_delay_ms: u64,
    /// Length of the answer's body
    #[arg(long, default_value_t = 3)]
    pub body_bytes: usize,
    /// Time between the answer's head and its body, and between two parts of it (not for probes)
    #[arg(long, default_value_t = 0)]
    pub body_delay_ms: u64,
    /// In how many parts the body is sent
    #[arg(long, default_value_t = 1)]
    pub body_parts: usize,
    /// Send the body chunked: each part is a chunk
    #[arg(long)]
    pub chunked: bool,
    /// Bytes a second that the kernel sends of each connection (SO_MAX_PACING_RATE): a slow path to the client
    #[arg(long)]
    pub pace_bytes_s: Option<u32>,
    /// Pending connections that the kernel keeps
    #[arg(long, default_value_t = 4096)]
    pub backlog: u32,
    /// Finish a handshake only when the first data comes, or after so many seconds (TCP_DEFER_ACCEPT, nginx' `deferred`)
    #[arg(long)]
    pub defer_accept_s: Option<u32>,
    /// Time between two accepts: a server that is too slow for its clients
    #[arg(long, default_value_t = 0)]
    pub accept_delay_ms: u64,
    /// Close an idle connection after this time
    #[arg(long)]
    pub keep_alive_ms: Option<u64>,
    /// Close every connection with a reset (SO_LINGER of 0 s)
    #[arg(long)]
    pub linger_0: bool,
    /// Exit after this time
    #[arg(long)]
    pub crash_after_ms: Option<u64>,
    /// Exit on reading this request, counted from 1
    #[arg(long)]
    pub crash_on_request: Option<u64>,
    /// Status of a crash
    #[arg(long, default_value_t = 1)]
    pub exit_code: i32,
    /// Take memory until the OOM killer comes, after this time
    #[arg(long)]
    pub oom_after_ms: Option<u64>,
    /// The same on reading this request, counted from 1
    #[arg(long)]
    pub oom_on_request: Option<u64>,
    /// Serve in this many child processes, which are started again when they die; 0: in this one
    #[arg(long, default_value_t = 0)]
    pub workers: u32,
    /// On reading every n-th request, send its client a segment that conntrack finds invalid
    #[arg(long)]
    pub invalid_segment_every: Option<u64>,
    /// Pass every request on to this port of the same pod, as a sidecar proxy does
    #[arg(long)]
    pub forward_to_port: Option<u16>,
    /// The listener is standard input: a worker
    #[arg(long, hide = true)]
    pub inherited: bool,
}
