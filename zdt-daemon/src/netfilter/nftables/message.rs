//! Decodes netlink messages of nf_tables, as the kernel sends them to listeners and in dumps.
//!
//! Layouts: `include/uapi/linux/netfilter/nf_tables.h`; who fills them: `nf_tables_fill_*_info` in
//! `net/netfilter/nf_tables_api.c`. Names stay bytes: nothing promises that they are UTF-8.

use crate::netfilter::netlink::{Attributes, FAMILY_HEADER, Frame, Malformed};

/// `NFNL_SUBSYS_NFTABLES`, the upper byte of a message type.
pub(super) const SUBSYSTEM: u16 = 10;

/// `enum nf_tables_msg_types`: what is asked.
pub(super) const GETCHAIN: u16 = 4;
pub(super) const GETRULE: u16 = 7;
pub(super) const GETSET: u16 = 10;
pub(super) const GETSETELEM: u16 = 13;
pub(super) const GETGEN: u16 = 16;

/// `NFT_DATA_VERDICT`: a map's elements are verdicts.
const DATA_VERDICT: u32 = 0xffff_ff00;
const SET_ANONYMOUS: u32 = 0x1;
const SET_MAP: u32 = 0x8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    New,
    Deleted,
}

/// What the elements of a map are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Elements {
    /// No map, or one of something else.
    Other,
    Verdicts,
    /// Plain values, addresses among them.
    Values,
}

/// One message, its names borrowed from the datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub family: u8,
    /// The low 16 bits of the generation that it belongs to (`nft_base_seq_be16`).
    pub generation: u16,
    pub change: Change,
    pub table: &'a [u8],
    pub body: Body<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'a> {
    Table,
    Chain {
        name: &'a [u8],
        handle: u64,
        /// `NFTA_HOOK_HOOKNUM`, of a base chain of type nat.
        nat_hook: Option<u32>,
    },
    Rule {
        chain: &'a [u8],
        handle: u64,
        expressions: &'a [u8],
    },
    Set {
        name: &'a [u8],
        handle: u64,
        anonymous: bool,
        elements: Elements,
    },
    Elements {
        set: &'a [u8],
        list: &'a [u8],
    },
    /// The end of a transaction.
    Generation {
        id: u32,
        by: &'a [u8],
    },
    Other,
}

/// The message of `frame`, which is of [`SUBSYSTEM`].
pub(super) fn decode<'a>(frame: &Frame<'a>) -> Result<Message<'a>, Malformed> {
    let header = frame.payload.get(..FAMILY_HEADER);
    let (Some(&[family, _, high, low]), Some(rest)) = (header, frame.payload.get(FAMILY_HEADER..)) else {
        return Err(Malformed("no family header"));
    };
    let attributes = Attributes(rest);
    let number = frame.kind & 0xff;
    let (change, (table, body)) = match number {
        0 => (Change::New, table(attributes)?),
        2 => (Change::Deleted, table(attributes)?),
        3 => (Change::New, chain(attributes)?),
        5 => (Change::Deleted, chain(attributes)?),
        6 => (Change::New, rule(attributes)?),
        8 => (Change::Deleted, rule(attributes)?),
        9 => (Change::New, set(attributes)?),
        11 => (Change::Deleted, set(attributes)?),
        12 => (Change::New, elements(attributes)?),
        14 => (Change::Deleted, elements(attributes)?),
        15 => (Change::New, generation(attributes)?),
        _ => (Change::New, (&[][..], Body::Other)),
    };
    Ok(Message {
        family,
        generation: u16::from_be_bytes([high, low]),
        change,
        table,
        body,
    })
}

type Named<'a> = Result<(&'a [u8], Body<'a>), Malformed>;

fn table(attributes: Attributes<'_>) -> Named<'_> {
    let mut name = None;
    for attribute in attributes {
        let attribute = attribute?;
        if attribute.kind == 1 {
            name = Some(attribute.name());
        }
    }
    Ok((name.ok_or(Malformed("a table without a name"))?, Body::Table))
}

fn chain(attributes: Attributes<'_>) -> Named<'_> {
    let (mut table, mut name, mut handle, mut hook, mut nat) = (None, None, 0, None, false);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            1 => table = Some(attribute.name()),
            2 => handle = attribute.u64()?,
            3 => name = Some(attribute.name()),
            4 => hook = first_u32(attribute.value, 1)?,
            7 => nat = attribute.name() == b"nat",
            _ => {}
        }
    }
    let body = Body::Chain {
        name: name.ok_or(Malformed("a chain without a name"))?,
        handle,
        nat_hook: hook.filter(|_| nat),
    };
    Ok((table.ok_or(Malformed("a chain without a table"))?, body))
}

fn rule(attributes: Attributes<'_>) -> Named<'_> {
    let (mut table, mut chain, mut handle, mut expressions) = (None, None, None, &[][..]);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            1 => table = Some(attribute.name()),
            2 => chain = Some(attribute.name()),
            3 => handle = Some(attribute.u64()?),
            4 => expressions = attribute.value,
            _ => {}
        }
    }
    let body = Body::Rule {
        chain: chain.ok_or(Malformed("a rule without a chain"))?,
        handle: handle.ok_or(Malformed("a rule without a handle"))?,
        expressions,
    };
    Ok((table.ok_or(Malformed("a rule without a table"))?, body))
}

fn set(attributes: Attributes<'_>) -> Named<'_> {
    let (mut table, mut name, mut handle, mut flags, mut of) = (None, None, 0, 0, 0);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            1 => table = Some(attribute.name()),
            2 => name = Some(attribute.name()),
            3 => flags = attribute.u32()?,
            6 => of = attribute.u32()?,
            16 => handle = attribute.u64()?,
            _ => {}
        }
    }
    let elements = match (flags & SET_MAP != 0, of) {
        (true, DATA_VERDICT) => Elements::Verdicts,
        (true, _) => Elements::Values,
        (false, _) => Elements::Other,
    };
    let body = Body::Set {
        name: name.ok_or(Malformed("a set without a name"))?,
        handle,
        anonymous: flags & SET_ANONYMOUS != 0,
        elements,
    };
    Ok((table.ok_or(Malformed("a set without a table"))?, body))
}

fn elements(attributes: Attributes<'_>) -> Named<'_> {
    let (mut table, mut set, mut list) = (None, None, &[][..]);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            1 => table = Some(attribute.name()),
            2 => set = Some(attribute.name()),
            3 => list = attribute.value,
            _ => {}
        }
    }
    let body = Body::Elements {
        set: set.ok_or(Malformed("elements without a set"))?,
        list,
    };
    Ok((table.ok_or(Malformed("elements without a table"))?, body))
}

fn generation(attributes: Attributes<'_>) -> Named<'_> {
    let (mut id, mut by) = (None, &[][..]);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            1 => id = Some(attribute.u32()?),
            3 => by = attribute.name(),
            _ => {}
        }
    }
    let id = id.ok_or(Malformed("a generation without a number"))?;
    Ok((&[], Body::Generation { id, by }))
}

/// The number in the first attribute `kind` of a nest.
fn first_u32(nest: &[u8], kind: u16) -> Result<Option<u32>, Malformed> {
    for attribute in Attributes(nest) {
        let attribute = attribute?;
        if attribute.kind == kind {
            return attribute.u32().map(Some);
        }
    }
    Ok(None)
}
