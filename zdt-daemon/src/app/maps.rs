//! Puts the watch set into the kernel half's maps.

use std::net::IpAddr;

use zdt_common::{Addr, Endpoint, Service};

use crate::{
    cluster::{Change, KernelMaps},
    kernel::Attached,
};

/// The kernel half, for the watches: it runs as long as they do.
pub(super) struct Maps {
    kernel: Attached,
}

impl Maps {
    pub(super) fn new(kernel: Attached) -> Self {
        Self { kernel }
    }
}

impl KernelMaps for Maps {
    fn apply(&mut self, change: Change) -> Result<(), String> {
        let changed = match change {
            Change::Addr { addr, bits: 0 } => self.kernel.unwatch_addr(kernel_addr(addr)),
            Change::Addr { addr, bits } => self.kernel.watch_addr(kernel_addr(addr), bits),
            Change::Endpoint { addr, port, watched } => {
                let endpoint = Endpoint {
                    addr: kernel_addr(addr),
                    port,
                    pad: 0,
                };
                if watched {
                    self.kernel.watch_endpoint(endpoint)
                } else {
                    self.kernel.unwatch_endpoint(endpoint)
                }
            }
            Change::Service {
                addr,
                port,
                protocol,
                watched,
            } => {
                let service = Service {
                    addr: addr.map(kernel_addr).unwrap_or_default(),
                    port,
                    protocol: protocol.number(),
                    pad: 0,
                };
                if watched {
                    self.kernel.watch_service(service)
                } else {
                    self.kernel.unwatch_service(service)
                }
            }
            Change::Transit { addr, on } => {
                let addr = kernel_addr(addr);
                let changed = if on {
                    self.kernel.watch_transit(addr)
                } else {
                    self.kernel.unwatch_transit(addr)
                };
                return changed.map_err(|e| e.to_string());
            }
            Change::Beside { addr, on } => {
                let changed = self.kernel.watch_beside(kernel_addr(addr), on);
                return changed.map_err(|e| e.to_string());
            }
        };
        changed.map_err(|e| e.to_string())
    }
}

/// As the kernel half has it: 16 bytes, IPv4 as v4-mapped IPv6.
fn kernel_addr(addr: IpAddr) -> Addr {
    match addr {
        IpAddr::V4(v4) => Addr::v4(v4.octets()),
        IpAddr::V6(v6) => Addr(v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::kernel_addr;

    #[test]
    fn ipv4_is_v4_mapped() {
        let mapped: std::net::Ipv6Addr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(kernel_addr("10.0.0.1".parse().unwrap()).0, mapped.octets());
    }
}
