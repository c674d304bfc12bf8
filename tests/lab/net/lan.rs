//! What connects the nodes: a namespace that is their switch and their router to the outside.

use std::net::Ipv4Addr;

use super::{Netns, Run, ip::NetError, ip_batch, sysctls};

/// The nodes' network, and one place outside of the cluster.
#[derive(Debug)]
pub struct Lan {
    switch: Netns,
    outside: Netns,
    v6: bool,
}

impl Lan {
    /// The outside client's address.
    pub const OUTSIDE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

    pub fn create(run: &Run) -> Result<Self, NetError> {
        let v6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
        let switch = Netns::create(run.netns("lan"))?;
        let outside = Netns::create(run.netns("outside"))?;
        let mut settings = vec![("net/ipv4/ip_forward", "1")];
        if v6 {
            settings.push(("net/ipv6/conf/all/forwarding", "1"));
        }
        sysctls(switch.name(), &settings)?;
        // Documentation addresses (RFC 5737, RFC 3849) outside; what no route leads to vanishes, as on the way to the
        // Internet: without the blackhole a service without rules would be answered by an ICMP error.
        let mut here = "\
            link add lan0 type bridge\n\
            link set lan0 address 02:00:0a:63:00:fe\n\
            addr add 10.99.0.254/24 dev lan0\n\
            link set lan0 up\n\
            link add out0 type veth peer name eth0 netns OUT\n\
            addr add 198.51.100.1/24 dev out0\n\
            link set out0 up\n\
            route add blackhole default metric 4096\n"
            .replace("OUT", outside.name());
        let mut there = "\
            addr add 198.51.100.2/24 dev eth0\n\
            link set eth0 up\n\
            route add default via 198.51.100.1\n"
            .to_owned();
        if v6 {
            here += "addr add fd00:10:99::fe/64 dev lan0 nodad\n\
                     addr add 2001:db8:64::1/64 dev out0 nodad\n\
                     route add blackhole ::/0 metric 4096\n";
            there += "addr add 2001:db8:64::2/64 dev eth0 nodad\n\
                      route add default via 2001:db8:64::1\n";
        }
        ip_batch(switch.name(), &here)?;
        ip_batch(outside.name(), &there)?;
        Ok(Self { switch, outside, v6 })
    }

    /// The switch's and router's namespace.
    pub fn netns(&self) -> &str {
        self.switch.name()
    }

    /// Where clients outside of the cluster run.
    pub fn outside(&self) -> &str {
        self.outside.name()
    }

    /// Whether the kernel has IPv6.
    pub fn v6(&self) -> bool {
        self.v6
    }
}
