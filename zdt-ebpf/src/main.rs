//! zdt's kernel half: it filters and reports, and never decides a cause (invariant I1).
//!
//! One BTF tracepoint a hook, one file a program. Whatever differs between kernels (offsets, numbers of arguments)
//! comes from the running kernel's BTF through the globals below; the daemon sets them before it loads.
#![no_std]
#![no_main]
// The one instruction that `core` does not offer for this target; see emit.rs.
#![feature(asm_experimental_arch)]

mod answer;
mod cgroup;
mod emit;
mod filter;
mod hooks;
mod maps;
mod open;
mod packet;
mod queue;
mod rate;
mod read;
mod segment;

use zdt_common::Offsets;

/// Where the fields are. Unset until the daemon sets it.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::UNSET;

/// Signals that are reported: bit N for signal N.
#[unsafe(no_mangle)]
static SIGNAL_MASK: u64 = 0;

/// 1: `tcp_send_reset` passes a reason as its third argument (6.10 and later).
#[unsafe(no_mangle)]
static RESET_REASON_ARG: u32 = 0;

/// 1: `tcp_retransmit_skb` passes an error as its third argument (6.18 and later).
#[unsafe(no_mangle)]
static RETRANSMIT_ERR_ARG: u32 = 0;

/// 1: `kfree_skb` passes a reason as its third argument (5.17 and later).
#[unsafe(no_mangle)]
static DROP_REASON_ARG: u32 = 0;

/// Reasons of `kfree_skb` that are not reported: bit N for reason N, in words of 64.
#[unsafe(no_mangle)]
static QUIET_REASONS_0: u64 = 0;
#[unsafe(no_mangle)]
static QUIET_REASONS_1: u64 = 0;
#[unsafe(no_mangle)]
static QUIET_REASONS_2: u64 = 0;
#[unsafe(no_mangle)]
static QUIET_REASONS_3: u64 = 0;

/// 1: `mark_victim` passes a task (6.8 and later); 0: a pid.
#[unsafe(no_mangle)]
static VICTIM_IS_TASK: u32 = 0;

/// Network namespace whose tables and packets are reported; 0: all.
#[unsafe(no_mangle)]
static NODE_NETNS: u32 = 0;

/// 1: the helper `bpf_task_pt_regs` exists (5.15 and later).
#[unsafe(no_mangle)]
static TASK_PT_REGS: u32 = 0;

/// Number of the system call setsockopt(2) on this architecture.
#[unsafe(no_mangle)]
static SETSOCKOPT_NR: i32 = -1;

/// The helpers that read kernel memory need a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
