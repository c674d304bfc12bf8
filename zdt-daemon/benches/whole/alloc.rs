//! Counts what this thread allocates: figures that no load of the machine moves.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static SO_FAR: Cell<Allocated> = const { Cell::new(Allocated { calls: 0, live: 0 }) };
}

/// What one thread has allocated since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// Calls of the allocator; one that only frees is none.
    pub calls: u64,
    /// Bytes asked for and not given back. Below zero where it frees what others allocated.
    pub live: i64,
}

impl Allocated {
    pub fn now() -> Self {
        SO_FAR.with(Cell::get)
    }

    pub fn since(self, earlier: Self) -> Self {
        Self {
            calls: self.calls - earlier.calls,
            live: self.live - earlier.live,
        }
    }
}

fn note(calls: u64, more: usize, less: usize) {
    // At the end of a thread there is nobody to tell.
    let _ = SO_FAR.try_with(|so_far| {
        let Allocated { calls: before, live } = so_far.get();
        so_far.set(Allocated {
            calls: before + calls,
            live: live + more.cast_signed() as i64 - less.cast_signed() as i64,
        });
    });
}

/// The system's allocator, with a count.
pub struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; each call goes on to the system's"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size(), 0);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        note(0, 0, layout.size());
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size, layout.size());
        unsafe { System.realloc(ptr, layout, size) }
    }
}
