//! How often packets are reported: a flood (a scan against a rule that drops, a resolver whose servers are gone) must
//! not fill the ring. What is held back is counted as lost where it says more than what was reported.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use zdt_common::{Ends, Hook};

use crate::{
    emit::lost,
    maps::{DATAGRAMS, WINDOWS},
    packet::{Opening, UDP},
};

/// Reports of one hook on one CPU in [`WINDOW_NS`]: 2,000 a second. A connection attempt makes a few, so this is some
/// thousand failing attempts a second on each CPU; and at 200 bytes each a tenth of the ring until the daemon looks.
const PER_WINDOW: u32 = 200;
const WINDOW_NS: u64 = 100_000_000;

/// A flow of datagrams is reported once in this time. Its further datagrams say the same, so none of them is lost.
const DATAGRAM_NS: u64 = 1_000_000_000;

/// What one hook reported on one CPU lately.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Window {
    since_ns: u64,
    count: u32,
    pad: u32,
}

/// A flow of datagrams as one hook sees it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Datagrams {
    ends: Ends,
    hook: u32,
}

/// Whether a packet may be reported now.
#[inline(always)]
pub fn allows(hook: Hook, opening: &Opening) -> bool {
    let now = unsafe { bpf_ktime_get_ns() };
    if opening.protocol == UDP && !is_new(hook, &opening.ends, now) {
        return false;
    }
    has_room(hook, now)
}

/// Whether this hook may report once more now; counted as lost where it may not.
#[inline(always)]
pub fn has_room(hook: Hook, now: u64) -> bool {
    let Some(window) = WINDOWS.get_ptr_mut(hook as u32) else {
        return true;
    };
    // Of this CPU; an interrupt between these lines makes the count wrong by one.
    let window = unsafe { &mut *window };
    if now - window.since_ns > WINDOW_NS {
        window.since_ns = now;
        window.count = 0;
    }
    if window.count >= PER_WINDOW {
        lost(hook);
        return false;
    }
    window.count += 1;
    true
}

#[inline(always)]
fn is_new(hook: Hook, ends: &Ends, now: u64) -> bool {
    let flow = Datagrams {
        ends: *ends,
        hook: hook as u32,
    };
    if let Some(last) = DATAGRAMS.get_ptr_mut(flow) {
        let last = unsafe { &mut *last };
        if now - *last < DATAGRAM_NS {
            return false;
        }
        *last = now;
        return true;
    }
    // The least recently used one goes when it is full: then a flow is reported more than once a second.
    let _ = DATAGRAMS.insert(flow, now, 0);
    true
}
