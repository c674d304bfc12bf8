//! Every address of one world, decided by its slot: worlds that run side by side share none.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Worlds that one machine can run side by side; the narrowest part is 198.51.100.0/24 in pieces of 16.
pub const SLOTS: u8 = 16;

/// Nodes of one world: its pods have 16 subnets, the first of which stays empty.
pub const NODES: u8 = 15;

/// The addresses of the world in one slot. Slot 0 has those of the pictures and documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Below [`SLOTS`].
    slot: u8,
}

/// A network: `10.244.0.0/20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    ip: IpAddr,
    prefix: u8,
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl Addresses {
    /// None: there is no such slot.
    pub fn of(slot: u8) -> Option<Self> {
        (slot < SLOTS).then_some(Self { slot })
    }

    /// All pods of the world: kube-proxy's `--cluster-cidr`.
    pub fn pods(self, v6: bool) -> Subnet {
        let ip = self.pod_ip(0, 0, v6);
        let prefix = if v6 { 60 } else { 20 };
        Subnet { ip, prefix }
    }

    /// One host of a node's pod subnet (/24 and /64); 1 is the bridge. Nodes count from 1.
    pub fn pod_ip(self, node: u8, host: u8, v6: bool) -> IpAddr {
        if v6 {
            self.pod_v6(node, host).into()
        } else {
            self.pod_v4(node, host).into()
        }
    }

    pub fn pod_v4(self, node: u8, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.subnet(node), host)
    }

    pub fn pod_v6(self, node: u8, host: u8) -> Ipv6Addr {
        let subnet = u16::from(self.subnet(node));
        Ipv6Addr::new(0xfd00, 0x10, 0x244, subnet, 0, 0, 0, u16::from(host))
    }

    fn subnet(self, node: u8) -> u8 {
        16 * self.slot + node.min(NODES)
    }

    /// All services of the world.
    pub fn services(self, v6: bool) -> Subnet {
        let prefix = if v6 { 64 } else { 24 };
        Subnet {
            ip: self.service(0, v6),
            prefix,
        }
    }

    /// An address of the service network: part of kubeadm's default 10.96.0.0/12, and one beside the pods' for IPv6.
    pub fn service(self, host: u8, v6: bool) -> IpAddr {
        if v6 {
            IpAddr::from([0xfd00, 0x10, 0x96, u16::from(self.slot), 0, 0, 0, u16::from(host)])
        } else {
            IpAddr::from([10, 96, self.slot, host])
        }
    }

    /// A node on the nodes' network (/24).
    pub fn node_v4(self, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.slot, node)
    }

    /// The same (/64).
    pub fn node_v6(self, node: u8) -> Ipv6Addr {
        let slot = u16::from(self.slot);
        Ipv6Addr::new(0xfd00, 0x10, 0x99, slot, 0, 0, 0, u16::from(node))
    }

    /// The nodes' way out of their network (/24).
    pub fn router_v4(self) -> Ipv4Addr {
        self.node_v4(254)
    }

    /// The same (/64).
    pub fn router_v6(self) -> Ipv6Addr {
        self.node_v6(254)
    }

    /// The client outside of the cluster (/28): documentation addresses (RFC 5737, RFC 3849).
    pub fn outside_v4(self) -> Ipv4Addr {
        self.far_v4(2)
    }

    /// The same (/64).
    pub fn outside_v6(self) -> Ipv6Addr {
        self.far_v6(2)
    }

    /// The outside client's way in (/28).
    pub fn outside_router_v4(self) -> Ipv4Addr {
        self.far_v4(1)
    }

    /// The same (/64).
    pub fn outside_router_v6(self) -> Ipv6Addr {
        self.far_v6(1)
    }

    fn far_v4(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 51, 100, 16 * self.slot + host)
    }

    fn far_v6(self, host: u8) -> Ipv6Addr {
        let (slot, host) = (u16::from(self.slot), u16::from(host));
        Ipv6Addr::new(0x2001, 0xdb8, 0x64, slot, 0, 0, 0, host)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn slot_0_has_the_documented_addresses() {
        let a = Addresses::of(0).unwrap();
        assert_eq!(a.pods(false).to_string(), "10.244.0.0/20");
        assert_eq!(a.pods(true).to_string(), "fd00:10:244::/60");
        assert_eq!(a.pod_v4(1, 2).to_string(), "10.244.1.2");
        assert_eq!(a.pod_v6(1, 2).to_string(), "fd00:10:244:1::2");
        assert_eq!(a.service(10, false).to_string(), "10.96.0.10");
        assert_eq!(a.service(10, true).to_string(), "fd00:10:96::a");
        assert_eq!(a.node_v4(1).to_string(), "10.99.0.1");
        assert_eq!(a.outside_v4().to_string(), "198.51.100.2");
        assert_eq!(a.outside_v6().to_string(), "2001:db8:64::2");
    }

    #[test]
    fn no_two_slots_and_no_two_nodes_share_an_address() {
        let mut seen = BTreeSet::new();
        let mut all = 0;
        let mut add = |ip: IpAddr| {
            all += 1;
            assert!(seen.insert(ip), "{ip} twice");
        };
        for a in (0..SLOTS).filter_map(Addresses::of) {
            for v6 in [false, true] {
                add(a.service(10, v6));
                add(a.pod_ip(0, 0, v6));
                (1..=NODES).for_each(|node| add(a.pod_ip(node, 1, v6)));
            }
            for node in 1..=NODES {
                add(a.node_v4(node).into());
                add(a.node_v6(node).into());
            }
            for ip in [a.outside_v4(), a.outside_router_v4(), a.router_v4()] {
                add(ip.into());
            }
            for ip in [a.outside_v6(), a.outside_router_v6(), a.router_v6()] {
                add(ip.into());
            }
        }
        assert_eq!(seen.len(), all);
        assert_eq!(Addresses::of(SLOTS), None);
    }
}
