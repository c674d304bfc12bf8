//! Tests of `answer`: what a head promises, and what of it went out.

use proptest::prelude::*;
use zdt_common::{HEAD_LEN, LastAnswer};

use super::*;

/// TCP_FIN_WAIT1 and TCP_CLOSE (include/net/tcp_states.h).
const FIN_WAIT1: u8 = 4;
const CLOSE: u8 = 7;

fn answer_of(seq: u32, segment: &[u8]) -> LastAnswer {
    let mut answer = LastAnswer::NONE;
    let kept = segment.len().min(HEAD_LEN);
    answer.head[..kept].copy_from_slice(&segment[..kept]);
    answer.kept = u32::try_from(kept).unwrap();
    answer.begun = 1;
    answer.seq = seq;
    answer.next = seq.wrapping_add(u32::try_from(segment.len()).unwrap());
    for byte in segment {
        answer.tail = answer.tail << 8 | u64::from(*byte);
    }
    answer
}

fn event(answer: &LastAnswer, ends_in: u8) -> Answer {
    let view = zdt_common::SockView {
        write_seq: answer.next,
        snd_nxt: answer.next,
        ..Default::default()
    };
    Answer {
        view,
        answer: *answer,
        ends_in,
        pad: [0; 7],
    }
}

fn told(event: &Answer) -> (u16, Body, Option<AnswerEnd>) {
    match super::answer(event, Ktime(1)) {
        Observation::Answer {
            status, body, end, ..
        } => (status, body, end),
        other => panic!("{other:?}"),
    }
}

fn end(sent: u32, terminated: Option<bool>) -> AnswerEnd {
    AnswerEnd {
        sent: Some(sent),
        terminated,
    }
}

#[test]
fn body_is_what_the_head_promises() {
    let body_of = |fields: &str| read(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes(), false).body;
    assert_eq!(body_of("Content-Length: 10000\r\n"), Body::Length(10_000));
    assert_eq!(
        body_of("content-length:7\r\nContent-Length: 7\r\n"),
        Body::Length(7)
    );
    assert_eq!(
        body_of("Content-Length: 7\r\nContent-Length: 8\r\n"),
        Body::Unknown
    );
    for nonsense in ["+7", "-7", "7, 7", "", "99999999999999999999999"] {
        assert_eq!(
            body_of(&format!("Content-Length: {nonsense}\r\n")),
            Body::Unknown,
            "{nonsense}"
        );
    }
    assert_eq!(
        body_of("Content-Length: 7\r\nTransfer-Encoding: gzip, Chunked\r\n"),
        Body::Chunked
    );
    assert_eq!(body_of("Transfer-Encoding: gzip\r\n"), Body::UntilClose);
    assert_eq!(body_of("Server: x\r\n"), Body::UntilClose);
}

#[test]
fn some_answers_have_no_body_whatever_their_length_says() {
    let head = |status| format!("HTTP/1.1 {status} X\r\nContent-Length: 10000\r\n\r\n");
    for status in [204, 304] {
        assert_eq!(read(head(status).as_bytes(), false).body, Body::None);
    }
    assert_eq!(read(head(200).as_bytes(), true).body, Body::None);
    assert_eq!(read(head(200).as_bytes(), false).body, Body::Length(10_000));
}

#[test]
fn head_that_does_not_end_tells_its_status_only() {
    let long = format!(
        "HTTP/1.1 503 X\r\nSet-Cookie: {}\r\nContent-Length: 3\r\n\r\nabc",
        "x".repeat(1100)
    );
    let (status, body, end) = told(&event(&answer_of(1, long.as_bytes()), FIN_WAIT1));
    assert_eq!((status, body), (503, Body::Unknown));
    assert_eq!(
        end,
        Some(AnswerEnd {
            sent: None,
            terminated: None
        })
    );
    assert_eq!(read(b"\0\0\0\0", false).status, 0);
}

#[test]
fn answer_of_a_connection_that_goes_on_has_no_end() {
    let whole = b"HTTP/1.1 503 X\r\nContent-Length: 3\r\n\r\nno\n";
    assert_eq!(
        told(&event(&answer_of(1, whole), 0)),
        (503, Body::Length(3), None)
    );
}

#[test]
fn what_was_sent_is_counted_across_the_turn_of_the_sequence_numbers() {
    let part = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\nhalf";
    let (_, body, end_seen) = told(&event(&answer_of(u32::MAX - 20, part), FIN_WAIT1));
    assert_eq!((body, end_seen.unwrap().sent), (Body::Length(10_000), Some(4)));
}

#[test]
fn orderly_end_sends_what_was_written_and_an_abort_does_not() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n";
    let mut written = event(&answer_of(7, head), FIN_WAIT1);
    written.view.write_seq = written.view.snd_nxt.wrapping_add(10_000);
    assert_eq!(told(&written).2.unwrap().sent, Some(10_000));
    written.ends_in = CLOSE;
    assert_eq!(told(&written).2.unwrap().sent, Some(0));
}

#[test]
fn chunked_body_ends_with_its_last_chunk() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let of = |rest: &str| {
        told(&event(
            &answer_of(9, format!("{head}{rest}").as_bytes()),
            FIN_WAIT1,
        ))
        .2
    };
    assert_eq!(of("3\r\nabc\r\n0\r\n\r\n"), Some(end(13, Some(true))));
    assert_eq!(of("3\r\nabc\r\n"), Some(end(8, Some(false))));
    assert_eq!(of(""), Some(end(0, Some(false))));
    // Trailer fields, or a chunk that ends in an empty line.
    assert_eq!(of("0\r\nX: y\r\n\r\n"), Some(end(11, None)));
    // Written, and not yet sent: its end was not seen.
    let mut unsent = event(&answer_of(9, format!("{head}3\r\nabc\r\n").as_bytes()), FIN_WAIT1);
    unsent.view.write_seq = unsent.view.snd_nxt.wrapping_add(5);
    assert_eq!(told(&unsent).2, Some(end(13, None)));
}

proptest! {
    #[test]
    fn no_head_is_too_strange_to_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..1100), seq: u32, kept: u32, write_seq: u32) {
        let mut strange = event(&answer_of(seq, &bytes), FIN_WAIT1);
        strange.answer.kept = kept;
        strange.view.write_seq = write_seq;
        let _ = told(&strange);
    }

    #[test]
    fn no_field_is_too_strange_to_be_read(fields in "(?s)([!-~]{0,20}: ?.{0,30}\r\n){0,70}") {
        let _ = read(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes(), false);
    }
}
