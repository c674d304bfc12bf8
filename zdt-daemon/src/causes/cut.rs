//! What several causes ask first: did the server's process end this connection with a request unanswered?

use crate::{
    correlate::{AnswerSeen, Case, Phase},
    input::{Ktime, Side},
};

/// What of the answer had gone out by then.
pub(super) fn sent(case: &Case<'_>) -> String {
    let answer = case.flow.cut_answer();
    answer.map_or_else(|| "no answer sent".to_owned(), AnswerSeen::how)
}

/// Its end, as evidence.
pub(super) fn unanswered(case: &Case<'_>) -> String {
    let answer = case.flow.cut_answer();
    let sent = answer.map_or_else(String::new, |a| format!(": {}", a.how()));
    format!("connection ends with the request unanswered{sent}")
}

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
