//! What every event starts with.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the layouts in this crate; a daemon refuses events of another one.
pub const ABI: u16 = 1;

/// Size of [`Header`] in bytes.
pub const HEADER_LEN: usize = core::mem::size_of::<Header>();

/// Precedes each payload in the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// `bpf_ktime_get_ns()`: CLOCK_MONOTONIC in nanoseconds.
    pub ktime_ns: u64,
    /// [`ABI`].
    pub abi: u16,
    /// A [`crate::Hook`] as its number.
    pub hook: u16,
    /// Length of the payload in bytes.
    pub len: u32,
}
