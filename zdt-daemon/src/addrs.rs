//! Addresses of a cluster, kept small: there are 150,000 of them and more, most are IPv4, and an [`IpAddr`] has room for IPv6.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A value for each of many addresses.
#[derive(Clone, Debug)]
pub(crate) struct AddrMap<V> {
    v4: HashMap<Ipv4Addr, V>,
    v6: HashMap<Ipv6Addr, V>,
}

impl<V> Default for AddrMap<V> {
    fn default() -> Self {
        Self {
            v4: HashMap::new(),
            v6: HashMap::new(),
        }
    }
}

impl<V> AddrMap<V> {
    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub(crate) fn contains_key(&self, addr: &IpAddr) -> bool {
        self.get(addr).is_some()
    }

    pub(crate) fn get(&self, addr: &IpAddr) -> Option<&V> {
        match addr {
            IpAddr::V4(v4) => self.v4.get(v4),
            IpAddr::V6(v6) => self.v6.get(v6),
        }
    }

    pub(crate) fn get_mut(&mut self, addr: &IpAddr) -> Option<&mut V> {
        match addr {
            IpAddr::V4(v4) => self.v4.get_mut(v4),
            IpAddr::V6(v6) => self.v6.get_mut(v6),
        }
    }

    pub(crate) fn remove(&mut self, addr: &IpAddr) -> Option<V> {
        match addr {
            IpAddr::V4(v4) => self.v4.remove(v4),
            IpAddr::V6(v6) => self.v6.remove(v6),
        }
    }
}

impl<V: Default> AddrMap<V> {
    pub(crate) fn or_default(&mut self, addr: IpAddr) -> &mut V {
        match addr {
            IpAddr::V4(v4) => self.v4.entry(v4).or_default(),
            IpAddr::V6(v6) => self.v6.entry(v6).or_default(),
        }
    }
}

/// A value for each of a few addresses, in the order of the addresses; rarely changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddrList<V> {
    v4: Box<[(Ipv4Addr, V)]>,
    v6: Box<[(Ipv6Addr, V)]>,
}

/// A few addresses.
pub(crate) type AddrSet = AddrList<()>;

impl<V> Default for AddrList<V> {
    fn default() -> Self {
        Self {
            v4: Box::default(),
            v6: Box::default(),
        }
    }
}

/// Of values for the same address the first stays.
impl<V> FromIterator<(IpAddr, V)> for AddrList<V> {
    fn from_iter<I: IntoIterator<Item = (IpAddr, V)>>(all: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (addr, value) in all {
            match addr {
                IpAddr::V4(addr) => v4.push((addr, value)),
                IpAddr::V6(addr) => v6.push((addr, value)),
            }
        }
        v4.sort_by_key(|(addr, _)| *addr);
        v4.dedup_by_key(|(addr, _)| *addr);
        v6.sort_by_key(|(addr, _)| *addr);
        v6.dedup_by_key(|(addr, _)| *addr);
        Self {
            v4: v4.into(),
            v6: v6.into(),
        }
    }
}

impl FromIterator<IpAddr> for AddrSet {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(all: I) -> Self {
        all.into_iter().map(|addr| (addr, ())).collect()
    }
}

impl<V> AddrList<V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(crate) fn get(&self, addr: IpAddr) -> Option<&V> {
        match addr {
            IpAddr::V4(addr) => {
                let at = self.v4.binary_search_by_key(&addr, |(addr, _)| *addr);
                self.v4.get(at.ok()?).map(|(_, value)| value)
            }
            IpAddr::V6(addr) => {
                let at = self.v6.binary_search_by_key(&addr, |(addr, _)| *addr);
                self.v6.get(at.ok()?).map(|(_, value)| value)
            }
        }
    }

    pub(crate) fn contains(&self, addr: IpAddr) -> bool {
        self.get(addr).is_some()
    }

    /// The addresses in their order: all of IPv4 before those of IPv6, as [`IpAddr`] has it.
    pub(crate) fn addrs(&self) -> impl Iterator<Item = IpAddr> + Clone {
        let v4 = self.v4.iter().map(|(addr, _)| IpAddr::V4(*addr));
        v4.chain(self.v6.iter().map(|(addr, _)| IpAddr::V6(*addr)))
    }

    /// With their values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpAddr, &V)> {
        let v4 = self.v4.iter().map(|(addr, value)| (IpAddr::V4(*addr), value));
        v4.chain(self.v6.iter().map(|(addr, value)| (IpAddr::V6(*addr), value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn a_set_has_each_address_once_in_the_order_that_addresses_have() {
        let mixed = ips(&["fd00::2", "10.0.0.9", "10.0.0.1", "fd00::1", "10.0.0.9"]);
        let set: AddrSet = mixed.iter().copied().collect();
        let ordered: std::collections::BTreeSet<IpAddr> = mixed.iter().copied().collect();
        assert_eq!(
            set.addrs().collect::<Vec<_>>(),
            ordered.into_iter().collect::<Vec<_>>()
        );
        assert!(mixed.iter().all(|ip| set.contains(*ip)));
        assert!(
            ips(&["10.0.0.2", "fd00::3", "::ffff:10.0.0.1"])
                .iter()
                .all(|ip| !set.contains(*ip))
        );
    }

    #[test]
    fn of_two_values_for_an_address_the_first_stays() {
        let two = ips(&["10.0.0.1", "10.0.0.1"]);
        let list: AddrList<u32> = two.into_iter().zip([1, 2]).collect();
        assert_eq!(list.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_map_tells_the_families_apart() {
        let all = ips(&["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"]);
        let mut map = AddrMap::default();
        for (n, ip) in (1..).zip(&all) {
            *map.or_default(*ip) += n;
        }
        assert_eq!(map.len(), 3);
        assert_eq!(
            all.iter().map(|ip| map.get(ip).copied()).collect::<Vec<_>>(),
            [Some(1), Some(2), Some(3)]
        );
        assert_eq!(map.remove(&all[0]), Some(1));
        assert!(!map.contains_key(&all[0]));
        assert_eq!(map.remove(&all[2]), Some(3));
        assert_eq!(map.get_mut(&all[1]), Some(&mut 2));
        assert_eq!(map.len(), 1);
    }
}
