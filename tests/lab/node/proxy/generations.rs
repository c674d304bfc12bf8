//! When a node's rules came into force, as the kernel announces it: nf_tables switches to a new generation and says so at
//! once (net/netfilter/nf_tables_api.c nf_tables_commit, nf_tables_gen_notify), while the program that asked for it still
//! has its memory to give back and ends some 4 to 20 ms later (seen).

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
        socket, sockopt::ReceiveTimeout,
    },
    time::{TimeVal, TimeValLike as _},
};
use tokio::sync::watch;

use crate::{clock::monotonic_ns, net::in_netns};

/// include/uapi/linux/netfilter/nfnetlink.h: NFNLGRP_NFTABLES 7, as a bit of the address's groups.
const GROUPS: u32 = 1 << 6;
/// NFNL_SUBSYS_NFTABLES 10, NFT_MSG_NEWGEN 15 (include/uapi/linux/netfilter/nf_tables.h).
const NEW_GENERATION: u16 = (10 << 8) | 15;
/// How often the thread looks whether it is still wanted.
const LOOK: i64 = 200;
/// The announcement is in the socket when the program ends; its reader may have to wait for a CPU.
const LATE: Duration = Duration::from_millis(50);

/// Follows one namespace until this is dropped.
pub(super) struct Generations {
    last: watch::Receiver<u64>,
    wanted: Arc<AtomicBool>,
}

impl Generations {
    pub(super) fn follow(netns: &str) -> io::Result<Self> {
        let socket = in_netns(netns, || Ok(listen()?))?;
        let (told, last) = watch::channel(0);
        let wanted = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&wanted);
        thread::Builder::new()
            .name("generations".to_owned())
            .spawn(move || follow(&socket, &told, &still))?;
        Ok(Self { last, wanted })
    }

    /// The last one since `began_ns` (CLOCK_MONOTONIC).
    pub(super) async fn since(&self, began_ns: u64) -> Option<u64> {
        let mut last = self.last.clone();
        let there = tokio::time::timeout(LATE, last.wait_for(|at| *at >= began_ns)).await;
        there.ok()?.ok().map(|at| *at)
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::Release);
    }
}

fn listen() -> nix::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(LOOK))?;
    Ok(socket)
}

fn follow(socket: &OwnedFd, told: &watch::Sender<u64>, wanted: &AtomicBool) {
    let mut buf = vec![0; 1 << 16];
    while wanted.load(Ordering::Acquire) {
        // A timeout, or an overrun (ENOBUFS): the next one comes.
        let Ok(len) = recv(socket.as_raw_fd(), &mut buf, MsgFlags::empty()) else {
            continue;
        };
        let at = monotonic_ns();
        if announces(buf.get(..len).unwrap_or_default()) {
            told.send_replace(at);
        }
    }
}

/// One of the netlink messages (include/uapi/linux/netlink.h nlmsghdr) is a new generation.
fn announces(mut rest: &[u8]) -> bool {
    while let Some((header, _)) = rest.split_at_checked(16) {
        let [l0, l1, l2, l3, t0, t1, ..] = header else {
            return false;
        };
        if u16::from_ne_bytes([*t0, *t1]) == NEW_GENERATION {
            return true;
        }
        let len = u32::from_ne_bytes([*l0, *l1, *l2, *l3]) as usize;
        // Messages are aligned to 4 bytes (NLMSG_ALIGN).
        match rest.get(len.max(16).next_multiple_of(4)..) {
            Some(next) => rest = next,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, payload: usize) -> Vec<u8> {
        let len = 16 + payload;
        let mut bytes = u32::try_from(len).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(len.next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_generation_is_found_behind_other_messages_and_garbage_ends_the_search() {
        let mut bytes = message(0x0a06, 21);
        assert!(!announces(&bytes));
        bytes.extend(message(NEW_GENERATION, 20));
        assert!(announces(&bytes));
        assert!(!announces(&[0; 40]));
        assert!(!announces(&[1, 2, 3]));
    }
}
