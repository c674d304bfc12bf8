//! Messages of nf_tables in any order: the length of a dump (4 bytes, little endian), the dump, notifications.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zdt_parsers::{input::Ktime, netfilter::nftables::Tracker};

fuzz_target!(|bytes: &[u8]| {
    let Some((length, bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let length = u32::from_le_bytes(*length) as usize;
    let (dump, notified) = bytes.split_at(length.min(bytes.len()));
    let mut tracker = Tracker::default();
    tracker.dumped(dump);
    tracker.dump_ended(None);
    let before = tracker.routes();
    let mut generations = Vec::new();
    tracker.notified(notified, Ktime(1), &mut generations);
    // What was told leads from what was known to what is known.
    let mut known = before;
    for generation in &generations {
        known.apply(&generation.change);
    }
    assert_eq!(known, tracker.routes());
    let losses = tracker.losses();
    assert!(losses.unparsed == 0 || tracker.needs_resync() || !dump.is_empty());
});
