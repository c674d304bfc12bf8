//! A fixed set of source ports, used in turn: what conntrack remembers of one meets the next connection from it.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Below Linux's own range, 32768 to 60999 (ip_local_port_range).
const FIRST: u16 = 20_000;

/// The port with this number.
pub(super) fn port(n: u16) -> u16 {
    FIRST.saturating_add(n)
}

/// Any address of the target's family, with this port.
pub(super) fn any(target: SocketAddr, port: u16) -> SocketAddr {
    let ip = match target.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, port)
}

/// The ports that no connection uses, the longest unused first.
#[derive(Debug)]
pub(super) struct Ports {
    free: Mutex<VecDeque<u16>>,
    count: Arc<Semaphore>,
}

/// A port in use; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) port: u16,
    ports: Arc<Ports>,
    _count: OwnedSemaphorePermit,
}

impl Ports {
    pub(super) fn new(count: u16) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::new((0..count).map(port).collect()),
            count: Arc::new(Semaphore::new(count.into())),
        })
    }

    /// Waits while all are in use.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Held> {
        let count = Arc::clone(&self.count).acquire_owned().await.ok()?;
        let port = self.free().pop_front()?;
        Some(Held {
            port,
            ports: Arc::clone(self),
            _count: count,
        })
    }

    fn free(&self) -> std::sync::MutexGuard<'_, VecDeque<u16>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ports.free().push_back(self.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ports_are_used_in_turn_and_a_held_one_is_waited_for() {
        let ports = Ports::new(2);
        let first = ports.take().await.unwrap();
        let second = ports.take().await.unwrap();
        assert_eq!((first.port, second.port), (20_000, 20_001));
        let (third, ()) = tokio::join!(ports.take(), async { drop(second) });
        assert_eq!(third.unwrap().port, 20_001);
        drop(first);
        assert_eq!(ports.take().await.unwrap().port, 20_001, "the longest unused");
    }
}
