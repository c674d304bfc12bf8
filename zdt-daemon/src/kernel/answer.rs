//! What an HTTP answer's head says of its body (RFC 9112 6.3), and how much of that went out. Nothing else of an answer leaves
//! this file.

use httparse::{EMPTY_HEADER, Header, Response, Status};
use zdt_common::{Answer, LastAnswer};

use super::translate::{sock, state};
use crate::input::{AnswerEnd, Body, Ktime, Observation, TcpState};

/// Most header fields read; of a head with more its body is unknown.
const MAX_FIELDS: usize = 64;

/// What is longer than half of the sequence numbers cannot be measured by them.
const MEASURABLE: u32 = u32::MAX / 2;

pub(super) fn answer(event: &Answer, at: Ktime) -> Observation {
    let answer = &event.answer;
    let kept = usize::try_from(answer.kept).unwrap_or(usize::MAX);
    let head = answer.head.get(..kept).unwrap_or(&answer.head);
    let read = read(head, answer.to_head != 0);
    let end = |to| AnswerEnd {
        sent: read.len.and_then(|len| sent(answer, len, end_of(event, to))),
        terminated: read
            .len
            .and_then(|len| terminated(answer, len, end_of(event, to))),
    };
    Observation::Answer {
        sock: sock(&event.view, at),
        status: read.status,
        body: read.body,
        end: (event.ends_in != 0).then(|| end(state(event.ends_in))),
    }
}

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    /// 0: unreadable.
    status: u16,
    body: Body,
    /// Length of the head; None: it did not end in what was kept.
    len: Option<u32>,
}

fn read(head: &[u8], to_head: bool) -> Read {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut response = Response::new(&mut fields);
    let parsed = response.parse(head);
    let status = response.code.unwrap_or(0);
    let Ok(Status::Complete(len)) = parsed else {
        return Read {
            status,
            body: Body::Unknown,
            len: None,
        };
    };
    let body = if to_head || matches!(status, 100..200 | 204 | 304) {
        Body::None
    } else {
        body(response.headers)
    };
    Read {
        status,
        body,
        len: u32::try_from(len).ok(),
    }
}

/// RFC 9112 6.3, of an answer that may have a body.
fn body(fields: &[Header<'_>]) -> Body {
    let named = |name: &'static str| fields.iter().filter(move |f| f.name.eq_ignore_ascii_case(name));
    if let Some(coding) = named("transfer-encoding").next_back() {
        let last = coding.value.rsplit(|b| *b == b',').next().unwrap_or_default();
        let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        return if chunked { Body::Chunked } else { Body::UntilClose };
    }
    let mut lengths = named("content-length");
    let Some(first) = lengths.next() else {
        return Body::UntilClose;
    };
    let length = std::str::from_utf8(first.value.trim_ascii()).ok();
    let length = length.filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    match length.and_then(|t| t.parse().ok()) {
        Some(length) if lengths.all(|other| other.value == first.value) => Body::Length(length),
        _ => Body::Unknown,
    }
}

/// The sequence number behind the last byte that goes out: of an orderly end behind all that was written (the FIN follows it,
/// net/ipv4/tcp.c __tcp_close), of an abort behind what was sent by then.
fn end_of(event: &Answer, to: TcpState) -> u32 {
    match to {
        TcpState::FinWait1 => event.view.write_seq,
        _ => event.view.snd_nxt,
    }
}

/// Bytes behind the head.
fn sent(answer: &LastAnswer, head: u32, end: u32) -> Option<u32> {
    let all = end.wrapping_sub(answer.seq);
    (all <= MEASURABLE).then(|| all.saturating_sub(head))
}

/// Whether the last chunk (RFC 9112 7.1) went out. None: not seen, or trailer fields may have followed it.
fn terminated(answer: &LastAnswer, head: u32, end: u32) -> Option<bool> {
    if sent(answer, head, end)? == 0 {
        return Some(false);
    }
    // The rest had been written and not sent.
    if answer.next != end {
        return None;
    }
    let tail = answer.tail.to_be_bytes();
    if tail.ends_with(b"0\r\n\r\n") {
        Some(true)
    } else if tail.ends_with(b"\r\n\r\n") {
        None
    } else {
        Some(false)
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
