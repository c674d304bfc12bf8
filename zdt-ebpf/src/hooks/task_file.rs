//! `iter/task_file`: once at start, over the open files of all processes.
//!
//! Context: `struct bpf_iter__task_file { struct bpf_iter_meta *meta; struct task_struct *task; u32 fd; struct file *file; }`, 8
//! bytes each (kernel/bpf/task_iter.c). Minimum: 5.8. It walks the processes of the pid namespace of whoever reads it, and those
//! below: a daemon without `hostPID` finds none.
//!
//! It reports nothing: it finds the pods' listeners that were open before zdt, whose queues could not be looked at otherwise
//! (see queue.rs). One that several processes have open comes once for each.

use aya_ebpf::{EbpfContext, cty::c_void};

use crate::{
    cgroup, queue,
    read::{self, IPPROTO_TCP, Ptr, arg, field, tcp},
};

/// include/uapi/linux/stat.h
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

struct IterContext(*mut c_void);

impl EbpfContext for IterContext {
    fn as_ptr(&self) -> *mut c_void {
        self.0
    }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn task_file(ctx: *mut c_void) -> i32 {
    // The last call has no file.
    let file = arg(&IterContext(ctx), 3);
    if file != 0 {
        listener(file);
    }
    0
}

#[inline(always)]
fn listener(file: Ptr) -> Option<()> {
    let inode: Ptr = field!(file, file_inode);
    let mode: u16 = field!(inode, inode_mode);
    if mode & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket: Ptr = field!(file, file_private_data);
    let sk: Ptr = field!(socket, socket_sk);
    let protocol: u16 = field!(sk, sk_protocol);
    let state: u8 = field!(sk, sk_state);
    if sk == 0 || protocol != IPPROTO_TCP || state != tcp::LISTEN {
        return None;
    }
    let tuple = read::tuple(sk)?;
    cgroup::pod_of(read::cgroup_of_sock(sk))?;
    queue::listener(sk, tuple.lport, true);
    Some(())
}
