//! Which endpoints a node's rules send new connections to, whoever wrote them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What kube-proxy balances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// By the name that the Kubernetes API gives it.
    pub fn is(self, name: &str) -> bool {
        match self {
            Self::Tcp => name == "TCP",
            Self::Udp => name == "UDP",
            Self::Sctp => name == "SCTP",
        }
    }

    /// By its IANA number, as rules carry it.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// As Kubernetes writes it (core/v1 Protocol).
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// Its IANA number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(super) fn is_tcp(&self) -> bool {
        *self == Self::Tcp
    }
}

/// Some service chain of this node sends new connections to this endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Route {
    pub protocol: Protocol,
    pub to: SocketAddr,
}

/// The routes that one generation of the rules added and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteChange {
    pub added: Vec<Route>,
    pub removed: Vec<Route>,
}

impl RouteChange {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// Where rules live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// kube-proxy's iptables mode, by an iptables that writes nf_tables.
    IptablesNft,
    /// kube-proxy's nftables mode.
    Nftables,
    /// kube-proxy's iptables mode, by an iptables that replaces x_tables.
    IptablesLegacy,
}

/// One transaction changed the routes; or, as the first of a run, all routes there are. `Input::at` is when this daemon
/// learned of it: the rules were in force a little earlier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesState {
    /// None: all of them, at the start.
    pub backend: Option<Backend>,
    /// The kernel's number of the generation, where it has one.
    pub generation: Option<u32>,
    /// `comm` of the process that wrote it, where the kernel tells.
    pub by: Option<String>,
    #[serde(flatten)]
    pub change: RouteChange,
    /// Something was lost before, and the rules were read anew.
    pub resynced: bool,
    /// What was there when zdt started.
    pub first: bool,
}
