//! `signal_generate`: a signal is put in a process's queue.
//!
//! Prototype: `(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`
//! (include/trace/events/signal.h). Minimum: 4.20 (before, the type of `info` has another name, its layout is the
//! same). `info` may be two numbers that are no pointers (include/linux/sched/signal.h): 0 SEND_SIG_NOINFO, which
//! stands for `SI_USER`, and 1 SEND_SIG_PRIV, which stands for `SI_KERNEL`.
//!
//! Reported are the signals of the daemon's mask (those that end processes, and those that proxies reload at) for processes
//! in a pod's cgroup: who was told to stop or to reload, when, and by whom. The running thread is the sender only where `si_code` says so.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use zdt_common::{Hook, Signal};

use crate::{
    cgroup,
    emit::emit,
    read::{self, arg, field, global},
};

/// include/uapi/asm-generic/siginfo.h
const SI_USER: i32 = 0;
const SI_KERNEL: i32 = 0x80;

#[btf_tracepoint(function = "signal_generate")]
pub fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    report(&ctx);
    0
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext) -> Option<()> {
    let sig = ctx.arg::<i32>(0);
    if !(0..64).contains(&sig) || global!(SIGNAL_MASK) >> sig & 1 == 0 {
        return None;
    }
    let task = arg(ctx, 2);
    let pod = cgroup::pod_of(read::cgroup_of_task(task))?;
    let code = match arg(ctx, 1) {
        0 => SI_USER,
        1 => SI_KERNEL,
        siginfo => field!(siginfo, siginfo_code),
    };
    let result = ctx.arg::<i32>(4);
    let sender = bpf_get_current_pid_tgid();
    emit(Hook::SignalGenerate, |event: &mut Signal| {
        cgroup::write_task(&mut event.target, task, &pod);
        event.sender_pid = sender as u32;
        event.sender_tgid = (sender >> 32) as u32;
        event.sender_comm = bpf_get_current_comm().unwrap_or_default();
        event.sig = sig;
        event.code = code;
        event.result = result;
    });
    Some(())
}
