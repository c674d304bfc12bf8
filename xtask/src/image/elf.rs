//! Whether a program needs anything but the kernel.

use anyhow::{Context as _, Result, bail};

/// The program header that names the dynamic linker (elf(5)).
const PT_INTERP: u32 = 3;

/// An error for what is no 64-bit little-endian ELF file, or asks for a dynamic linker, which the image does not have.
pub fn must_be_static(file: &[u8]) -> Result<()> {
    if !file.starts_with(b"\x7fELF\x02\x01") {
        bail!("not a 64-bit little-endian ELF file");
    }
    let number = |at: usize, size: usize| {
        let bytes = file
            .get(at..at.saturating_add(size))
            .context("the ELF header is cut short")?;
        Ok::<_, anyhow::Error>(bytes.iter().rev().fold(0_usize, |n, b| n << 8 | usize::from(*b)))
    };
    // e_phoff, e_phentsize, e_phnum of Elf64_Ehdr.
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for n in 0..count {
        if number(start.saturating_add(n * size), 4)? == PT_INTERP as usize {
            bail!("it is linked dynamically, and the image holds no libraries");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header with one program header of this type.
    fn elf(kind: u8) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01".to_vec();
        file.resize(64, 0);
        (file[32], file[54], file[56]) = (64, 56, 1);
        file.push(kind);
        file.resize(120, 0);
        file
    }

    #[test]
    fn program_that_asks_for_a_linker_is_refused() {
        must_be_static(&elf(1)).unwrap();
        assert!(
            must_be_static(&elf(3))
                .unwrap_err()
                .to_string()
                .contains("dynamically")
        );
        assert!(must_be_static(b"#!/bin/sh").is_err());
        assert!(must_be_static(&elf(1)[..60]).is_err());
    }

    #[test]
    fn this_test_is_linked_as_the_developer_links() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(must_be_static(&own).is_ok(), cfg!(target_feature = "crt-static"));
    }
}
