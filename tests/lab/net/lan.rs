//! What connects the nodes: a namespace that is their switch and their router to the outside.

use std::fmt::Write as _;

use super::{Addresses, Netns, Run, ip::NetError, ip_batch, sysctls};

/// The nodes' network, and one place outside of the cluster.
#[derive(Debug)]
pub struct Lan {
    switch: Netns,
    outside: Netns,
    addresses: Addresses,
    nodes: u8,
    v6: bool,
}

impl Lan {
    /// For `nodes` nodes, which are made later.
    pub fn create(run: &Run, addresses: Addresses, nodes: u8) -> Result<Self, NetError> {
        let v6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
        let switch = Netns::create(run.netns("lan"))?;
        let outside = Netns::create(run.netns("outside"))?;
        let mut settings = vec![("net/ipv4/ip_forward", "1")];
        if v6 {
            settings.push(("net/ipv6/conf/all/forwarding", "1"));
        }
        sysctls(switch.name(), &settings)?;
        let (router, out_router) = (addresses.router_v4(), addresses.outside_router_v4());
        // What no route leads to vanishes, as on the way to the Internet: without the blackhole a service without rules
        // would be answered by an ICMP error.
        let mut here = format!(
            "link add lan0 type bridge\n\
             link set lan0 address 02:00:0a:63:00:fe\n\
             addr add {router}/24 dev lan0\n\
             link set lan0 up\n\
             link add out0 type veth peer name eth0 netns {}\n\
             addr add {out_router}/28 dev out0\n\
             link set out0 up\n\
             route add blackhole default metric 4096\n",
            outside.name()
        );
        let mut there = format!(
            "addr add {}/28 dev eth0\n\
             link set eth0 up\n\
             route add default via {out_router}\n",
            addresses.outside_v4()
        );
        if v6 {
            let (router, out_router) = (addresses.router_v6(), addresses.outside_router_v6());
            let _ = write!(
                here,
                "addr add {router}/64 dev lan0 nodad\n\
                 addr add {out_router}/64 dev out0 nodad\n\
                 route add blackhole ::/0 metric 4096\n"
            );
            let _ = write!(
                there,
                "addr add {}/64 dev eth0 nodad\n\
                 route add default via {out_router}\n",
                addresses.outside_v6()
            );
        }
        ip_batch(switch.name(), &here)?;
        ip_batch(outside.name(), &there)?;
        Ok(Self {
            switch,
            outside,
            addresses,
            nodes,
            v6,
        })
    }

    /// The switch's and router's namespace.
    pub fn netns(&self) -> &str {
        self.switch.name()
    }

    /// Where clients outside of the cluster run.
    pub fn outside(&self) -> &str {
        self.outside.name()
    }

    /// How many nodes there are, or will be.
    pub fn nodes(&self) -> u8 {
        self.nodes
    }

    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Whether the kernel has IPv6.
    pub fn v6(&self) -> bool {
        self.v6
    }
}
