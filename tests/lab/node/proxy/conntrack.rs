//! kube-proxy's care for UDP: an entry keeps sending a client's datagrams to a pod that is gone, for as long as the
//! client sends (pkg/proxy/conntrack/cleanup.go, CleanStaleEntries).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    process::Command,
};

use super::endpoints::{Family, ServicePort};
use crate::net::enter_on_exec;

/// One UDP entry: the client's tuple, and who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    from: SocketAddr,
    to: SocketAddr,
    answers: SocketAddr,
}

/// Removes the UDP entries of these services that are translated to an endpoint which no longer serves. Returns how
/// many.
pub(super) fn clean(netns: &str, family: Family, ports: &[ServicePort]) -> io::Result<usize> {
    let name = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    let listed = conntrack(netns, &["-L", "-f", name, "-p", "udp"])?;
    let stale = stale(&listed, ports);
    for entry in &stale {
        let (from, to) = (entry.from, entry.to);
        let (source, sport) = (from.ip().to_string(), from.port().to_string());
        let (dest, dport) = (to.ip().to_string(), to.port().to_string());
        let mut args = vec!["-D", "-f", name, "-p", "udp", "-s", &source, "-d", &dest];
        args.extend(["--sport", &sport, "--dport", &dport]);
        conntrack(netns, &args)?;
    }
    Ok(stale.len())
}

/// Its exit status is 1 also when no entry matches: an entry may time out in between.
fn conntrack(netns: &str, args: &[&str]) -> io::Result<String> {
    let mut command = Command::new("conntrack");
    command.args(args);
    enter_on_exec(&mut command, netns)?;
    let output = command.output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A service without a serving endpoint keeps its entries, as in kube-proxy.
fn stale(listed: &str, ports: &[ServicePort]) -> Vec<Entry> {
    let mut by_address: BTreeMap<SocketAddr, &BTreeSet<SocketAddr>> = BTreeMap::new();
    let mut by_node_port: BTreeMap<u16, &BTreeSet<SocketAddr>> = BTreeMap::new();
    for port in ports
        .iter()
        .filter(|p| p.protocol == "udp" && !p.serving.is_empty())
    {
        for ip in &port.cluster_ips {
            by_address.insert(SocketAddr::new(*ip, port.port), &port.serving);
        }
        by_node_port.extend(port.node_port.map(|n| (n, &port.serving)));
    }
    let serving = |to: SocketAddr| {
        by_address
            .get(&to)
            .or_else(|| by_node_port.get(&to.port()))
            .copied()
    };
    let entries = listed.lines().filter_map(parse);
    entries
        .filter(|e| serving(e.to).is_some_and(|serving| !serving.contains(&e.answers)))
        .collect()
}

/// A line of `conntrack -L`: the first `src= dst= sport= dport=` is the client's, the second the answer's.
fn parse(line: &str) -> Option<Entry> {
    let ips = |key: &str| -> Vec<IpAddr> { values(line, key).filter_map(|v| v.parse().ok()).collect() };
    let ports = |key: &str| -> Vec<u16> { values(line, key).filter_map(|v| v.parse().ok()).collect() };
    let (src, dst, sport, dport) = (ips("src="), ips("dst="), ports("sport="), ports("dport="));
    Some(Entry {
        from: SocketAddr::new(*src.first()?, *sport.first()?),
        to: SocketAddr::new(*dst.first()?, *dport.first()?),
        answers: SocketAddr::new(*src.get(1)?, *sport.get(1)?),
    })
}

fn values<'a>(line: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    line.split_whitespace()
        .filter_map(move |word| word.strip_prefix(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "\
udp      17 29 src=10.244.1.5 dst=10.96.0.10 sport=4000 dport=80 src=10.244.1.2 dst=10.244.1.5 sport=8080 dport=4000 mark=0 use=1
udp      17 29 src=10.244.1.5 dst=10.96.0.10 sport=4001 dport=80 [UNREPLIED] src=10.244.1.3 dst=10.244.1.5 sport=8080 dport=4001 mark=0 use=1
udp      17 29 src=10.99.0.9 dst=10.99.0.1 sport=4002 dport=30000 [UNREPLIED] src=10.244.1.3 dst=10.99.0.1 sport=8080 dport=4002 mark=0 use=1
udp      17 29 src=10.244.1.5 dst=10.99.0.7 sport=4003 dport=53 src=10.99.0.7 dst=10.244.1.5 sport=53 dport=4003 mark=0 use=1
";

    fn port(serving: &[&str]) -> ServicePort {
        ServicePort {
            service: ("d".into(), "web".into()),
            name: "d/web".into(),
            port_name: String::new(),
            protocol: "udp".into(),
            cluster_ips: vec!["10.96.0.10".parse().unwrap()],
            port: 80,
            node_port: Some(30000),
            external_local: false,
            internal_local: false,
            cluster: Vec::new(),
            local: Vec::new(),
            node: Vec::new(),
            serving: serving.iter().map(|s| s.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn only_entries_of_the_service_that_lead_to_no_serving_endpoint_are_stale() {
        let found = stale(LISTED, &[port(&["10.244.1.2:8080"])]);
        let from: Vec<u16> = found.iter().map(|e| e.from.port()).collect();
        assert_eq!(from, [4001, 4002]);
        assert!(stale(LISTED, &[port(&["10.244.1.2:8080", "10.244.1.3:8080"])]).is_empty());
    }

    #[test]
    fn a_service_without_endpoints_keeps_its_entries() {
        assert!(stale(LISTED, &[port(&[])]).is_empty());
    }
}
