//! The type information of the kernels of `cargo xtask kernels`, cut down to what zdt asks of it: every offset, argument and name
//! that zdt uses is there, or is known to be absent. A kernel that is newer than these is cut by `cargo xtask kernels --btf`.
#![expect(
    clippy::panic,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

use std::{collections::BTreeSet, path::Path};

use zdt_daemon::kernel::{
    btf::KernelFacts,
    table::{DETAILS, PROGRAMS, Place},
};

/// What differs.
struct Known {
    series: &'static str,
    /// Offsets that this kernel does not have.
    absent: &'static [&'static str],
    /// Tracepoints that it does not have.
    no_tracepoints: &'static [&'static str],
    /// Details that no tracepoint tells (see `DETAILS`).
    no_details: &'static [&'static str],
    task_pt_regs: bool,
}

const KNOWN: [Known; 5] = [
    Known {
        series: "5.10",
        absent: &[],
        no_tracepoints: &["icmp_send", "inet_sk_error_report"],
        no_details: &[
            "kfree_skb/reason",
            "tcp_retransmit_skb/err",
            "tcp_send_reset/no_socket",
        ],
        task_pt_regs: false,
    },
    Known {
        series: "6.1",
        absent: &[],
        no_tracepoints: &[],
        no_details: &["tcp_retransmit_skb/err", "tcp_send_reset/no_socket"],
        task_pt_regs: true,
    },
    Known {
        series: "6.12",
        absent: &[],
        no_tracepoints: &[],
        no_details: &["tcp_retransmit_skb/err"],
        task_pt_regs: true,
    },
    Known {
        series: "6.18",
        absent: &[],
        no_tracepoints: &[],
        no_details: &[],
        task_pt_regs: true,
    },
    Known {
        series: "7",
        absent: &[],
        no_tracepoints: &[],
        no_details: &[],
        task_pt_regs: true,
    },
];

/// Reasons that a rule, the kernel half's filter or `kernel/resets.rs` speaks of.
const RESET_REASONS: &[&str] = &[
    "NO_SOCKET",
    "TCP_ABORT_ON_CLOSE",
    "TCP_ABORT_ON_DATA",
    "TCP_STATE",
    "TCP_TIMEWAIT_SOCKET",
];
const DROP_REASONS: &[&str] = &["NEIGH_FAILED", "NETFILTER_DROP", "NO_SOCKET", "OTHERHOST"];

fn facts(series: &str) -> KernelFacts {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/btf");
    KernelFacts::read(&dir.join(format!("{series}.btf"))).unwrap_or_else(|e| panic!("{series}: {e}"))
}

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    names.into_iter().collect()
}

#[test]
fn every_offset_is_there_or_known_to_be_absent() {
    for known in &KNOWN {
        let facts = facts(known.series);
        assert_eq!(
            set(facts.absent.iter().copied()),
            set(known.absent.iter().copied()),
            "{}",
            known.series
        );
        assert_eq!(facts.task_pt_regs, known.task_pt_regs, "{}", known.series);
    }
}

#[test]
fn every_tracepoint_passes_what_its_program_relies_on_or_is_known_to_be_absent() {
    for known in &KNOWN {
        let facts = facts(known.series);
        let mut none = BTreeSet::new();
        for program in PROGRAMS.iter().filter(|p| p.place() == Place::Tracepoint) {
            match facts.arity(program.tracepoint) {
                Some(arity) => assert!(
                    arity >= program.min_args,
                    "{}: {} passes {arity} arguments",
                    known.series,
                    program.tracepoint
                ),
                None => drop(none.insert(program.tracepoint)),
            }
        }
        assert_eq!(
            none,
            set(known.no_tracepoints.iter().copied()),
            "{}",
            known.series
        );
        let told = |tracepoint: &str, arguments: usize| facts.arity(tracepoint) >= Some(arguments);
        let untold = DETAILS.iter().filter(|d| !told(d.tracepoint, d.arguments));
        assert_eq!(
            untold.map(|d| d.name).collect::<BTreeSet<_>>(),
            set(known.no_details.iter().copied()),
            "{}",
            known.series
        );
    }
}

#[test]
fn every_reason_that_is_spoken_of_has_its_name_where_there_are_reasons() {
    for known in &KNOWN {
        let facts = facts(known.series);
        for (detail, names, used) in [
            ("tcp_send_reset/no_socket", &facts.reset_reasons, RESET_REASONS),
            ("kfree_skb/reason", &facts.drop_reasons, DROP_REASONS),
        ] {
            if known.no_details.contains(&detail) {
                assert!(names.is_empty(), "{}: {detail}", known.series);
                continue;
            }
            let names = set(names.values().map(String::as_str));
            let missing: Vec<_> = used.iter().filter(|name| !names.contains(*name)).collect();
            assert!(missing.is_empty(), "{}: {missing:?}", known.series);
        }
    }
}

#[test]
fn offsets_are_where_the_kernels_put_them() {
    // struct sock_common has begun so since 2.6.
    for known in &KNOWN {
        let o = facts(known.series).offsets;
        assert_eq!((o.sk_daddr, o.sk_rcv_saddr, o.sk_dport, o.sk_num), (0, 4, 12, 14));
        assert_eq!((o.sk_family, o.sk_state), (16, 18), "{}", known.series);
        assert!(o.ct_reply_saddr > o.ct_orig_saddr && o.tp_rcv_nxt > o.icsk_lrcvtime);
    }
}

#[test]
fn there_is_a_file_for_each_kernel_and_no_other() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/btf");
    let mut files: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut wanted: Vec<String> = KNOWN.iter().map(|k| format!("{}.btf", k.series)).collect();
    wanted.sort();
    assert_eq!(files, wanted);
}
