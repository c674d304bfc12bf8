//! The ABI between zdt's kernel half (`zdt-ebpf`) and its daemon (`zdt-daemon`).
//!
//! One event is a [`Header`] and the payload that its [`Hook`] names. Everything is an integer or an array of
//! integers, little or big endian as the machine is (both halves run on one machine), without implicit padding.
//! Both halves compile this crate; it has no logic beyond decoding.
#![no_std]

mod addr;
mod answer;
mod decode;
mod header;
mod hook;
mod offsets;
mod packet;
mod payload;

pub use addr::{
    ADDR_LOCAL_POD, ADDR_NODE, ADDR_POD, ADDR_VIP, Addr, BESIDE, Endpoint, IN_TRANSIT, PORT_WORDS,
};
pub use answer::{Answer, HEAD_LEN, LastAnswer};
pub use decode::{DecodeError, Decoded, Event, decode};
pub use header::{ABI, HEADER_LEN, Header};
pub use hook::{HOOK_COUNT, Hook};
pub use offsets::{ABSENT, OFFSET_SPECS, OffsetSpec, Offsets};
pub use packet::{
    Ends, Forwarded, IPS_SEEN_REPLY, IPS_TEMPLATE, IcmpError, NO_REASON, PacketView, Service, SkbDropped,
};
pub use payload::{
    CGROUP_NAME_LEN, COMM_LEN, Cgroup, Listener, OomVictim, ProcessExit, QueueLook, ResetSent, Retransmit,
    SIGNAL_NO_CODE, Signal, SockErr, SockView, StateChange, TABLE_NAME_LEN, TABLE_QUIET_NS, TableReplaced,
    Task,
};
