//! Numbers, texts and sections of the files of a kernel.

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

pub fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}

pub fn text_at(bytes: &[u8], at: usize) -> Option<&str> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|b| *b == 0)?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

/// The sections of a 64-bit little-endian ELF file (elf(5): e_shoff at 40, e_shentsize at 58, e_shnum at 60, e_shstrndx at 62).
pub fn sections(elf: &[u8]) -> Option<Vec<(&str, &[u8])>> {
    let half = |at: usize| {
        Some(usize::from(u16::from_le_bytes(
            elf.get(at..at + 2)?.try_into().ok()?,
        )))
    };
    let (start, size, count, names) = (usize_at(elf, 40)?, half(58)?, half(60)?, half(62)?);
    let header = |n: usize| elf.get(start + n * size..start + (n + 1) * size);
    // sh_offset at 24, sh_size at 32; files of more than 4 GiB are none of these.
    let bytes = |header: &[u8]| elf.get(usize_at(header, 24)?..usize_at(header, 24)? + usize_at(header, 32)?);
    let names = bytes(header(names)?)?;
    let all = (0..count).filter_map(|n| {
        let header = header(n)?;
        Some((
            text_at(names, usize_at(header, 0)?)?,
            bytes(header).unwrap_or_default(),
        ))
    });
    Some(all.collect())
}

pub fn section<'a>(elf: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let found = sections(elf)?.into_iter().find(|(n, _)| *n == name)?;
    Some(found.1)
}
