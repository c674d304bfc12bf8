//! What a binary says that it loads into the kernel is what was built.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "clippy.toml allows them in tests only by `#[test]`; what fails here must fail the test"
)]

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use sha2::{Digest as _, Sha256};

#[test]
fn version_names_the_ebpf_object_by_its_hash() {
    let built = std::env::var_os("ZDT_EBPF_OBJECT").map_or_else(
        || {
            PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../target/ebpf/bpfel-unknown-none/release/zdt-ebpf")
        },
        PathBuf::from,
    );
    let bytes = fs::read(built).expect("the kernel half is built: cargo xtask build");
    let mut hex = String::new();
    for byte in Sha256::digest(&bytes) {
        write!(hex, "{byte:02x}").unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_zdt"))
        .arg("version")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!(
            "zdt {}\nebpf object sha256:{hex} ({} bytes)\n",
            env!("CARGO_PKG_VERSION"),
            bytes.len()
        )
    );
}
