//! Memory that is freed goes back to the system.

/// For where much was needed for a short time: glibc keeps what is freed between pieces that live on.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate offers malloc_trim(3)")]
pub(crate) fn give_back() {
    // SAFETY: it takes no pointer, and may be called at any time (malloc_trim(3)).
    unsafe { nix::libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back() {}
