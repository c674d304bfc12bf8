//! What must be on the machine: programs and files, the Debian package of each, and why.

use std::path::Path;

use crate::child;

/// The LLVM that bpf-linker is built with. It reads the bitcode of every rustc whose LLVM is not newer.
pub const LLVM: u32 = 22;
/// The LLVM of [`LLVM`] where Debian installs it.
pub const LLVM_DIR: &str = "/usr/lib/llvm-22";
pub const BPF_LINKER: &str = "0.13.0";
pub const CARGO_DENY: &str = "0.20.2";

/// One thing that must be there.
#[derive(Debug)]
pub struct Need {
    /// A program's name, or a file's absolute path.
    pub what: &'static str,
    pub package: &'static str,
    pub why: &'static str,
}

impl Need {
    pub fn is_met(&self) -> bool {
        if self.what.starts_with('/') {
            Path::new(self.what).exists()
        } else {
            child::find(self.what).is_some()
        }
    }
}

/// For the lab (`cargo xtask demo`, `score`, `test`).
pub const LAB: &[Need] = &[
    Need {
        what: "setpriv",
        package: "util-linux",
        why: "the lab's daemons run with the capabilities of the manifest only",
    },
    Need {
        what: "ip",
        package: "iproute2",
        why: "the lab's network namespaces, veth pairs and bridge",
    },
    Need {
        what: "iptables-nft-restore",
        package: "iptables",
        why: "kube-proxy's rules, nft and legacy backend",
    },
    Need {
        what: "nft",
        package: "nftables",
        why: "kube-proxy's rules in its nftables mode, and to look at rule generations",
    },
    Need {
        what: "conntrack",
        package: "conntrack",
        why: "each scenario starts from a known conntrack state",
    },
    Need {
        what: "nginx",
        package: "nginx",
        why: "a proxy in front of the lab's workload (its own service, which Debian starts, is not needed)",
    },
    Need {
        what: "haproxy",
        package: "haproxy",
        why: "the same, another one",
    },
    Need {
        what: "promtool",
        package: "prometheus",
        why: "the tests check the daemon's metrics with Prometheus' own tool",
    },
    Need {
        what: "prometheus",
        package: "prometheus",
        why: "the tests let it scrape the lab's daemons, and ask it every query of the dashboards",
    },
    Need {
        what: "chromium",
        package: "chromium",
        why: "the tests open the daemon's page in a real browser",
    },
];

/// For the benchmark of the whole: what an engineer would reach for instead.
pub const TOOLS: &[Need] = &[
    Need {
        what: "tcpdump",
        package: "tcpdump",
        why: "the benchmark compares zdt with it",
    },
    Need {
        what: "bpftrace",
        package: "bpftrace",
        why: "the same",
    },
    Need {
        what: "tcplife-bpfcc",
        package: "bpfcc-tools",
        why: "the same",
    },
];

/// To count instructions (`cargo xtask bench instructions`).
pub const INSTRUCTIONS: &[Need] = &[Need {
    what: "valgrind",
    package: "valgrind",
    why: "callgrind counts what an input takes in user space",
}];

/// To build bpf-linker.
pub const LINKER: &[Need] = &[
    Need {
        what: "/usr/lib/llvm-22/lib/libLLVM.so",
        package: "llvm-22-dev",
        why: "bpf-linker is made of LLVM",
    },
    Need {
        what: "c++",
        package: "g++",
        why: "bpf-linker links libstdc++",
    },
];

/// To build libFuzzer (`cargo xtask fuzz`).
pub const FUZZ: &[Need] = &[Need {
    what: "c++",
    package: "g++",
    why: "libFuzzer is C++, built from the sources in its crate",
}];

/// To boot other kernels (`cargo xtask kernels`).
pub const KERNELS: &[Need] = &[
    Need {
        what: "/bin/busybox",
        package: "busybox-static",
        why: "the first program of an emulated machine",
    },
    Need {
        what: "modprobe",
        package: "kmod",
        why: "which modules that machine needs first",
    },
    Need {
        what: "xz",
        package: "xz-utils",
        why: "Debian's kernels are packed with it",
    },
    Need {
        what: "zstd",
        package: "zstd",
        why: "the same, other releases",
    },
    Need {
        what: "lz4",
        package: "lz4",
        why: "the same",
    },
    Need {
        what: "/usr/share/keyrings/debian-archive-keyring.gpg",
        package: "debian-archive-keyring",
        why: "the signatures of Debian's archives",
    },
];

/// A complete Rust toolchain beside the developer's own.
pub const RUST: &[Need] = &[
    Need {
        what: "/usr/bin/rustc",
        package: "rustc-web",
        why: "a compiler whose sources of core are installed",
    },
    Need {
        what: "/usr/bin/cargo",
        package: "cargo-web",
        why: "the cargo of that compiler",
    },
    Need {
        what: "/usr/lib/rustlib/src/rust/library/core",
        package: "rust-web-src",
        why: "the sources of core, to build them for the eBPF target",
    },
];
