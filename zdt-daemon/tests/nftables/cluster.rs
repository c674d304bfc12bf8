//! Rule sets of clusters of any size, as kube-proxy writes them: the whole, and the rewrite for one service.
//!
//! Shapes: `writeServiceToEndpointRules` and `syncProxyRules` in `pkg/proxy/iptables/proxier.go` and
//! `pkg/proxy/nftables/proxier.go`.

use std::{fmt::Write as _, net::Ipv4Addr};

pub const ENDPOINTS: u32 = 5;

/// iptables-nft-restore takes time in the square of the chains that it makes: minutes for all at once.
const SERVICES_PER_RESTORE: u32 = 250;

pub fn endpoint(service: u32, endpoint: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a80_0000 + service * ENDPOINTS + endpoint)
}

fn cluster_ip(service: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a40_0000 + service)
}

fn svc(service: u32) -> String {
    format!("KUBE-SVC-{service:016}")
}

fn sep(service: u32, endpoint: u32) -> String {
    format!("KUBE-SEP-{:016}", service * ENDPOINTS + endpoint)
}

const FIXED: &str = "\
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
";

const BASE: &str = "-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n";

/// kube-proxy writes all of this chain for any change.
fn dispatch(services: u32) -> String {
    let mut text = String::new();
    for s in 0..services {
        let (vip, chain) = (cluster_ip(s), svc(s));
        let comment = format!("-m comment --comment \"ns/web-{s}:http cluster IP\"");
        writeln!(
            text,
            "-A KUBE-SERVICES -d {vip}/32 -p tcp {comment} -m tcp --dport 80 -j {chain}"
        )
        .unwrap();
    }
    text + "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n"
}

fn chains(service: u32) -> String {
    let seps = (0..ENDPOINTS).map(|e| sep(service, e));
    let mut text = String::new();
    for chain in seps.chain([svc(service)]) {
        writeln!(text, ":{chain} - [0:0]").unwrap();
    }
    text
}

fn iptables_service(service: u32, endpoints: &[u32]) -> String {
    let (chain, vip) = (svc(service), cluster_ip(service));
    let mut text =
        format!("-A {chain} ! -s 10.244.0.0/16 -d {vip}/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ\n");
    for (at, e) in endpoints.iter().enumerate() {
        let (ip, sep, left) = (endpoint(service, *e), sep(service, *e), endpoints.len() - at);
        let chance = format!(
            "-m statistic --mode random --probability {:.11} ",
            1.0 / left as f64
        );
        let chance = if left > 1 { &chance } else { "" };
        writeln!(text, "-A {chain} {chance}-j {sep}").unwrap();
        writeln!(text, "-A {sep} -s {ip}/32 -j KUBE-MARK-MASQ").unwrap();
        writeln!(text, "-A {sep} -p tcp -m tcp -j DNAT --to-destination {ip}:8080").unwrap();
    }
    text
}

/// Inputs of `iptables-nft-restore --noflush`, one after the other.
pub fn iptables(services: u32) -> Vec<String> {
    let mut inputs = vec![format!("*nat\n{FIXED}COMMIT\n")];
    for from in (0..services).step_by(SERVICES_PER_RESTORE as usize) {
        let some = from..services.min(from + SERVICES_PER_RESTORE);
        let all: Vec<u32> = (0..ENDPOINTS).collect();
        let declared: String = some.clone().map(chains).collect();
        let rules: String = some.map(|s| iptables_service(s, &all)).collect();
        inputs.push(format!("*nat\n{declared}{rules}COMMIT\n"));
    }
    inputs.push(format!("*nat\n{}{BASE}COMMIT\n", dispatch(services)));
    inputs
}

/// What kube-proxy feeds to `iptables-restore --noflush` when endpoints of `service` have gone.
pub fn iptables_without(services: u32, service: u32, gone: &[u32]) -> String {
    let stay: Vec<u32> = (0..ENDPOINTS).filter(|e| !gone.contains(e)).collect();
    let (declared, rules) = (chains(service), iptables_service(service, &stay));
    let mut deleted = String::new();
    for e in gone {
        writeln!(deleted, "-X {}", sep(service, *e)).unwrap();
    }
    format!(
        "*nat\n{FIXED}{declared}{rules}{deleted}{}COMMIT\n",
        dispatch(services)
    )
}

fn service_chain(service: u32) -> String {
    format!("service-{service:08X}-ns/web-{service}/tcp/http")
}

fn nftables_service(service: u32, endpoints: &[u32]) -> String {
    let elements = endpoints.iter().enumerate();
    let elements: Vec<_> = elements
        .map(|(at, e)| format!("{at} : {} . 8080", endpoint(service, *e)))
        .collect();
    format!(
        "add rule ip kube-proxy {} meta l4proto tcp dnat ip addr . port to numgen random mod {} map {{ {} }}\n",
        service_chain(service),
        endpoints.len(),
        elements.join(", ")
    )
}

/// The input of `nft -f -`.
pub fn nftables(services: u32) -> String {
    let mut text = "\
add table ip kube-proxy
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100; }
add chain ip kube-proxy nat-output { type nat hook output priority -100; }
add chain ip kube-proxy services
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add rule ip kube-proxy nat-prerouting jump services
add rule ip kube-proxy nat-output jump services
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
"
    .to_owned();
    for s in 0..services {
        let (chain, vip) = (service_chain(s), cluster_ip(s));
        writeln!(text, "add chain ip kube-proxy {chain}").unwrap();
        text += &nftables_service(s, &(0..ENDPOINTS).collect::<Vec<_>>());
        writeln!(
            text,
            "add element ip kube-proxy service-ips {{ {vip} . tcp . 80 : goto {chain} }}"
        )
        .unwrap();
    }
    text
}

/// What kube-proxy feeds to `nft -f -` when endpoints of `service` have gone.
pub fn nftables_without(service: u32, gone: &[u32]) -> String {
    let stay: Vec<u32> = (0..ENDPOINTS).filter(|e| !gone.contains(e)).collect();
    let chain = service_chain(service);
    let rule = nftables_service(service, &stay);
    format!("add chain ip kube-proxy {chain}\nflush chain ip kube-proxy {chain}\n{rule}")
}
