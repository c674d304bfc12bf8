//! Embeds the eBPF object, where there is one. A host without the eBPF toolchain builds and tests everything else;
//! loading then fails with an error that says what to do.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo talks to build scripts through the environment"
)]

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let default = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?)
        .join("../target/ebpf/bpfel-unknown-none/release/zdt-ebpf");
    println!("cargo::rerun-if-env-changed=ZDT_EBPF_OBJECT");
    let object = match env::var_os("ZDT_EBPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => default,
    };
    println!("cargo::rerun-if-changed={}", object.display());
    let code = if object.is_file() {
        let path = object.canonicalize()?;
        format!(
            "aya::include_bytes_aligned!({:?})",
            path.to_str().ok_or("the path is not UTF-8")?
        )
    } else if env::var_os("ZDT_EBPF_OBJECT").is_some() {
        return Err(format!("ZDT_EBPF_OBJECT names no file: {}", object.display()).into());
    } else {
        // An object that comes back with an old modification time (from a cache) is no change to cargo: a path that never
        // exists makes it ask again at each build, until there is one.
        println!("cargo::rerun-if-changed=no-ebpf-object");
        "&[]".to_owned()
    };
    let out = PathBuf::from(env::var("OUT_DIR")?).join("ebpf_object.rs");
    fs::write(out, code)?;
    Ok(())
}
