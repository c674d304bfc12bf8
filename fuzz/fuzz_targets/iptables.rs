//! Legacy tables as the kernel copies them out, read as of either family.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zdt_parsers::netfilter::iptables::{Family, parse};

fuzz_target!(|table: &[u8]| {
    for family in Family::ALL {
        if let Ok(parsed) = parse(table, family) {
            // A rule with a target takes more (struct ipt_entry and xt_entry_target).
            assert!(parsed.routes.len() as u64 + parsed.odd <= table.len() as u64 / 32);
        }
    }
});
