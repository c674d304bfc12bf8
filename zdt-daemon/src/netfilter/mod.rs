//! What the node's address translation knows. Only this module speaks netlink.

pub mod conntrack;
pub mod iptables;
pub mod nftables;
pub mod ruleset;
