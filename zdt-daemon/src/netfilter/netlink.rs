//! Netlink's own framing: messages of a datagram, attributes of a message, and how a request is laid out.
//!
//! Layouts: `include/uapi/linux/netlink.h`, `include/uapi/linux/netfilter/nfnetlink.h`.

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_DUMP: u16 = 0x300;
/// What is dumped changed while the dump ran: it may have holes.
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;

/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const ATTRIBUTE_TYPE: u16 = 0x3fff;

const FRAME_HEADER: usize = 16;
/// `struct nfgenmsg`.
pub(super) const FAMILY_HEADER: usize = 4;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(super) const IPV4: u8 = 2;
pub(super) const IPV6: u8 = 10;

/// The bytes are not what the kernel would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed netlink message: {0}")]
pub struct Malformed(pub(in crate::netfilter) &'static str);

/// One netlink message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// The messages of one datagram; ends after the first malformed one.
pub(super) struct Frames<'a>(pub &'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let length = usize::try_from(native_u32(bytes)).unwrap_or(usize::MAX);
        let (Some(header), Some(payload)) = (bytes.get(..FRAME_HEADER), bytes.get(FRAME_HEADER..length))
        else {
            return Some(Err(Malformed("a message is longer than its datagram")));
        };
        self.0 = bytes.get(aligned(length)..).unwrap_or_default();
        Some(Ok(Frame {
            kind: native_u16(header.get(4..6)?),
            flags: native_u16(header.get(6..8)?),
            sequence: native_u32(header.get(8..12)?),
            payload,
        }))
    }
}

/// One attribute without its header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute<'a> {
    pub kind: u16,
    pub value: &'a [u8],
}

/// A run of attributes; ends after the first malformed one.
pub(super) struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let header = bytes
            .get(..4)
            .map(|h| (native_u16(h), native_u16(h.get(2..).unwrap_or_default())));
        let Some((length, kind)) = header else {
            return Some(Err(Malformed("an attribute is cut off")));
        };
        let Some(value) = bytes.get(4..usize::from(length)) else {
            return Some(Err(Malformed("an attribute is longer than its message")));
        };
        self.0 = bytes.get(aligned(usize::from(length))..).unwrap_or_default();
        Some(Ok(Attribute {
            kind: kind & ATTRIBUTE_TYPE,
            value,
        }))
    }
}

impl Attribute<'_> {
    /// nf_tables has its numbers in network byte order.
    pub(super) fn u32(&self) -> Result<u32, Malformed> {
        let bytes = self
            .value
            .try_into()
            .map_err(|_| Malformed("a number is not of 4 bytes"))?;
        Ok(u32::from_be_bytes(bytes))
    }

    pub(super) fn u64(&self) -> Result<u64, Malformed> {
        let bytes = self
            .value
            .try_into()
            .map_err(|_| Malformed("a number is not of 8 bytes"))?;
        Ok(u64::from_be_bytes(bytes))
    }
}

impl<'a> Attribute<'a> {
    /// Without the NUL at its end.
    pub(super) fn name(&self) -> &'a [u8] {
        self.value.split(|b| *b == 0).next().unwrap_or_default()
    }
}

/// `NLMSG_ALIGN` and `NLA_ALIGN`.
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn native_u16(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |b| u16::from_ne_bytes(*b))
}

pub(super) fn native_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b))
}

/// Appends an attribute.
pub(super) fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // No value that is asked with is near 64 KiB.
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Appends an attribute that consists of attributes.
pub(super) fn nest(bytes: &mut Vec<u8>, kind: u16, inner: impl FnOnce(&mut Vec<u8>)) {
    let mut value = Vec::new();
    inner(&mut value);
    put(bytes, kind | NESTED, &value);
}

/// A message of a netfilter subsystem; `kind` has the subsystem in its upper byte.
pub(super) fn request(kind: u16, flags: u16, sequence: u32, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = FRAME_HEADER + FAMILY_HEADER + attributes.len();
    let mut bytes = u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}
