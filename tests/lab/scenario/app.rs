//! How the test server behaves.

use serde::{Deserialize, Serialize};

pub use crate::app::OnSigterm;

/// The test server in each pod. Each field but `port` and `dual_stack` is a switch of `zdt-lab app` of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct App {
    /// The port it listens on; the pod's declared port stays 8080.
    pub port: u16,
    /// One IPv6 socket that serves both families, as Go's servers have it; false: a socket of IPv4 alone.
    pub dual_stack: bool,
    pub on_sigterm: OnSigterm,
    /// What SIGQUIT does; absent: it is not handled.
    pub on_sigquit: Option<OnSigterm>,
    /// With `drain-first` and `stall-first`: time between SIGTERM and the close of the listener.
    pub drain_ms: u64,
    /// With `exit`: time between SIGTERM and the exit.
    pub exit_delay_ms: u64,
    /// Answers 503 from SIGTERM on.
    pub errors_while_draining: bool,
    /// Answers the readiness probe with 503 from SIGTERM on.
    pub unready_on_sigterm: bool,
    /// Time before it listens.
    pub start_delay_ms: u64,
    /// Answers the readiness probe with 503 for this long.
    pub ready_after_ms: u64,
    /// Answers the liveness probe with 500 after this time.
    pub unhealthy_after_ms: Option<u64>,
    /// Accepts and answers nothing after this time.
    pub hang_after_ms: Option<u64>,
    /// Time between a request and its answer.
    pub response_delay_ms: u64,
    /// Time between a request's arrival and its reading: a busy server, whose exit meets unread data.
    pub read_delay_ms: u64,
    pub body_bytes: u32,
    /// Time between the answer's head and its body, and between two parts of it.
    pub body_delay_ms: u64,
    /// In how many parts the body is sent.
    pub body_parts: u32,
    /// Sends the body chunked: each part is a chunk.
    pub chunked: bool,
    /// Bytes a second that the kernel sends of each connection.
    pub pace_bytes_s: Option<u32>,
    /// Finishes a handshake only when the first data comes, or after so many seconds.
    pub defer_accept_s: Option<u32>,
    /// Pending connections that the kernel keeps.
    pub backlog: u32,
    /// Time between two accepts.
    pub accept_delay_ms: u64,
    /// Closes an idle connection after this time.
    pub keep_alive_ms: Option<u64>,
    /// Closes every connection with a reset.
    pub linger_0: bool,
    pub crash_after_ms: Option<u64>,
    /// Exits on reading this request, counted from 1.
    pub crash_on_request: Option<u64>,
    pub exit_code: i32,
    /// Takes memory until the OOM killer comes (`workload.memory_limit_mib`).
    pub oom_after_ms: Option<u64>,
    pub oom_on_request: Option<u64>,
    /// Child processes that serve; 0: the container's first process does.
    pub workers: u32,
    /// On reading every n-th request, sends its client a segment that conntrack finds invalid.
    pub invalid_segment_every: Option<u64>,
    /// Passes each request on to this port of the same pod.
    pub forward_to_port: Option<u16>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            port: 8080,
            dual_stack: true,
            on_sigterm: OnSigterm::Exit,
            on_sigquit: None,
            drain_ms: 3000,
            exit_delay_ms: 0,
            errors_while_draining: false,
            unready_on_sigterm: false,
            start_delay_ms: 0,
            ready_after_ms: 0,
            unhealthy_after_ms: None,
            hang_after_ms: None,
            response_delay_ms: 0,
            read_delay_ms: 0,
            body_bytes: 3,
            body_delay_ms: 0,
            body_parts: 1,
            chunked: false,
            pace_bytes_s: None,
            defer_accept_s: None,
            backlog: 4096,
            accept_delay_ms: 0,
            keep_alive_ms: None,
            linger_0: false,
            crash_after_ms: None,
            crash_on_request: None,
            exit_code: 1,
            oom_after_ms: None,
            oom_on_request: None,
            workers: 0,
            invalid_segment_every: None,
            forward_to_port: None,
        }
    }
}
