//! `sched_process_exit`: a thread exits.
//!
//! Prototype: `(struct task_struct *p)`, and a second argument `bool group_dead` from 6.18
//! (include/trace/events/sched.h). Minimum: 2.6. Called by kernel/exit.c do_exit after it has decremented
//! `signal->live` and before the process's files are closed.
//!
//! Reported is the last thread of a process in a pod's cgroup, which `signal->live == 0` tells on every kernel.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use zdt_common::{Hook, ProcessExit};

use crate::{
    cgroup,
    emit::emit,
    read::{self, Ptr, arg, field},
};

#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    report(&ctx);
    0
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext) -> Option<()> {
    let task = arg(ctx, 0);
    let signal: Ptr = field!(task, task_signal);
    let live: i32 = field!(signal, signal_live);
    if live != 0 {
        return None;
    }
    let pod = cgroup::pod_of(read::cgroup_of_task(task))?;
    emit(Hook::SchedProcessExit, |event: &mut ProcessExit| {
        cgroup::write_task(&mut event.task, task, &pod);
        event.exit_code = field!(task, task_exit_code);
    });
    Some(())
}
