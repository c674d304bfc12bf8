//! `zdt version`: what this is, to the byte of what it loads into the kernel.

use std::{fmt::Write as _, io::Write as _, process::ExitCode};

use crate::kernel::object;

pub(super) fn version() -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    writeln!(out, "zdt {}", env!("CARGO_PKG_VERSION"))?;
    match object() {
        Some((bytes, hash)) => {
            let hex = hash.iter().fold(String::new(), |mut hex, byte| {
                // Writing to a String cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            writeln!(out, "ebpf object sha256:{hex} ({bytes} bytes)")?;
        }
        None => writeln!(
            out,
            "ebpf object none: built without the kernel half (cargo xtask build)"
        )?,
    }
    Ok(ExitCode::SUCCESS)
}
