//! What several causes ask first: did the server's process end this connection with a request unanswered?

use crate::{
    correlate::{Case, Phase},
    input::{Ktime, Side},
};

/// When it did. A RST to data behind the orderly close of a connection that was idle is another matter, and so is what the
/// kernel reset in the accept queue, which no application had.
pub(super) fn cut(case: &Case<'_>) -> Option<Ktime> {
    let flow = case.flow;
    if case.phase != Phase::Established || case.ended_by != Some(Side::Server) {
        return None;
    }
    let unused = flow.closed_before_any_answer();
    if !unused && (!flow.cut_by_server() || flow.late_request().is_some()) {
        return None;
    }
    let end = flow.server_end.as_ref().map(|e| e.at);
    let reset = flow.server_reset.as_ref().filter(|r| r.has_socket).map(|r| r.at);
    [end, reset].into_iter().flatten().min()
}
