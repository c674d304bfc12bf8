//! Named network namespaces, and running code and programs in them.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
    thread,
};

use nix::sched::{CloneFlags, setns};

use super::ip::{NetError, ip_batch, ip_here};

/// Where iproute2 keeps named namespaces.
pub(super) const NETNS_DIR: &str = "/run/netns";

/// A network namespace that is removed when this is dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Creates it with loopback up.
    pub fn create(name: String) -> Result<Self, NetError> {
        ip_here(&format!("netns add {name}"))?;
        let netns = Self { name };
        ip_batch(&netns.name, "link set lo up")?;
        Ok(netns)
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !PathBuf::from(NETNS_DIR).join(&self.name).exists() {
            // The run was swept first.
            return;
        }
        if let Err(error) = ip_here(&format!("netns del {}", self.name))
            // Or it is swept just now.
            && PathBuf::from(NETNS_DIR).join(&self.name).exists()
        {
            tracing::warn!(%error, "a namespace stays; `zdt-lab clean` removes it");
        }
    }
}

fn open(name: &str) -> io::Result<File> {
    File::open(PathBuf::from(NETNS_DIR).join(name))
}

/// Runs `f` on a fresh thread inside the named namespace. A socket that `f` opens stays in that namespace wherever it is
/// used later; the thread ends with `f`.
pub fn in_netns<T: Send>(name: &str, f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let netns = open(name)?;
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, move || {
                setns(netns, CloneFlags::CLONE_NEWNET)?;
                f()
            })?
            .join()
            .map_err(|_| io::Error::other("the thread in the namespace panicked"))?
    })
}

/// Makes `command` start inside the named namespace.
#[expect(
    unsafe_code,
    reason = "std has no safe way to change a child before it executes its program"
)]
pub fn enter_on_exec(command: &mut Command, name: &str) -> io::Result<()> {
    let netns = open(name)?;
    // SAFETY: setns(2) is one system call on a descriptor that lives as long as the closure: async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            setns(&netns, CloneFlags::CLONE_NEWNET)?;
            Ok(())
        });
    }
    Ok(())
}

/// Writes sysctls (`net/ipv4/ip_forward`, value) inside a namespace. `/proc/sys/net` shows the namespace of the reading
/// thread (net/sysctl_net.c, net_ctl_header_lookup).
pub fn sysctls(name: &str, settings: &[(&str, &str)]) -> Result<(), NetError> {
    in_netns(name, || {
        for (key, value) in settings {
            fs::write(format!("/proc/sys/{key}"), value)
                .map_err(|e| io::Error::new(e.kind(), format!("sysctl {key}={value}: {e}")))?;
        }
        Ok(())
    })
    .map_err(|source| NetError::Netns {
        netns: name.to_owned(),
        what: "cannot set sysctls",
        source,
    })
}
