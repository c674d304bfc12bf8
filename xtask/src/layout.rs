//! Where things are in the repository.

use std::path::{Path, PathBuf};

/// Target of the kernel half.
pub const BPF_TARGET: &str = "bpfel-unknown-none";

/// The repository's root: the folder above this crate.
pub fn root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().unwrap_or(crate_dir).to_path_buf()
}

/// Cargo's target folder of the workspace.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Programs that setup builds for this repository only.
pub fn tools() -> PathBuf {
    target().join("tools")
}

pub fn bpf_linker() -> PathBuf {
    tools().join("bin/bpf-linker")
}

/// A binary of the workspace in the given profile.
pub fn binary(name: &str, release: bool) -> PathBuf {
    target()
        .join(if release { "release" } else { "debug" })
        .join(name)
}

pub fn scenarios() -> PathBuf {
    root().join("tests/scenarios")
}
