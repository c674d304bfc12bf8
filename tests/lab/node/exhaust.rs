//! Uses up what a node's network has little of: room in its conntrack table, ports to masquerade with.

use std::{
    fs, io,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, sendto, socket,
};

use super::{Backend, Node};
use crate::net::{enter_on_exec, in_netns};

/// Entries in one message to the kernel.
const AT_ONCE: u32 = 512;

/// The first port of the few.
const FIRST_PORT: u16 = 50_000;

/// Names the entries of this, to remove them and no others.
const MARK: u32 = 0x0a17_7ab1;

/// They go by themselves when the lab dies before it removes them.
const LIVES_S: u32 = 300;

/// Fills the node's conntrack table with UDP entries of nobody (198.18.0.0/15, RFC 2544), which have been answered so that
/// the kernel does not drop them for new ones (net/netfilter/nf_conntrack_core.c early_drop). Returns how many the table has
/// then.
///
/// `nf_conntrack_max` is one for all namespaces, and each counts its own entries against it.
pub fn fill_conntrack(node: &Node) -> Result<u32> {
    let filled = in_netns(node.net().netns(), || {
        let max = number("/proc/sys/net/netfilter/nf_conntrack_max")?;
        let has = number("/proc/sys/net/netfilter/nf_conntrack_count")?;
        let wanted = max.saturating_sub(has);
        let conntrack = open()?;
        for first in (0..wanted).step_by(AT_ONCE as usize) {
            let batch: Vec<u8> = (first..wanted.min(first + AT_ONCE)).flat_map(entry).collect();
            send(&conntrack, &batch)?;
        }
        number("/proc/sys/net/netfilter/nf_conntrack_count")
    });
    filled.context("cannot fill the node's conntrack table")
}

/// Removes what [`fill_conntrack`] put there.
pub fn empty_conntrack(node: &Node) -> Result<()> {
    let marked = [
        attribute(8, &MARK.to_be_bytes()),
        attribute(21, &u32::MAX.to_be_bytes()),
    ]
    .concat();
    let emptied = in_netns(node.net().netns(), || send(&open()?, &message(DELETE, &marked)));
    emptied.context("cannot empty the node's conntrack table")
}

fn open() -> io::Result<OwnedFd> {
    let conntrack = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(conntrack.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(conntrack)
}

fn send(conntrack: &OwnedFd, messages: &[u8]) -> io::Result<()> {
    sendto(
        conntrack.as_raw_fd(),
        messages,
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    Ok(())
}

fn number(path: &str) -> io::Result<u32> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(io::Error::other)
}

/// NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW, and …_DELETE (include/uapi/linux/netfilter/nfnetlink_conntrack.h)
const NEW: u16 = 1 << 8;
const DELETE: u16 = 1 << 8 | 2;

fn entry(n: u32) -> Vec<u8> {
    /// IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED
    const STATUS: u32 = 2 | 4 | 8;
    let port = 1_024 + u16::try_from(n % 60_000).unwrap_or(0);
    let client = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + n / 60_000);
    let server = Ipv4Addr::new(198, 19, 0, 1);
    let attributes = [
        attribute(1 | NESTED, &tuple(client, server, port, 9)),
        attribute(2 | NESTED, &tuple(server, client, 9, port)),
        attribute(3, &STATUS.to_be_bytes()),
        attribute(7, &LIVES_S.to_be_bytes()),
        attribute(8, &MARK.to_be_bytes()),
    ]
    .concat();
    message(NEW, &attributes)
}

/// struct nlmsghdr, struct nfgenmsg, attributes.
fn message(kind: u16, attributes: &[u8]) -> Vec<u8> {
    /// NLM_F_REQUEST | NLM_F_CREATE
    const FLAGS: u16 = 1 | 0x400;
    let len = 20 + u32::try_from(attributes.len()).unwrap_or(0);
    [
        &len.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &FLAGS.to_ne_bytes(),
        &[0; 8],
        // AF_INET, NFNETLINK_V0, no resource.
        &[2, 0, 0, 0],
        attributes,
    ]
    .concat()
}

/// NLA_F_NESTED
const NESTED: u16 = 1 << 15;

fn tuple(from: Ipv4Addr, to: Ipv4Addr, from_port: u16, to_port: u16) -> Vec<u8> {
    const UDP: u8 = 17;
    let ip = [attribute(1, &from.octets()), attribute(2, &to.octets())].concat();
    let protocol = [
        attribute(1, &[UDP]),
        attribute(2, &from_port.to_be_bytes()),
        attribute(3, &to_port.to_be_bytes()),
    ]
    .concat();
    [attribute(1 | NESTED, &ip), attribute(2 | NESTED, &protocol)].concat()
}

/// One attribute, padded to 4 bytes (struct nlattr).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = 4 + u16::try_from(value.len()).unwrap_or(0);
    let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Leaves the node so many ports for the connections that kube-proxy's mark masquerades: a rule before kube-proxy's own.
pub fn masquerade_ports(node: &Node, ports: u16) -> Result<()> {
    let program = match node.settings().backend {
        Backend::Legacy => "iptables-legacy",
        // Beside the tables of kube-proxy's nftables mode, whose own base chain comes after this one.
        Backend::Nft | Backend::Nftables => "iptables-nft",
    };
    let range = format!("{FIRST_PORT}-{}", FIRST_PORT + ports.max(1) - 1);
    let rule = [
        "-w",
        "-t",
        "nat",
        "-I",
        "POSTROUTING",
        "-p",
        "tcp",
        "-m",
        "mark",
        "--mark",
        "0x4000/0x4000",
    ];
    let mut command = Command::new(program);
    command
        .args(rule)
        .args(["-j", "MASQUERADE", "--to-ports", &range]);
    enter_on_exec(&mut command, node.net().netns())?;
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}: cargo xtask setup installs it"))?;
    if !output.status.success() {
        bail!(
            "{program} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
