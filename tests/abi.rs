//! The ABI between the kernel half and the daemon (invariant I2): what is written is what is read, and whatever is not
//! understood is an error.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

use std::mem::{align_of, size_of};

use zdt_common::{
    ABI, Answer, DecodeError, Event, Forwarded, HEADER_LEN, HOOK_COUNT, Header, Hook, IcmpError, Listener,
    OFFSET_SPECS, Offsets, OomVictim, ProcessExit, QueueLook, ResetSent, Retransmit, Signal, SkbDropped,
    SockErr, SockView, StateChange, TableReplaced, decode,
};
use zerocopy::IntoBytes;

/// Numbers are never reused: records of older versions name hooks by them.
const NUMBERS: &[(u16, &str)] = &[
    (0, "inet_sock_set_state"),
    (1, "inet_sock_set_state/listen"),
    (2, "tcp_send_reset"),
    (3, "tcp_receive_reset"),
    (4, "inet_sk_error_report"),
    (5, "tcp_retransmit_skb"),
    (6, "signal_generate"),
    (7, "sched_process_exit"),
    (8, "mark_victim"),
    (9, "percpu_free_percpu/xt_replace"),
    (10, "kfree_skb"),
    (11, "icmp_send"),
    (12, "net_dev_queue"),
    (13, "inet_sock_set_state/queue"),
    (15, "cgroup_skb_egress"),
    (16, "tcp_v4_send_reset"),
    (17, "tcp_v6_send_reset"),
];

/// Bytes that start at an 8-byte boundary, as ring buffer records do.
struct Aligned(Vec<u64>);

impl Aligned {
    fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self(words)
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn header(hook: u16, len: usize) -> Header {
    Header {
        ktime_ns: 0x0102_0304_0506_0708,
        abi: ABI,
        hook,
        len: u32::try_from(len).unwrap(),
    }
}

/// A record whose payload counts its bytes, so that a field read from the wrong place shows.
fn record(hook: Hook) -> (Vec<u8>, Vec<u8>) {
    let payload: Vec<u8> = (0..hook.payload_len())
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    let mut bytes = header(hook as u16, payload.len()).as_bytes().to_vec();
    bytes.extend(&payload);
    (bytes, payload)
}

/// The payload's bytes again. A new hook does not compile before it is added here.
fn bytes_of<'a>(event: &Event<'a>) -> &'a [u8] {
    match event {
        Event::InetSockSetState(p) => p.as_bytes(),
        Event::Listen(p) => p.as_bytes(),
        Event::TcpSendReset(p) | Event::TcpV4SendReset(p) | Event::TcpV6SendReset(p) => p.as_bytes(),
        Event::TcpReceiveReset(p) | Event::InetSkErrorReport(p) => p.as_bytes(),
        Event::TcpRetransmitSkb(p) => p.as_bytes(),
        Event::SignalGenerate(p) => p.as_bytes(),
        Event::SchedProcessExit(p) => p.as_bytes(),
        Event::MarkVictim(p) => p.as_bytes(),
        Event::XtReplace(p) => p.as_bytes(),
        Event::KfreeSkb(p) => p.as_bytes(),
        Event::IcmpSend(p) => p.as_bytes(),
        Event::NetDevQueue(p) => p.as_bytes(),
        Event::ListenQueue(p) => p.as_bytes(),
        Event::CgroupSkbEgress(p) => p.as_bytes(),
    }
}

#[test]
fn every_hook_round_trips() {
    assert!(Hook::ALL.iter().all(|h| usize::from(*h as u16) < HOOK_COUNT));
    for &hook in Hook::ALL {
        let (bytes, payload) = record(hook);
        let aligned = Aligned::new(&bytes);
        let decoded = decode(aligned.bytes()).unwrap();
        assert_eq!((decoded.hook, decoded.ktime_ns), (hook, 0x0102_0304_0506_0708));
        assert_eq!(bytes_of(&decoded.event), payload, "{}", hook.name());
        assert_eq!(Hook::from_wire(hook as u16), Some(hook));
    }
}

#[test]
fn hook_numbers_are_what_they_always_were() {
    let now: Vec<_> = Hook::ALL.iter().map(|h| (*h as u16, h.name())).collect();
    assert_eq!(
        now, NUMBERS,
        "a new hook goes to the end; a number is never reused"
    );
}

#[test]
fn a_payload_has_no_padding_that_is_not_written_down() {
    // `IntoBytes` is derived only for types without implicit padding: this does not compile otherwise.
    fn whole<T: IntoBytes>() -> (usize, usize) {
        (size_of::<T>(), align_of::<T>())
    }
    let all = [
        whole::<Header>(),
        whole::<SockView>(),
        whole::<StateChange>(),
        whole::<Listener>(),
        whole::<ResetSent>(),
        whole::<SockErr>(),
        whole::<Retransmit>(),
        whole::<Signal>(),
        whole::<ProcessExit>(),
        whole::<OomVictim>(),
        whole::<TableReplaced>(),
        whole::<SkbDropped>(),
        whole::<IcmpError>(),
        whole::<Forwarded>(),
        whole::<QueueLook>(),
        whole::<Answer>(),
    ];
    for (size, align) in all {
        assert_eq!(
            align, 8,
            "a ring buffer record starts at an 8-byte boundary, and so does what follows the header"
        );
        assert!(size.is_multiple_of(8));
        assert!(
            HEADER_LEN + size <= 2048,
            "the kernel half reserves this on each event"
        );
    }
}

#[test]
fn unknown_hook_is_an_error_not_ub() {
    let unknown = u16::try_from(HOOK_COUNT).unwrap();
    for id in [unknown, u16::MAX] {
        let bytes = Aligned::new(&[header(id, 8).as_bytes(), &[0; 8]].concat());
        assert_eq!(decode(bytes.bytes()).unwrap_err(), DecodeError::UnknownHook(id));
    }
}

#[test]
fn an_event_of_another_abi_is_an_error_that_names_both_versions() {
    let mut other = header(0, 0);
    other.abi = ABI + 1;
    let bytes = Aligned::new(other.as_bytes());
    let error = decode(bytes.bytes()).unwrap_err();
    assert_eq!(error, DecodeError::Abi(ABI + 1));
    let text = error.to_string();
    assert!(
        text.contains(&ABI.to_string()) && text.contains(&(ABI + 1).to_string()),
        "{text}"
    );
}

#[test]
fn a_record_cut_anywhere_is_an_error() {
    for &hook in Hook::ALL {
        let (bytes, _) = record(hook);
        let aligned = Aligned::new(&bytes);
        for len in 0..bytes.len() {
            let error = decode(&aligned.bytes()[..len]).unwrap_err();
            assert!(
                matches!(error, DecodeError::Short { .. }),
                "{} at {len}: {error:?}",
                hook.name()
            );
        }
    }
}

#[test]
fn a_header_that_promises_another_length_than_its_hook_has_is_an_error() {
    for &hook in Hook::ALL {
        let (mut bytes, _) = record(hook);
        bytes[..HEADER_LEN].copy_from_slice(header(hook as u16, hook.payload_len() + 8).as_bytes());
        bytes.extend([0; 8]);
        let aligned = Aligned::new(&bytes);
        assert!(matches!(
            decode(aligned.bytes()).unwrap_err(),
            DecodeError::Short { .. }
        ));
    }
}

#[test]
fn bytes_off_the_boundary_are_an_error() {
    let (bytes, _) = record(Hook::TcpSendReset);
    let mut shifted = vec![0; 4];
    shifted.extend(bytes);
    let aligned = Aligned::new(&shifted);
    assert_eq!(
        decode(&aligned.bytes()[4..]).unwrap_err(),
        DecodeError::Misaligned
    );
}

#[test]
fn bytes_after_the_payload_are_the_ring_buffers_and_are_ignored() {
    let (mut bytes, payload) = record(Hook::TcpSendReset);
    bytes.extend([0xaa; 16]);
    let aligned = Aligned::new(&bytes);
    assert_eq!(bytes_of(&decode(aligned.bytes()).unwrap().event), payload);
}

#[test]
fn each_offset_has_one_rule_to_find_it() {
    assert_eq!(size_of::<Offsets>(), OFFSET_SPECS.len() * size_of::<u16>());
    let mut names: Vec<_> = OFFSET_SPECS.iter().map(|s| s.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), OFFSET_SPECS.len());
}
