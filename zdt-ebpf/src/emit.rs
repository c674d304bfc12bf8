//! The only way out: reserve room in the ring buffer, or count the loss (invariant I7).

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    helpers::bpf_ktime_get_ns,
    maps::PerCpuArray,
};
use zdt_common::{ABI, Header, Hook};

use crate::maps::{EMITTED, EVENTS, LOST};

#[repr(C)]
struct Record<P> {
    header: Header,
    payload: P,
}

/// Writes one event. `fill` gets a payload of zero bytes; every payload type is plain integers, so that is valid.
///
/// The reader drains every few milliseconds by itself. Waking it costs an interrupt on this CPU, far more than the
/// write, so it is woken only when a quarter of the ring is full.
#[inline(always)]
pub fn emit<P: 'static>(hook: Hook, fill: impl FnOnce(&mut P)) {
    let Some(mut entry) = EVENTS.reserve::<Record<P>>(0) else {
        count(&LOST, hook);
        return;
    };
    let record = entry.as_mut_ptr();
    unsafe {
        zero(record);
        (*record).header = Header {
            ktime_ns: bpf_ktime_get_ns(),
            abi: ABI,
            hook: hook as u16,
            len: size_of::<P>() as u32,
        };
        fill(&mut (*record).payload);
    }
    let wakeup = if EVENTS.query(BPF_RB_AVAIL_DATA as u64) > EVENTS.query(BPF_RB_RING_SIZE as u64) / 4 {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    entry.submit(wakeup as u64);
    count(&EMITTED, hook);
}

/// Volatile, or the compiler would call `memset` for what is large: a function call, which makes the verifier of older kernels
/// take ten times as long for the whole program (see cgroup.rs, `is_pod`).
#[inline(always)]
unsafe fn zero<P>(record: *mut Record<P>) {
    const { assert!(size_of::<Record<P>>().is_multiple_of(8)) };
    for word in 0..size_of::<Record<P>>() / 8 {
        unsafe { record.cast::<u64>().add(word).write_volatile(0) };
    }
}

/// Counts an event that is held back.
#[inline(always)]
pub fn lost(hook: Hook) {
    count(&LOST, hook);
}

/// An interrupt may run the same program on this CPU between load and store, hence the atomic addition: as assembly,
/// since `core` has no atomics for this target, and without a result, since 5.10 knows no fetching atomics.
#[inline(always)]
fn count(counters: &PerCpuArray<u64>, hook: Hook) {
    if let Some(counter) = counters.get_ptr_mut(hook as u32) {
        unsafe {
            core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1u64, options(nostack));
        }
    }
}
