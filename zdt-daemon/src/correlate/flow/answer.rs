//! The head of an HTTP answer, and whether what it promised went out.

use super::{End, Flow};
use crate::input::{AnswerEnd, Body, CgroupId, Ktime};

/// An answer of a pod in transition.
#[derive(Clone, Copy, Debug)]
pub struct AnswerSeen {
    pub at: Ktime,
    pub status: u16,
    pub body: Body,
    /// The connection ended behind it.
    pub end: Option<AnswerEnd>,
    /// Of the socket.
    pub cgroup: CgroupId,
}

impl AnswerSeen {
    pub fn is_error(&self) -> bool {
        (500..600).contains(&self.status)
    }

    /// Its connection ended before its body did.
    pub fn is_cut(&self) -> bool {
        self.end.is_some_and(|end| end.cuts(self.body))
    }

    /// What it promised and what went out, for sentences.
    pub fn how(&self) -> String {
        let sent = self.end.and_then(|e| e.sent).unwrap_or(0);
        match self.body {
            Body::Length(length) => format!("{sent} of the {length} bytes of the answer sent"),
            _ => format!("{sent} bytes of the answer sent, without its last chunk"),
        }
    }
}

impl Flow {
    /// The request that this is was answered with an error.
    pub fn served_error(&self) -> Option<&AnswerSeen> {
        self.seldom()
            .answer
            .as_ref()
            .filter(|a| a.end.is_none() && a.is_error())
    }

    /// The answer that the server's process cut. One with an error had failed before; and a client that left, or that could not
    /// be reached any more, cut it itself.
    pub fn cut_answer(&self) -> Option<&AnswerSeen> {
        self.seldom()
            .answer
            .as_ref()
            .filter(|a| a.is_cut() && !a.is_error() && self.cut_by_server())
    }

    /// The server's side ended with a request in and no whole answer out.
    pub(super) fn server_left_unanswered(&self) -> bool {
        self.server_end.as_deref().is_some_and(End::request_unanswered) || self.cut_answer().is_some()
    }
}
