//! Answers of conntrack: entries, and counters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zdt_parsers::{
    input::ConntrackState,
    netfilter::{counters, entry},
};

fuzz_target!(|datagram: &[u8]| {
    for entry in entry::entries(datagram).flatten() {
        for direction in [entry.orig, entry.reply] {
            assert_eq!(direction.from.is_ipv4(), direction.to.is_ipv4());
        }
    }
    let _ = counters::add(&mut ConntrackState::default(), datagram);
});
