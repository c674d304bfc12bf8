//! What the node's address translation knows. Only this module speaks netlink.

mod asker;
pub mod conntrack;
pub mod counters;
pub mod dump;
pub mod entry;
pub mod iptables;
pub mod losses;
#[cfg(test)]
pub(crate) mod namespace;
mod netlink;
pub mod nftables;
pub mod ruleset;
