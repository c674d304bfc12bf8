//! The system calls that read a legacy table. Reading changes nothing: a table that is not there is not asked for,
//! since the question alone would make it or load its module (net/netfilter/x_tables.c xt_find_table_lock).

use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use super::Family;

/// IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES (include/uapi/linux/netfilter_ipv4/ip_tables.h); IPv6 has the same numbers.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

/// XT_TABLE_MAXNAMELEN
const NAME_LEN: usize = 32;

/// `struct ipt_getinfo`: name, valid_hooks, hook_entry[5], underflow[5], num_entries, size.
const INFO_LEN: usize = 84;
const INFO_SIZE: usize = 80;

/// `struct ipt_get_entries` before its entries: name, size, padding to the alignment of an entry.
const ENTRIES_HEAD: usize = 40;

/// A socket through which the tables of one family in one network namespace can be read. Any kind will do: the options
/// belong to the level, not to the socket (net/ipv4/ip_sockglue.c ip_getsockopt), and this one needs no CAP_NET_RAW.
pub(super) struct TableSocket {
    fd: OwnedFd,
    level: libc::c_int,
}

impl TableSocket {
    /// In the network namespace of the calling thread.
    pub(super) fn open(family: Family) -> io::Result<Self> {
        let (domain, level) = match family {
            Family::V4 => (AddressFamily::Inet, libc::IPPROTO_IP),
            Family::V6 => (AddressFamily::Inet6, libc::IPPROTO_IPV6),
        };
        let fd = socket(domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { fd, level })
    }

    /// Size of all entries of a table, in bytes.
    pub(super) fn size(&self, table: &str) -> io::Result<usize> {
        let mut answer = [0; INFO_LEN];
        put_name(&mut answer, table);
        self.get(GET_INFO, &mut answer)?;
        let size = answer.get(INFO_SIZE..).and_then(|size| size.first_chunk());
        let size = size.map_or(0, |size| u32::from_ne_bytes(*size));
        usize::try_from(size).map_err(io::Error::other)
    }

    /// The entries of a table that is `size` bytes long. EAGAIN: it is not, any more.
    pub(super) fn entries(&self, table: &str, size: usize) -> io::Result<Entries> {
        let mut answer = vec![0; ENTRIES_HEAD + size];
        put_name(&mut answer, table);
        let length = u32::try_from(size).map_err(io::Error::other)?;
        if let Some(place) = answer.get_mut(NAME_LEN..NAME_LEN + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self.get(GET_ENTRIES, &mut answer)?;
        Ok(Entries(answer))
    }

    #[expect(unsafe_code, reason = "no crate offers getsockopt(2) for these options")]
    fn get(&self, option: libc::c_int, answer: &mut [u8]) -> io::Result<()> {
        let mut length = libc::socklen_t::try_from(answer.len()).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `length` bytes at `answer`, which is that long and ours alone.
        let failed = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                self.level,
                option,
                answer.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if failed == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// The answer to `GET_ENTRIES`.
pub(super) struct Entries(Vec<u8>);

impl Entries {
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.get(ENTRIES_HEAD..).unwrap_or_default()
    }
}

/// Whether the network namespace of the calling thread has this table.
pub(super) fn exists(family: Family, table: &str) -> io::Result<bool> {
    let path = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    match fs::read_to_string(path) {
        Ok(names) => Ok(names.lines().any(|name| name == table)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn put_name(answer: &mut [u8], table: &str) {
    for (to, from) in answer.iter_mut().take(NAME_LEN - 1).zip(table.bytes()) {
        *to = from;
    }
}
