//! Why the kernel lets this process load nothing, as far as the process itself can see.

use std::fs;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::LoadError;

/// Bits of include/uapi/linux/capability.h.
const NEEDED: [(&str, u32); 3] = [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_NET_ADMIN", NET_ADMIN)];
const NET_ADMIN: u32 = 12;

/// It stands for the first two (include/linux/capability.h `bpf_capable`, `perfmon_capable`).
const SYS_ADMIN: u32 = 21;

/// The calling thread has just been refused.
pub(super) fn why(reason: String) -> LoadError {
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(RLIM_INFINITY, |(soft, _)| soft);
    judged(reason, own(), limit)
}

/// What programs of the tracing kind need and the calling thread lacks; empty: it is not that.
pub(super) fn lacks_for_tracing() -> String {
    let tracing = |name: &&str| *name != "CAP_NET_ADMIN";
    let missing: Vec<&str> = missing(own()).filter(tracing).collect();
    missing.join(", ")
}

fn own() -> u64 {
    effective(&fs::read_to_string("/proc/thread-self/status").unwrap_or_default())
}

/// proc_pid_status(5); what cannot be read is taken for none.
fn effective(status: &str) -> u64 {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    digits.map_or(0, |d| u64::from_str_radix(d.trim(), 16).unwrap_or(0))
}

fn missing(effective: u64) -> impl Iterator<Item = &'static str> {
    let has = move |bit: u32| effective >> bit & 1 == 1;
    let lacks = move |bit: u32| !has(bit) && (bit == NET_ADMIN || !has(SYS_ADMIN));
    NEEDED
        .iter()
        .filter(move |(_, bit)| lacks(*bit))
        .map(|(name, _)| *name)
}

fn judged(reason: String, effective: u64, limit: u64) -> LoadError {
    let missing: Vec<&str> = missing(effective).collect();
    if !missing.is_empty() {
        LoadError::NotPermitted {
            reason,
            missing: missing.join(", "),
        }
    } else if limit == RLIM_INFINITY {
        LoadError::Withheld(reason)
    } else {
        LoadError::LockedMemory {
            reason,
            limit_kib: limit / 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: &str, limit: u64) -> String {
        judged("EPERM".to_owned(), effective(status), limit).to_string()
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_else() {
        let nobody = said("Name:\tzdt\nCapEff:\t0000000000000000\n", RLIM_INFINITY);
        assert!(nobody.contains("CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN"), "{nobody}");
        let no_bpf = said("CapEff:\t0000004000001000\n", 65536);
        assert!(no_bpf.contains("give it CAP_BPF"), "{no_bpf}");
        assert!(
            !no_bpf.contains("CAP_PERFMON") && !no_bpf.contains("64 KiB"),
            "{no_bpf}"
        );
        let admin = said("CapEff:\t0000000000200000\n", 65536);
        assert!(admin.contains("give it CAP_NET_ADMIN"), "{admin}");
    }

    #[test]
    fn with_all_capabilities_the_limit_of_locked_memory_is_left_and_without_one_a_filter() {
        let all = "CapEff:\t000000c000001000\n";
        let limited = said(all, 65536);
        assert!(
            limited.contains("64 KiB") && limited.contains("components/before-5.11"),
            "{limited}"
        );
        let filtered = said(all, RLIM_INFINITY);
        assert!(filtered.contains("seccomp"), "{filtered}");
    }
}
