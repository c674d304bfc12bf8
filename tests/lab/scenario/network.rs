//! The nodes' network and their kube-proxies.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    pub family: Family,
    pub backend: Backend,
    /// kube-proxy's `minSyncPeriod`.
    pub min_sync_period_ms: u64,
    /// What each rewrite of the rules waits besides: a large table, a busy node.
    pub rules_delay_ms: u64,
    /// The only node that `rules_delay_ms` is for; absent: all.
    pub rules_delay_node: Option<u8>,
    /// kube-proxy removes the UDP entries of endpoints that are gone.
    pub udp_cleanup: bool,
    /// A network policy engine drops what is for a new pod until so long after the pod got its network; 0: there is none.
    pub policy_delay_ms: u64,
    /// An address is given again as soon as it is free.
    pub reuse_addresses: bool,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            family: Family::V4,
            backend: Backend::IptablesNft,
            min_sync_period_ms: 1000,
            rules_delay_ms: 0,
            rules_delay_node: None,
            udp_cleanup: true,
            policy_delay_ms: 0,
            reuse_addresses: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    V4,
    V6,
}

/// Who holds kube-proxy's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// kube-proxy's iptables mode, over nf_tables.
    IptablesNft,
    /// kube-proxy's iptables mode, over x_tables.
    IptablesLegacy,
    /// kube-proxy's nftables mode.
    Nftables,
}
