//! Pod addresses in the order in which the CNI plugin host-local gives them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::Addresses;

/// When a released address is given again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// After all others were: host-local goes on after the last one it gave (plugins/ipam/host-local/backend/allocator,
    /// RangeIter).
    #[default]
    RoundRobin,
    /// At once: the lowest free address.
    LowestFree,
}

/// The addresses of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodIps {
    pub v4: Ipv4Addr,
    /// None where the kernel has no IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl PodIps {
    /// IPv4 first, as `status.podIPs` of an IPv4-first dual-stack cluster.
    pub fn all(&self) -> Vec<IpAddr> {
        [Some(IpAddr::V4(self.v4)), self.v6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// The addresses of a node's pods: hosts 2 to 254 of its subnet, the same in both families.
#[derive(Debug)]
pub struct Ipam {
    addresses: Addresses,
    node: u8,
    reuse: Reuse,
    v6: bool,
    last: u8,
    used: BTreeSet<u8>,
}

/// .1 is the bridge, .255 the broadcast address.
const FIRST: u8 = 2;
const LAST: u8 = 254;

impl Ipam {
    pub fn new(addresses: Addresses, node: u8, reuse: Reuse, v6: bool) -> Self {
        Self {
            addresses,
            node,
            reuse,
            v6,
            last: FIRST - 1,
            used: BTreeSet::new(),
        }
    }

    /// None: all are in use.
    pub fn take(&mut self) -> Option<PodIps> {
        let after = match self.reuse {
            Reuse::RoundRobin => self.last,
            Reuse::LowestFree => FIRST - 1,
        };
        let host = (after + 1..=LAST)
            .chain(FIRST..=after)
            .find(|host| !self.used.contains(host))?;
        self.used.insert(host);
        self.last = host;
        Some(PodIps {
            v4: self.addresses.pod_v4(self.node, host),
            v6: self.v6.then(|| self.addresses.pod_v6(self.node, host)),
        })
    }

    pub fn release(&mut self, ips: &PodIps) {
        self.used.remove(&ips.v4.octets()[3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_robin_gives_a_released_address_last() {
        let mut ipam = Ipam::new(Addresses::of(0).unwrap(), 1, Reuse::RoundRobin, true);
        let first = ipam.take().unwrap();
        assert_eq!(
            first.all(),
            [
                "10.244.1.2".parse::<IpAddr>().unwrap(),
                "fd00:10:244:1::2".parse().unwrap()
            ]
        );
        ipam.release(&first);
        for _ in 0..252 {
            assert_ne!(ipam.take().unwrap(), first);
        }
        assert_eq!(ipam.take().unwrap(), first);
        assert_eq!(ipam.take(), None);
    }

    #[test]
    fn lowest_free_gives_a_released_address_at_once() {
        let mut ipam = Ipam::new(Addresses::of(0).unwrap(), 1, Reuse::LowestFree, false);
        let first = ipam.take().unwrap();
        let _second = ipam.take().unwrap();
        ipam.release(&first);
        assert_eq!(ipam.take().unwrap(), first);
        assert_eq!(first.all().len(), 1);
    }
}
