//! HTTP/1 answers as a pod's connection carries them: where an answer's head begins, and what has gone out since.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::SockView;

/// Most bytes kept of an answer's head. A power of two: the kernel half bounds a length by a mask. Of a longer head only the
/// status is known.
pub const HEAD_LEN: usize = 1024;

/// The last answer of a connection: value of the `ANSWERS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LastAnswer {
    /// The last bytes that went out, the very last one lowest.
    pub tail: u64,
    /// Sequence number of the head's first byte.
    pub seq: u32,
    /// Sequence number behind the last byte that went out.
    pub next: u32,
    /// Bytes of `head` that are there: of the segment that the head begins, which may be less than the head.
    pub kept: u32,
    /// 1: an answer has begun, and what stands here is about it.
    pub begun: u8,
    /// 1: it answers a HEAD request, so it has no body.
    pub to_head: u8,
    /// 1: a HEAD request has come that is not answered yet.
    pub head_asked: u8,
    pub pad: u8,
    pub head: [u8; HEAD_LEN],
}

impl LastAnswer {
    /// None yet.
    pub const NONE: Self = Self {
        tail: 0,
        seq: 0,
        next: 0,
        kept: 0,
        begun: 0,
        to_head: 0,
        head_asked: 0,
        pad: 0,
        head: [0; HEAD_LEN],
    };
}

/// Payload of [`crate::Hook::CgroupSkbEgress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Answer {
    /// The server's side. Its ends, cookie and cgroup; everything where the connection ends.
    pub view: SockView,
    pub answer: LastAnswer,
    /// TCP_* state number that the connection goes to (include/net/tcp_states.h); 0: it goes on.
    pub ends_in: u8,
    pub pad: [u8; 7],
}
