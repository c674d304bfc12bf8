//! What an event passes on its way to a verdict, and nothing else: the root of the crate whose instructions are counted.
//!
//! They are counted as they are shipped, optimised, and the daemon's 300 crates take minutes to build so. What is left out here
//! is what waits for the kernel and for the API server, not what works on what they say.
#![allow(
    dead_code,
    unused_imports,
    reason = "what the daemon uses of these and the counting does not"
)]

mod addrs;
pub mod causes;
pub mod correlate;
pub mod input;
pub mod verdict;

pub mod kernel {
    mod answer;
    mod packet;
    mod resets;
    mod translate;

    pub use translate::Translator;
}

pub mod netfilter {
    mod asker;
    pub mod losses;
    mod netlink;
    pub mod nftables;
    pub mod ruleset;
}

pub mod report {
    mod escape;

    pub use escape::json;
}
