//! A node's network: the bridge `cni0`, the uplink `eth0`, and a veth pair for each pod.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{Addresses, Ipam, Lan, Netns, PodIps, Reuse, Run, in_netns, ip::NetError, ip_batch, sysctls};

/// RFC 863.
const DISCARD: u16 = 9;

/// The network of one node, numbered from 1.
#[derive(Debug)]
pub struct NodeNet {
    run: Arc<Run>,
    netns: Netns,
    addresses: Addresses,
    number: u8,
    v6: bool,
    ipam: Mutex<Ipam>,
    /// Addresses come back at once: their new owners must tell the neighbours.
    announces: bool,
}

/// A pod's network; removed by [`NodeNet::detach`], or with the run.
#[derive(Debug)]
pub struct PodNet {
    netns: Option<Netns>,
    veth: String,
    pub ips: PodIps,
    /// The node's namespace, of a pod that shares it.
    host: Option<String>,
}

impl PodNet {
    /// The pod's namespace; empty once it is removed.
    pub fn netns(&self) -> &str {
        let own = self.netns.as_ref().map(Netns::name);
        own.or(self.host.as_deref()).unwrap_or_default()
    }

    /// The pod has the node's network.
    pub fn is_host(&self) -> bool {
        self.host.is_some()
    }
}

impl NodeNet {
    pub fn create(run: &Arc<Run>, lan: &Lan, number: u8, reuse: Reuse) -> Result<Self, NetError> {
        let netns = Netns::create(run.netns(&format!("n{number}")))?;
        let v6 = lan.v6();
        let node = Self {
            run: Arc::clone(run),
            netns,
            addresses: lan.addresses(),
            number,
            v6,
            ipam: Mutex::new(Ipam::new(lan.addresses(), number, reuse, v6)),
            announces: reuse == Reuse::LowestFree,
        };
        // The port on the switch is made first, so that the address below can be used at once.
        ip_batch(
            lan.netns(),
            &format!(
                "link add n{number} type veth peer name eth0 netns {0}\nlink set n{number} master lan0 up\n",
                node.netns()
            ),
        )?;
        // The bridge plugin fixes the bridge's address too: else it would follow the ports that come and go.
        let mut commands = format!(
            "addr add {}/24 dev eth0\n\
             link set eth0 up\n\
             route add default via {}\n\
             link add cni0 address 02:00:0a:f4:{number:02x}:01 type bridge\n\
             addr add {}/24 dev cni0\n\
             link set cni0 up\n",
            node.ip(),
            node.addresses.router_v4(),
            node.bridge_ip()
        );
        if let (Some(ip), Some(bridge)) = (node.ip_v6(), node.bridge_ip_v6()) {
            let _ = writeln!(
                commands,
                "addr add {ip}/64 dev eth0 nodad\n\
                 route add default via {}\n\
                 addr add {bridge}/64 dev cni0 nodad",
                node.addresses.router_v6()
            );
        }
        // The way to the other nodes' pods, as the CNI's routes lead it.
        for other in (1..=lan.nodes()).filter(|other| *other != number) {
            let a = node.addresses;
            let _ = writeln!(
                commands,
                "route add {}/24 via {}",
                a.pod_v4(other, 0),
                a.node_v4(other)
            );
            if v6 {
                let _ = writeln!(
                    commands,
                    "route add {}/64 via {}",
                    a.pod_v6(other, 0),
                    a.node_v6(other)
                );
            }
        }
        ip_batch(node.netns(), &commands)?;
        let mut settings = vec![
            ("net/ipv4/ip_forward", "1"),
            // kube-proxy, iptables mode: NodePorts on 127.0.0.1 (pkg/proxy/iptables/proxier.go, NewProxier).
            ("net/ipv4/conf/all/route_localnet", "1"),
            // kube-proxy --conntrack-tcp-timeout-established 24h, --conntrack-tcp-timeout-close-wait 1h.
            ("net/netfilter/nf_conntrack_tcp_timeout_established", "86400"),
            ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", "3600"),
        ];
        if v6 {
            settings.push(("net/ipv6/conf/all/forwarding", "1"));
        }
        // Replies between pods of one bridge must pass conntrack, or they carry the pod's address instead of the
        // service's. Per namespace since Linux 5.3 (br_netfilter_hooks.c, brnf_init_net).
        if Path::new("/proc/sys/net/bridge").exists() {
            settings.push(("net/bridge/bridge-nf-call-iptables", "1"));
            if v6 {
                settings.push(("net/bridge/bridge-nf-call-ip6tables", "1"));
            }
        } else {
            tracing::warn!(
                "no br_netfilter: replies between pods of one node will be dropped; modprobe br_netfilter"
            );
        }
        sysctls(node.netns(), &settings)?;
        Ok(node)
    }

    /// The node's namespace.
    pub fn netns(&self) -> &str {
        self.netns.name()
    }

    /// The addresses of the world.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The node's number, from 1; its name is `n<number>`.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The node's own address (`status.hostIP`, NodePorts).
    pub fn ip(&self) -> Ipv4Addr {
        self.addresses.node_v4(self.number)
    }

    pub fn ip_v6(&self) -> Option<Ipv6Addr> {
        self.v6.then(|| self.addresses.node_v6(self.number))
    }

    /// Both of the node's addresses, IPv4 first.
    pub fn ips(&self) -> Vec<IpAddr> {
        [Some(IpAddr::V4(self.ip())), self.ip_v6().map(IpAddr::V6)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// The bridge's address: the peer that pods see in the kubelet's probes.
    pub fn bridge_ip(&self) -> Ipv4Addr {
        self.addresses.pod_v4(self.number, 1)
    }

    pub fn bridge_ip_v6(&self) -> Option<Ipv6Addr> {
        self.v6.then(|| self.addresses.pod_v6(self.number, 1))
    }

    /// CNI ADD: a namespace with `eth0` on the bridge, an address and a default route.
    pub fn attach(&self) -> Result<PodNet, NetError> {
        static PODS: AtomicU32 = AtomicU32::new(0);
        let k = PODS.fetch_add(1, Ordering::Relaxed);
        let ips = self.ipam().take().ok_or_else(|| NetError::Exhausted {
            subnet: format!("{}/24", self.addresses.pod_v4(self.number, 0)),
        })?;
        // Whatever fails from here on gives the address back and, by drop, the namespace.
        self.wire(k, ips).inspect_err(|_| self.ipam().release(&ips))
    }

    fn wire(&self, k: u32, ips: PodIps) -> Result<PodNet, NetError> {
        let netns = Netns::create(self.run.netns(&format!("p{k}")))?;
        // Tells the neighbours at once when an address has a new owner, as the bridge plugin does.
        let mut settings = vec![("net/ipv4/conf/default/arp_notify", "1")];
        if self.v6 {
            settings.push(("net/ipv6/conf/default/ndisc_notify", "1"));
        }
        sysctls(netns.name(), &settings)?;
        let veth = format!("veth{k:08x}");
        ip_batch(
            self.netns(),
            &format!(
                "link add {veth} type veth peer name eth0 netns {0}\n\
                 link set {veth} master cni0\n\
                 link set {veth} type bridge_slave hairpin on\n\
                 link set {veth} up\n",
                netns.name()
            ),
        )?;
        let mut commands = format!(
            "addr add {}/24 dev eth0\nlink set eth0 up\nroute add default via {}\n",
            ips.v4,
            self.bridge_ip()
        );
        if let (Some(ip), Some(bridge)) = (ips.v6, self.bridge_ip_v6()) {
            let _ = writeln!(
                commands,
                "addr add {ip}/64 dev eth0 nodad\nroute add default via {bridge}"
            );
        }
        ip_batch(netns.name(), &commands)?;
        if self.announces {
            self.announce(netns.name());
        }
        Ok(PodNet {
            netns: Some(netns),
            veth,
            ips,
            host: None,
        })
    }

    /// The network of a pod with `hostNetwork`: the node's own.
    pub fn host_pod(&self) -> PodNet {
        PodNet {
            netns: None,
            veth: String::new(),
            ips: PodIps {
                v4: self.ip(),
                v6: self.ip_v6(),
            },
            host: Some(self.netns().to_owned()),
        }
    }

    /// What arp_notify sent may have come before the bridge's port forwarded, and the node would go on sending to the address's
    /// last owner until its neighbour entry is proven wrong, 8 s later. The bridge plugin waits for the port and then announces;
    /// here a datagram to nobody makes the pod ask for its gateway, which tells as much.
    fn announce(&self, netns: &str) {
        let gateways = [
            Some(IpAddr::V4(self.bridge_ip())),
            self.bridge_ip_v6().map(IpAddr::V6),
        ];
        for gateway in gateways.into_iter().flatten() {
            let ask = || {
                let any: IpAddr = match gateway {
                    IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                UdpSocket::bind((any, 0))?
                    .send_to(&[], (gateway, DISCARD))
                    .map(drop)
            };
            if let Err(error) = in_netns(netns, ask) {
                tracing::warn!(%error, "a pod cannot announce its address");
            }
        }
    }

    /// CNI DEL and the namespace's removal. The address is free again.
    pub fn detach(&self, pod: &mut PodNet) -> Result<(), NetError> {
        let Some(netns) = pod.netns.take() else {
            return Ok(());
        };
        self.ipam().release(&pod.ips);
        let unplugged = ip_batch(self.netns(), &format!("link del {}", pod.veth));
        drop(netns);
        unplugged
    }

    fn ipam(&self) -> std::sync::MutexGuard<'_, Ipam> {
        self.ipam.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
