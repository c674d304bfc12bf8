//! `oom:mark_victim`: the out-of-memory killer chose a process.
//!
//! Prototype: `(struct task_struct *task, uid_t uid)` from 6.8, `(int pid)` before (include/trace/events/oom.h).
//! Minimum: 4.14. The daemon asks BTF which of the two it is.
//!
//! With a task only pods' processes are reported; with a pid alone all are, since the daemon has to find out whose
//! process it was. It is a rare event.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use zdt_common::{Hook, OomVictim};

use crate::{
    cgroup,
    emit::emit,
    read::{self, arg, global},
};

#[btf_tracepoint(function = "mark_victim")]
pub fn mark_victim(ctx: BtfTracePointContext) -> i32 {
    report(&ctx);
    0
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext) -> Option<()> {
    let first = arg(ctx, 0);
    if global!(VICTIM_IS_TASK) == 1 {
        let pod = cgroup::pod_of(read::cgroup_of_task(first))?;
        emit(Hook::MarkVictim, |event: &mut OomVictim| {
            cgroup::write_task(&mut event.task, first, &pod)
        });
    } else {
        emit(Hook::MarkVictim, |event: &mut OomVictim| {
            event.task.pid = first as u32
        });
    }
    Some(())
}
