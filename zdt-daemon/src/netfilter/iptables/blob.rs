//! The bytes of a legacy table as entries: every offset and size is checked, whatever the bytes are.
//!
//! Layouts: `struct ipt_entry`, `struct ip6t_entry`, `struct xt_entry_target` (include/uapi/linux/netfilter*). They are
//! the kernel's of this architecture; on 64-bit ones all are the same.

use super::Family;

const _: () = assert!(
    size_of::<usize>() == 8,
    "32-bit layouts of xt_counters differ between architectures"
);

/// `struct xt_entry_target` without what follows it; `user.name` is 29 bytes at 2, `user.revision` at 31.
const TARGET_LEN: usize = 32;
const TARGET_NAME: std::ops::Range<usize> = 2..31;
const TARGET_REVISION: usize = 31;

/// `XT_STANDARD_TARGET`, `XT_ERROR_TARGET` (include/uapi/linux/netfilter/x_tables.h).
const STANDARD: &[u8] = b"";
const ERROR: &[u8] = b"ERROR";

/// Why bytes are no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, in the entry at byte {at}")]
pub struct Malformed {
    pub at: usize,
    pub what: &'static str,
}

/// Where the fields of an entry are.
struct Layout {
    /// `ip.proto`, 16 bits.
    proto: usize,
    /// `ip.invflags`, 8 bits.
    inverted: usize,
    /// `target_offset`, 16 bits; `next_offset` follows it.
    target_offset: usize,
    /// Length of the entry without matches and target.
    len: usize,
}

impl Layout {
    const fn of(family: Family) -> &'static Self {
        match family {
            Family::V4 => &Self {
                proto: 80,
                inverted: 83,
                target_offset: 88,
                len: 112,
            },
            Family::V6 => &Self {
                proto: 128,
                inverted: 132,
                target_offset: 140,
                len: 168,
            },
        }
    }
}

/// One rule, or the head of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Where it starts, counted from the table's first entry.
    pub at: usize,
    /// Where the next one starts.
    pub next: usize,
    /// IANA number of the protocol that it matches; 0: any.
    pub proto: u16,
    /// `IPT_INV_*` bits.
    pub inverted: u8,
    pub target: Target<'a>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// Ends the chain or the walk.
    Verdict,
    /// Goes on at this offset.
    Jump(usize),
    /// No rule: the head of a chain of this name.
    Head(&'a [u8]),
    /// A target of an extension, its revision, and what follows the header.
    Extension(&'a [u8], u8, &'a [u8]),
}

/// The entries of a table, in order. Ends after the first malformed one.
pub(super) fn entries(table: &[u8], family: Family) -> impl Iterator<Item = Result<Entry<'_>, Malformed>> {
    let layout = Layout::of(family);
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= table.len() {
            return None;
        }
        let entry = entry(table, at, layout);
        at = entry.map_or(table.len(), |entry| entry.next);
        Some(entry)
    })
}

fn entry<'a>(table: &'a [u8], at: usize, layout: &Layout) -> Result<Entry<'a>, Malformed> {
    let malformed = |what| Malformed { at, what };
    let rest = table.get(at..).unwrap_or_default();
    let head = rest
        .get(..layout.len)
        .ok_or(malformed("the table ends in the middle"))?;
    let field = |offset| u16_at(head, offset).ok_or(malformed("the table ends in the middle"));
    let (target_offset, next_offset) = (field(layout.target_offset)?, field(layout.target_offset + 2)?);
    let (target_offset, next_offset) = (usize::from(target_offset), usize::from(next_offset));
    if target_offset < layout.len {
        return Err(malformed("the target lies inside the entry's own fields"));
    }
    let bytes = rest
        .get(..next_offset)
        .ok_or(malformed("it is longer than the table"))?;
    let target = bytes
        .get(target_offset..)
        .filter(|target| target.len() >= TARGET_LEN)
        .ok_or(malformed("the target is longer than the entry"))?;
    let target_len = usize::from(u16_at(target, 0).unwrap_or(0));
    if target_len < TARGET_LEN {
        return Err(malformed("the target is shorter than its header"));
    }
    let target = target
        .get(..target_len)
        .ok_or(malformed("the target is longer than the entry"))?;
    Ok(Entry {
        at,
        next: at + next_offset,
        proto: field(layout.proto)?,
        inverted: head.get(layout.inverted).copied().unwrap_or(0),
        target: target_of(target).ok_or(malformed("the target is too short for its kind"))?,
    })
}

fn target_of(target: &[u8]) -> Option<Target<'_>> {
    let name = until_nul(target.get(TARGET_NAME)?);
    let rest = target.get(TARGET_LEN..)?;
    Some(match name {
        STANDARD => {
            // `struct xt_standard_target`: a jump's offset, or a verdict below 0.
            let verdict = i32::from_ne_bytes(*rest.first_chunk()?);
            usize::try_from(verdict).map_or(Target::Verdict, Target::Jump)
        }
        ERROR => Target::Head(until_nul(rest)),
        name => Target::Extension(name, *target.get(TARGET_REVISION)?, rest),
    })
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
