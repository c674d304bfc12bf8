//! The parsers of the kernel's bytes with what they need and nothing else: the root of the crate that `fuzz/` builds.
//!
//! The daemon has 300 crates; instrumented, they take minutes to build, and none of them parses what the kernel sends.

pub mod input;
pub mod netfilter;
