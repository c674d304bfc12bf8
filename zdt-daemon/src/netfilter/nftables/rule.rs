//! Where a rule sends a packet next, read from its expressions: chains, verdict maps, and addresses to translate to.
//!
//! Layouts: `enum nft_*_attributes` in `include/uapi/linux/netfilter/nf_tables.h`; the xt target of iptables-nft is
//! `struct nf_nat_range2` and its elders in `include/uapi/linux/netfilter/nf_nat.h`, chosen by revision in
//! `net/netfilter/xt_nat.c`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::netfilter::{
    netlink::{Attribute, Attributes, IPV4, IPV6, Malformed, native_u32},
    ruleset::{Protocol, Route},
};

/// `NFT_JUMP` and `NFT_GOTO`, negative numbers in the kernel's header.
const JUMP: u32 = 0u32.wrapping_sub(3);
const GOTO: u32 = 0u32.wrapping_sub(4);

/// `NFT_META_L4PROTO`
const META_L4PROTO: u32 = 16;
const CMP_EQ: u32 = 0;
/// `NFT_NAT_DNAT`
const NAT_DNAT: u32 = 1;
/// `NF_NAT_RANGE_MAP_IPS` and `NF_NAT_RANGE_PROTO_SPECIFIED`
const MAPS_ADDRESS_AND_PORT: u32 = 0b11;

/// Where a rule leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Chain(&'a [u8]),
    /// Verdicts of a map.
    Map(&'a [u8]),
    Address(Route),
    /// Addresses and ports of a map.
    AddressMap(&'a [u8], Protocol),
    /// A translation that this decoder does not understand.
    Unknown,
}

/// The targets of a rule of a table of `family`, in order.
pub(super) fn targets(expressions: &[u8], family: u8) -> Result<Vec<Target<'_>>, Malformed> {
    let mut rule = Rule {
        family,
        registers: Registers::default(),
        l4proto: None,
        protocol: None,
        targets: Vec::new(),
    };
    for element in Attributes(expressions) {
        rule.expression(element?.value)?;
    }
    Ok(rule.targets)
}

/// A target of an element of a map.
pub(super) enum ElementTarget<'a> {
    Chain(&'a [u8]),
    Address(SocketAddr),
}

/// One element of a set: its key, and where it leads.
pub(super) struct Element<'a> {
    pub key: &'a [u8],
    pub target: Option<ElementTarget<'a>>,
}

pub(super) fn element(element: Attribute<'_>) -> Result<Element<'_>, Malformed> {
    let mut found = Element {
        key: &[],
        target: None,
    };
    for attribute in Attributes(element.value) {
        let attribute = attribute?;
        match attribute.kind {
            1 => found.key = attribute.value,
            2 => {
                for part in Attributes(attribute.value) {
                    let part = part?;
                    match part.kind {
                        1 => found.target = concatenation(part.value).map(ElementTarget::Address),
                        2 => found.target = verdict(part.value)?.map(ElementTarget::Chain),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// `ipv4_addr . inet_service` or `ipv6_addr . inet_service`: each field is padded to 4 bytes.
fn concatenation(value: &[u8]) -> Option<SocketAddr> {
    match value.len() {
        8 => Some(SocketAddr::new(address(value, IPV4)?, port(value.get(4..)?)?)),
        20 => Some(SocketAddr::new(address(value, IPV6)?, port(value.get(16..)?)?)),
        _ => None,
    }
}

fn address(bytes: &[u8], family: u8) -> Option<IpAddr> {
    match family {
        IPV4 => bytes.first_chunk::<4>().map(|b| IpAddr::V4(Ipv4Addr::from(*b))),
        IPV6 => bytes.first_chunk::<16>().map(|b| IpAddr::V6(Ipv6Addr::from(*b))),
        _ => None,
    }
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// The chain that a verdict jumps or goes to.
fn verdict(nest: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let (mut code, mut chain) = (0, None);
    for attribute in Attributes(nest) {
        let attribute = attribute?;
        match attribute.kind {
            1 => code = attribute.u32()?,
            2 => chain = Some(attribute.name()),
            _ => {}
        }
    }
    Ok(chain.filter(|_| code == JUMP || code == GOTO))
}

/// The registers of a rule while it is read, in words of 4 bytes (`struct nft_regs`): values that are known, and a map
/// that was looked up.
#[derive(Default)]
struct Registers<'a> {
    words: [Option<[u8; 4]>; 16],
    map: Option<(&'a [u8], usize)>,
}

impl<'a> Registers<'a> {
    fn load(&mut self, start: usize, value: &[u8]) {
        for (word, bytes) in self.words.iter_mut().skip(start).zip(value.chunks(4)) {
            let mut padded = [0; 4];
            padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            *word = Some(padded);
        }
    }

    fn load_map(&mut self, start: usize, map: &'a [u8]) {
        self.words.iter_mut().skip(start).for_each(|word| *word = None);
        self.map = Some((map, start));
    }

    fn read(&self, start: usize, words: usize) -> Option<Vec<u8>> {
        let words = self.words.get(start..start.checked_add(words)?)?;
        words
            .iter()
            .copied()
            .collect::<Option<Vec<_>>>()
            .map(|w| w.concat())
    }
}

/// The word that a register begins at: 1 to 4 are of 16 bytes, 8 to 23 of 4 (`nft_parse_register`). The verdict's
/// register has none.
fn word(register: u32) -> Option<usize> {
    let word = match register {
        1..=4 => (register - 1) * 4,
        8..=23 => register - 8,
        _ => return None,
    };
    usize::try_from(word).ok()
}

struct Rule<'a> {
    family: u8,
    registers: Registers<'a>,
    /// Where the transport protocol was loaded to by the expression before.
    l4proto: Option<u32>,
    protocol: Option<Protocol>,
    targets: Vec<Target<'a>>,
}

/// The values of attributes 1 to 7 of an expression.
type Fields<'a> = [Option<Attribute<'a>>; 8];

impl<'a> Rule<'a> {
    fn expression(&mut self, expression: &'a [u8]) -> Result<(), Malformed> {
        let (mut name, mut inner) = (&[][..], &[][..]);
        for attribute in Attributes(expression) {
            let attribute = attribute?;
            match attribute.kind {
                1 => name = attribute.name(),
                2 => inner = attribute.value,
                _ => {}
            }
        }
        let loaded = self.l4proto.take();
        // Most of a rule set's bytes are comments and counters: read only what leads somewhere.
        if !matches!(
            name,
            b"meta" | b"payload" | b"cmp" | b"immediate" | b"lookup" | b"nat" | b"redir" | b"target"
        ) {
            return Ok(());
        }
        let mut fields: Fields<'a> = [None; 8];
        for attribute in Attributes(inner) {
            let attribute = attribute?;
            if let Some(field) = fields.get_mut(usize::from(attribute.kind)) {
                *field = Some(attribute);
            }
        }
        match name {
            b"meta" if number(&fields, 2)? == Some(META_L4PROTO) => self.l4proto = number(&fields, 1)?,
            b"payload" => self.protocol_field(&fields)?,
            b"cmp" => self.compare(&fields, loaded)?,
            b"immediate" => self.immediate(&fields)?,
            b"lookup" => self.lookup(&fields)?,
            b"nat" => self.nat(&fields)?,
            // To an address of this machine, whichever it is.
            b"redir" => self.targets.push(Target::Unknown),
            b"target" if fields[1].is_some_and(|n| n.name() == b"REDIRECT") => {
                self.targets.push(Target::Unknown);
            }
            b"target" if fields[1].is_some_and(|n| n.name() == b"DNAT") => {
                let route = self.xt_dnat(&fields)?;
                self.targets.push(route.map_or(Target::Unknown, Target::Address));
            }
            _ => {}
        }
        Ok(())
    }

    /// The protocol field of the network header, which some iptables versions read in place of the meta key.
    fn protocol_field(&mut self, fields: &Fields<'a>) -> Result<(), Malformed> {
        let offset = if self.family == IPV4 { 9 } else { 6 };
        let network_header = number(fields, 2)? == Some(1);
        if network_header && number(fields, 3)? == Some(offset) && number(fields, 4)? == Some(1) {
            self.l4proto = number(fields, 1)?;
        }
        Ok(())
    }

    fn compare(&mut self, fields: &Fields<'a>, loaded: Option<u32>) -> Result<(), Malformed> {
        if loaded.is_none() || number(fields, 1)? != loaded || number(fields, 2)? != Some(CMP_EQ) {
            return Ok(());
        }
        for part in Attributes(fields[3].map_or(&[], |f| f.value)) {
            let part = part?;
            if let (1, &[value]) = (part.kind, part.value) {
                self.protocol = Protocol::from_number(value);
            }
        }
        Ok(())
    }

    fn immediate(&mut self, fields: &Fields<'a>) -> Result<(), Malformed> {
        let register = number(fields, 1)?;
        for part in Attributes(fields[2].map_or(&[], |f| f.value)) {
            let part = part?;
            match part.kind {
                1 => {
                    if let Some(start) = register.and_then(word) {
                        self.registers.load(start, part.value);
                    }
                }
                2 => self.targets.extend(verdict(part.value)?.map(Target::Chain)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Without a destination register it asks only whether the set has the key.
    fn lookup(&mut self, fields: &Fields<'a>) -> Result<(), Malformed> {
        if let (Some(set), Some(register)) = (fields[1], number(fields, 3)?) {
            match word(register) {
                Some(start) => self.registers.load_map(start, set.name()),
                None => self.targets.push(Target::Map(set.name())),
            }
        }
        Ok(())
    }

    fn nat(&mut self, fields: &Fields<'a>) -> Result<(), Malformed> {
        if number(fields, 1)? != Some(NAT_DNAT) {
            return Ok(());
        }
        // NFTA_NAT_REG_ADDR_MIN and _MAX, _PROTO_MIN and _MAX: a range is no single endpoint.
        for (least, greatest) in [(3, 4), (5, 6)] {
            let greatest = number(fields, greatest)?;
            if greatest.is_some() && greatest != number(fields, least)? {
                self.targets.push(Target::Unknown);
                return Ok(());
            }
        }
        let family = number(fields, 2)?.and_then(|f| u8::try_from(f).ok());
        let address_word = number(fields, 3)?.and_then(word);
        let port_word = number(fields, 5)?.and_then(word);
        let target = match (family, address_word, port_word) {
            (Some(family), Some(at), Some(port_at)) => self.translation(family, at, port_at),
            _ => None,
        };
        self.targets.push(target.unwrap_or(Target::Unknown));
        Ok(())
    }

    fn translation(&self, family: u8, at: usize, port_at: usize) -> Option<Target<'a>> {
        let words = if family == IPV4 { 1 } else { 4 };
        let protocol = self.protocol?;
        if let Some(bytes) = self.registers.read(at, words) {
            let to = SocketAddr::new(address(&bytes, family)?, port(&self.registers.read(port_at, 1)?)?);
            return Some(Target::Address(Route { protocol, to }));
        }
        let (map, start) = self.registers.map?;
        let concatenated =
            at == start && port_at == start + words && self.registers.read(port_at, 1).is_none();
        concatenated.then_some(Target::AddressMap(map, protocol))
    }

    /// `-j DNAT --to-destination` of exactly one address and port.
    fn xt_dnat(&self, fields: &Fields<'a>) -> Result<Option<Route>, Malformed> {
        let range = fields[3].map_or(&[][..], |f| f.value);
        Ok(self.xt_range(number(fields, 2)?.unwrap_or(0), range))
    }

    fn xt_range(&self, revision: u32, range: &[u8]) -> Option<Route> {
        // (flags, least and greatest address, least and greatest port)
        let (flags, least, greatest, ports) = match revision {
            // struct nf_nat_ipv4_multi_range_compat, of one range
            0 => (
                range.get(4..8)?,
                range.get(8..12)?,
                range.get(12..16)?,
                range.get(16..20)?,
            ),
            // struct nf_nat_range, and nf_nat_range2 which goes on after it
            1 | 2 => (
                range.get(..4)?,
                range.get(4..20)?,
                range.get(20..36)?,
                range.get(36..40)?,
            ),
            _ => return None,
        };
        let one_port = ports.get(..2) == ports.get(2..);
        if native_u32(flags) & MAPS_ADDRESS_AND_PORT != MAPS_ADDRESS_AND_PORT
            || least != greatest
            || !one_port
        {
            return None;
        }
        Some(Route {
            protocol: self.protocol?,
            to: SocketAddr::new(address(least, self.family)?, port(ports)?),
        })
    }
}

fn number(fields: &Fields<'_>, kind: usize) -> Result<Option<u32>, Malformed> {
    fields.get(kind).copied().flatten().map(|f| f.u32()).transpose()
}
