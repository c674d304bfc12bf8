//! Finds a Rust toolchain that can build the eBPF half: one whose sysroot holds the sources of `core`.
//!
//! No prebuilt `core` exists for the eBPF target, so cargo builds it (`-Z build-std=core`). With the sources at hand
//! a stable compiler does that when it is told `RUSTC_BOOTSTRAP=1`; no nightly is needed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{child, needs};

/// A toolchain with the sources of core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rust {
    pub rustc: PathBuf,
    pub cargo: PathBuf,
    pub core: PathBuf,
    /// `1.96.0`
    pub release: String,
    /// `22.1.8`
    pub llvm: String,
}

/// What `rustc` says about itself.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    release: String,
    llvm: String,
}

/// The first fitting toolchain, or why each candidate does not fit.
pub fn find() -> Result<std::result::Result<Rust, Vec<String>>> {
    let mut rejected = Vec::new();
    for candidate in candidates() {
        match fits(&candidate)? {
            Ok(rust) => return Ok(Ok(rust)),
            Err(why) => rejected.push(format!("{}: {why}", candidate.display())),
        }
    }
    Ok(Err(rejected))
}

/// The developer's own rustc first, then the distribution's.
fn candidates() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for candidate in [child::find("rustc"), Some("/usr/bin/rustc".into())] {
        if let Some(path) = candidate.filter(|p| p.is_file())
            && !all.contains(&path)
        {
            all.push(path);
        }
    }
    all
}

fn fits(rustc: &Path) -> Result<std::result::Result<Rust, String>> {
    let sysroot = child::stdout(child::command(rustc).args(["--print", "sysroot"]))?;
    let sysroot = PathBuf::from(sysroot.trim());
    let core = sysroot.join("lib/rustlib/src/rust/library/core");
    if !core.is_dir() {
        return Ok(Err(format!(
            "has no sources of core (with rustup: `rustup component add rust-src`); looked for {}",
            core.display()
        )));
    }
    let said = child::stdout(child::command(rustc).arg("-vV"))?;
    let version = parse(&said).with_context(|| format!("`{} -vV` printed {said:?}", rustc.display()))?;
    if let Some(why) = too_old_or_new(&version) {
        return Ok(Err(why));
    }
    let bin = sysroot.join("bin");
    let (rustc, cargo) = (bin.join("rustc"), bin.join("cargo"));
    if !cargo.is_file() {
        return Ok(Err(format!("has no cargo beside it: no {}", cargo.display())));
    }
    Ok(Ok(Rust {
        rustc,
        cargo,
        core,
        release: version.release,
        llvm: version.llvm,
    }))
}

fn too_old_or_new(version: &Version) -> Option<String> {
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    if numbers(&version.release) < numbers(oldest) {
        return Some(format!(
            "is Rust {}; the kernel half needs {oldest}",
            version.release
        ));
    }
    if numbers(&version.llvm).first() > Some(&needs::LLVM) {
        return Some(format!(
            "has LLVM {}, and bpf-linker is built with LLVM {}, which cannot read newer bitcode; \
             use a Rust with LLVM {} or older",
            version.llvm,
            needs::LLVM,
            needs::LLVM
        ));
    }
    None
}

fn parse(said: &str) -> Option<Version> {
    let field = |name: &str| said.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    Some(Version {
        release: field("release:")?.to_owned(),
        llvm: field("LLVM version:")?.to_owned(),
    })
}

/// The numbers of a version, without what follows a `-`.
fn numbers(version: &str) -> Vec<u32> {
    let plain = version.split('-').next().unwrap_or_default();
    plain.split('.').map_while(|n| n.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(release: &str, llvm: &str) -> Version {
        Version {
            release: release.into(),
            llvm: llvm.into(),
        }
    }

    #[test]
    fn release_and_llvm_are_read_from_what_rustc_prints() {
        let said =
            "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse(said), Some(version("1.96.0", "22.1.8")));
        assert_eq!(parse("rustc 1.96.0"), None);
    }

    #[test]
    fn versions_compare_as_numbers_not_as_text() {
        assert!(numbers("1.100.0") > numbers("1.95"));
        assert_eq!(numbers("1.98.0-nightly"), [1, 98, 0]);
    }

    #[test]
    fn a_compiler_that_bpf_linker_cannot_follow_is_refused_with_the_reason() {
        assert_eq!(too_old_or_new(&version("1.96.0", "22.1.8")), None);
        let old = too_old_or_new(&version("1.63.0", "14.0.6")).unwrap();
        assert!(old.contains("1.63.0"), "{old}");
        let new = too_old_or_new(&version("1.99.0", "23.1.0")).unwrap();
        assert!(new.contains("LLVM 23.1.0"), "{new}");
    }
}
