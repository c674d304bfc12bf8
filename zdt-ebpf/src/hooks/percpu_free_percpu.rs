//! `percpu_free_percpu`: per-CPU memory is freed; inside the system call that replaces a legacy iptables table it is
//! the old table's counters, so the new table is in force.
//!
//! Prototype: `(void *base_addr, int off, void __percpu *ptr)` (include/trace/events/percpu.h). Minimum: 4.13, and
//! more than one possible CPU: with one, x_tables keeps its counters in the rules (xt_percpu_counter_alloc). Seen to fire
//! on 5.10, 6.1, 6.12 and 6.18.
//!
//! Why here. No tracepoint of the kernel speaks of x_tables, so this asks for one that every replacement must pass
//! *after* the switch: net/ipv4/netfilter/ip_tables.c __do_replace calls xt_replace_table, drops the lock, and then
//! cleanup_entry on each old rule, which frees a block of counters per 256 rules, at least one (xt_percpu_counter_free
//! in net/netfilter/x_tables.c); ip6_tables.c is its twin. Whether the thread is in that call is in its registers:
//! setsockopt(2), level IPPROTO_IP or IPPROTO_IPV6, option 64. The alternatives:
//!
//! - kprobe `xt_replace_table`: exact, but not every kernel has kprobes, and the module may not be loaded yet.
//! - cgroup/setsockopt: runs before the call, can break other setsockopt(2) calls (a length above a page must be set to
//!   0), needs the root of the cgroup file system, and costs each setsockopt(2) of the host 205 -> 296 ns.
//! - syscalls:sys_exit_setsockopt: puts every system call of the host on the slow path. Without any program on it,
//!   getppid(2) went from 104 to 112 ns and setsockopt(2) from 205 to 277 ns.
//! - the audit record NETFILTER_CFG: only while the host audits.
//!
//! This one takes 0.1 us a run (all figures: 6.18, 2 cores) and nothing per packet, connection or system call: per-CPU
//! memory is freed twice by a process that ends (of the 110 to 180 us that fork and exit take), by mounts, devices and
//! network namespaces. TCP connections free none.
//!
//! A soft interrupt may free other memory while the thread is still before the switch. So an event says "look", not
//! "changed", and it is not said again for the same table only within [`TABLE_QUIET_NS`]: a reader that starts later than
//! that after the event sees the table that was meant.

use aya_ebpf::{
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user,
        generated::{bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs},
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use zdt_common::{ABSENT, Hook, TABLE_NAME_LEN, TABLE_QUIET_NS, TableReplaced};

use crate::{
    emit::emit,
    maps::REPLACED,
    read::{self, Ptr, field, global},
};

/// include/uapi/linux/in.h
const IPPROTO_IP: i32 = 0;
const IPPROTO_IPV6: i32 = 41;
/// IPT_SO_SET_REPLACE and IP6T_SO_SET_REPLACE (include/uapi/linux/netfilter_ipv4/ip_tables.h).
const SO_SET_REPLACE: i32 = 64;

/// THREAD_SIZE of x86_64, and of arm64 with pages of 4 KiB, where the helper for it does not exist.
const THREAD_SIZE: u64 = 16_384;

/// A table, and when its replacement was reported.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Replaced {
    at_ns: u64,
    name: [u64; TABLE_NAME_LEN / 8],
    netns: u32,
    family: u32,
}

#[btf_tracepoint(function = "percpu_free_percpu")]
pub fn percpu_free_percpu(_ctx: BtfTracePointContext) -> i32 {
    report();
    0
}

#[inline(always)]
fn report() -> Option<()> {
    let regs = registers()?;
    let nr: i32 = field!(regs, regs_nr);
    let option: i32 = field!(regs, regs_arg2);
    if nr != global!(SETSOCKOPT_NR) || option != SO_SET_REPLACE {
        return None;
    }
    let level: i32 = field!(regs, regs_arg1);
    let family = match level {
        IPPROTO_IP => 4,
        IPPROTO_IPV6 => 6,
        _ => return None,
    };
    // The socket's namespace would be exact; nobody opens one, enters another namespace and then replaces a table.
    let netns = read::netns_of_task(unsafe { bpf_get_current_task() } as Ptr);
    let wanted = global!(NODE_NETNS);
    if wanted != 0 && netns != wanted {
        return None;
    }
    // `struct ipt_replace` starts with the name (include/uapi/linux/netfilter_ipv4/ip_tables.h).
    let option_value: Ptr = field!(regs, regs_arg3);
    let name =
        unsafe { bpf_probe_read_user(option_value as *const [u64; TABLE_NAME_LEN / 8]) }.unwrap_or_default();
    let now = Replaced {
        at_ns: unsafe { bpf_ktime_get_ns() },
        name,
        netns,
        family,
    };
    if !is_new(&now) {
        return None;
    }
    emit(Hook::XtReplace, |event: &mut TableReplaced| {
        event.pid_tgid = bpf_get_current_pid_tgid();
        event.table = unsafe { core::mem::transmute::<[u64; 4], [u8; TABLE_NAME_LEN]>(name) };
        event.comm = bpf_get_current_comm().unwrap_or_default();
        event.netns = netns;
        event.family = family;
    });
    Some(())
}

/// The registers that the running thread brought from user space; None: this kernel does not tell where they are.
#[inline(always)]
fn registers() -> Option<Ptr> {
    if global!(TASK_PT_REGS) == 1 {
        // The verifier does not look at this branch, and so not for the helpers, where the global says 0.
        return Some(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as Ptr);
    }
    // task_pt_regs (arch/x86/include/asm/processor.h, arch/arm64/include/asm/processor.h): at the stack's top.
    let last = unsafe { core::ptr::read_volatile(&raw const crate::OFFSETS.regs_last) };
    if last == ABSENT {
        return None;
    }
    let task = unsafe { bpf_get_current_task() } as Ptr;
    let stack: Ptr = field!(task, task_stack);
    Some(stack + THREAD_SIZE - (last as u64 + 8))
}

/// Remembers the report, unless it is one more of the blocks that a replacement frees.
#[inline(always)]
fn is_new(now: &Replaced) -> bool {
    let Some(last) = REPLACED.get_ptr_mut(0) else {
        return true;
    };
    let last = unsafe { &mut *last };
    let same = last.netns == now.netns
        && last.family == now.family
        && last.name[0] == now.name[0]
        && last.name[1] == now.name[1]
        && last.name[2] == now.name[2]
        && last.name[3] == now.name[3];
    if same && now.at_ns - last.at_ns < TABLE_QUIET_NS {
        return false;
    }
    *last = *now;
    true
}
