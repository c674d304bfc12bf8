//! Joins a module's type information with the kernel's, on which it rests.
//!
//! A module's BTF holds only what the kernel's does not: its types are numbered on from the kernel's last, and its names
//! are found behind the kernel's (kernel/bpf/btf.c btf_parse_module; btf_name_by_offset for `start_str_off`). So both
//! tables one behind the other are BTF again.

/// `struct btf_header` (include/uapi/linux/btf.h): magic and version, then five numbers of 32 bits.
const HEADER_LEN: usize = 24;

/// Both tables of one BTF.
struct Tables<'a> {
    header: &'a [u8],
    types: &'a [u8],
    names: &'a [u8],
}

/// BTF of the kernel and one module; None: one of them is no BTF.
pub(super) fn join(kernel: &[u8], module: &[u8]) -> Option<Vec<u8>> {
    let (kernel, module) = (tables(kernel)?, tables(module)?);
    let types = u32::try_from(kernel.types.len() + module.types.len()).ok()?;
    let names = u32::try_from(kernel.names.len() + module.names.len()).ok()?;
    let mut joined = kernel.header.get(..4)?.to_vec();
    let numbers = [u32::try_from(HEADER_LEN).ok()?, 0, types, types, names];
    joined.extend(numbers.into_iter().flat_map(u32::to_ne_bytes));
    for part in [kernel.types, module.types, kernel.names, module.names] {
        joined.extend_from_slice(part);
    }
    Some(joined)
}

fn tables(btf: &[u8]) -> Option<Tables<'_>> {
    let number = |at: usize| -> Option<usize> {
        let bytes = btf.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_ne_bytes(bytes)).ok()
    };
    let table = |offset: usize, len: usize| -> Option<&[u8]> {
        let start = number(4)?.checked_add(number(offset)?)?;
        btf.get(start..start.checked_add(number(len)?)?)
    };
    Some(Tables {
        header: btf.get(..HEADER_LEN)?,
        types: table(8, 12)?,
        names: table(16, 20)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn btf(types: &[u8], names: &[u8]) -> Vec<u8> {
        let len = |part: &[u8]| u32::try_from(part.len()).unwrap();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        let numbers = [24, 0, len(types), len(types), len(names)];
        bytes.extend(numbers.into_iter().flat_map(u32::to_ne_bytes));
        bytes.extend_from_slice(types);
        bytes.extend_from_slice(names);
        bytes
    }

    #[test]
    fn tables_follow_each_other_and_their_lengths_add_up() {
        let joined = join(&btf(b"base", b"\0one\0"), &btf(b"more", b"two\0")).unwrap();
        assert_eq!(joined, btf(b"basemore", b"\0one\0two\0"));
    }

    #[test]
    fn cut_anywhere_is_no_btf() {
        let whole = btf(b"base", b"\0one\0");
        for len in 0..whole.len() {
            assert_eq!(join(&whole, &whole[..len]), None, "{len}");
            assert_eq!(join(&whole[..len], &whole), None, "{len}");
        }
    }

    #[test]
    fn lengths_beyond_the_end_are_no_btf() {
        let mut bytes = btf(b"base", b"\0");
        bytes[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(join(&bytes, &bytes), None);
    }
}
