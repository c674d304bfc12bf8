//! From bytes to an event, without copying. Whatever is not understood is an error, never a guess.

use zerocopy::FromBytes as _;

pub use crate::hook::Event;
use crate::{ABI, HEADER_LEN, Header, Hook};

/// Why bytes are not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than a header, or than the header's `len` promises, or than the hook's payload has.
    Short { have: usize, need: usize },
    /// Written by a kernel half of another version.
    Abi(u16),
    /// No hook has this number.
    UnknownHook(u16),
    /// The payload does not start at an 8-byte boundary.
    Misaligned,
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::Short { have, need } => write!(f, "event of {have} bytes where {need} are needed"),
            Self::Abi(v) => write!(f, "event of ABI version {v}; this zdt reads version {ABI}"),
            Self::UnknownHook(id) => write!(f, "event of unknown hook {id}"),
            Self::Misaligned => write!(f, "event does not start at an 8-byte boundary"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A decoded event.
#[derive(Clone, Copy, Debug)]
pub struct Decoded<'a> {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub ktime_ns: u64,
    pub hook: Hook,
    pub event: Event<'a>,
}

/// Decodes one ring buffer record. `bytes` must start at an 8-byte boundary (ring buffer records do); bytes after
/// the payload are ignored, since the ring buffer rounds lengths up.
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, DecodeError> {
    let short = DecodeError::Short {
        have: bytes.len(),
        need: HEADER_LEN,
    };
    if !bytes.as_ptr().addr().is_multiple_of(8) {
        return Err(DecodeError::Misaligned);
    }
    let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| short)?;
    if header.abi != ABI {
        return Err(DecodeError::Abi(header.abi));
    }
    let hook = Hook::from_wire(header.hook).ok_or(DecodeError::UnknownHook(header.hook))?;
    let need = hook.payload_len();
    let short = DecodeError::Short {
        have: rest.len(),
        need,
    };
    if header.len as usize != need {
        return Err(DecodeError::Short {
            have: header.len as usize,
            need,
        });
    }
    let payload = rest.get(..need).ok_or(short)?;
    let event = crate::hook::payload(hook, payload).ok_or(short)?;
    Ok(Decoded {
        ktime_ns: header.ktime_ns,
        hook,
        event,
    })
}
