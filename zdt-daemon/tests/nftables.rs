//! Which endpoints the rules of nf_tables route to: recorded notifications of a real kube-proxy, and real kernels' rules in
//! namespaces of their own. The latter need root, `nft` and `iptables-nft`, and fail without.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in tests only by `#[test]`; what fails here must fail the test"
)]

#[path = "nftables/cluster.rs"]
mod cluster;
#[path = "nftables/garbage.rs"]
mod garbage;
#[path = "nftables/large.rs"]
mod large;
#[path = "nftables/live.rs"]
mod live;
#[path = "nftables/netns.rs"]
mod netns;
#[path = "nftables/recorded.rs"]
mod recorded;
#[path = "nftables/seed.rs"]
mod seed;
