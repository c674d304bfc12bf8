//! Whose process or socket it is: the names of the cgroup directories, as the kubelet and the runtime chose them
//! (pkg/kubelet/cm/cgroup_manager_linux.go, pod_container_manager_linux.go).
//!
//! - cgroupfs driver: `…/kubepods/[<qos>/]pod<uid>/<container id>`
//! - systemd driver: `…/kubepods[-<qos>]-pod<uid>.slice/cri-containerd-<container id>.scope`, maybe with a prefix
//!   (kind: `kubelet-kubepods-…`)

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use zdt_common::{CGROUP_NAME_LEN, COMM_LEN, Cgroup, Task};

use crate::read::{self, Ptr, field};

/// Levels between a process and its pod's directory. Runtimes and init systems inside the container make their own
/// directories below it; six is more than any seen.
const DEPTH: usize = 6;

/// How much of a name tells what it is: the longest prefix is `kubelet-kubepods-besteffort-pod`.
const PREFIX_LEN: usize = 40;

/// A cgroup below (or at) a pod's directory.
pub struct Pod {
    /// The cgroup itself.
    id: u64,
    /// The pod's directory.
    pod: Ptr,
    /// The directory right below it, the container's; 0: there is none.
    container: Ptr,
}

/// The pod that a cgroup belongs to; None where it belongs to none.
#[inline(always)]
pub fn pod_of(cgroup: Ptr) -> Option<Pod> {
    if cgroup == 0 {
        return None;
    }
    let own: Ptr = field!(cgroup, cgroup_kn);
    let mut below: Ptr = 0;
    let mut node = own;
    for _ in 0..=DEPTH {
        if node == 0 {
            return None;
        }
        if is_pod(node) {
            return Some(Pod {
                id: field!(own, kn_id),
                pod: node,
                container: below,
            });
        }
        below = node;
        node = field!(node, kn_parent);
    }
    None
}

/// Part of its caller, as everything here: before 6.2 the verifier takes every number for one that matters as soon as there is
/// one call of a function (kernel/bpf/verifier.c __mark_reg_unknown, `subprog_cnt > 1`), and then finds hardly any two states equal.
#[inline(always)]
fn is_pod(node: Ptr) -> bool {
    let mut name = [0u8; PREFIX_LEN];
    let address: Ptr = field!(node, kn_name);
    let read = unsafe {
        bpf_probe_read_kernel_str(name.as_mut_ptr().cast(), PREFIX_LEN as u32, address as *const _)
    };
    if read <= 0 {
        return false;
    }
    if name[0] == b'p' && name[1] == b'o' && name[2] == b'd' {
        return true;
    }
    // "-pod" anywhere after "kubepods". The word is of the last four bytes.
    let mut seen_kubepods = false;
    let mut word = 0u32;
    for byte in name {
        word = word >> 8 | (byte as u32) << 24;
        if word == u32::from_le_bytes(*b"pods") {
            seen_kubepods = true;
        } else if seen_kubepods && word == u32::from_le_bytes(*b"-pod") {
            return true;
        }
    }
    false
}

/// Writes the names of a pod's cgroup into an event.
#[inline(always)]
pub fn write(to: &mut Cgroup, pod: &Pod) {
    to.id = pod.id;
    write_name(&mut to.pod, pod.pod);
    if pod.container != 0 {
        write_name(&mut to.leaf, pod.container);
    }
}

#[inline(always)]
fn write_name(to: &mut [u8; CGROUP_NAME_LEN], node: Ptr) {
    let address: Ptr = field!(node, kn_name);
    unsafe {
        bpf_probe_read_kernel_str(
            to.as_mut_ptr().cast(),
            CGROUP_NAME_LEN as u32,
            address as *const _,
        );
    }
}

/// Writes a task of a pod into an event.
#[inline(always)]
pub fn write_task(to: &mut Task, task: Ptr, pod: &Pod) {
    write(&mut to.cgroup, pod);
    to.pid = field!(task, task_pid);
    to.tgid = field!(task, task_tgid);
    to.netns = read::netns_of_task(task);
    to.comm = field!(task, task_comm);
    const { assert!(COMM_LEN == 16) };
}
