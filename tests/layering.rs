//! The architecture as a test over the source text: who may name what (invariants I3 and I5 of ARCHITECTURE.md), how long
//! a file may be, and which names say nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

#[path = "layering/rules.rs"]
mod rules;
#[path = "layering/source.rs"]
mod source;

use source::{Source, declared, names, workspace};

/// Crates and std modules that `correlate/` and `causes/` never name: they do no IO, read no clock, take no lock (I3).
const PURE_NEVER: &[&str] = &[
    "tokio",
    "aya",
    "kube",
    "k8s_openapi",
    "nix",
    "libc",
    "netlink_sys",
    "tracing",
    "std::time",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::io",
    "Mutex",
    "RwLock",
    "Instant",
    "SystemTime",
    "println",
    "eprintln",
    "crate::kernel",
    "crate::netfilter",
    "crate::cluster",
    "crate::app",
    "crate::clock",
    "crate::config",
    "crate::sink",
    "crate::record",
    "crate::cli",
];

/// An iteration order that changes from run to run would change the output (I4: live = replay).
const UNORDERED: &[&str] = &["HashMap", "HashSet"];

/// (a name, the only place in the daemon that may use it) (I5).
const ONLY: &[(&str, &str)] = &[
    ("aya", "zdt-daemon/src/kernel/"),
    ("btfparse", "zdt-daemon/src/kernel/"),
    ("netlink_sys", "zdt-daemon/src/netfilter/"),
    ("kube", "zdt-daemon/src/cluster/"),
    ("k8s_openapi", "zdt-daemon/src/cluster/"),
    ("tokio::spawn", "zdt-daemon/src/app.rs"),
    ("spawn_blocking", "zdt-daemon/src/app.rs"),
    ("JoinSet", "zdt-daemon/src/app.rs"),
];

/// A file does one job; a longer one does two.
const MOST_LINES: usize = 400;

/// Words that say nothing about what a thing is.
const EMPTY_WORDS: &[&str] = &[
    "manager", "handler", "helper", "helpers", "util", "utils", "common", "data", "info",
];

/// Terms of the field that hold such a word.
const TERMS: &[&str] = &["data_plane"];

fn is_pure(path: &str) -> bool {
    path.starts_with("zdt-daemon/src/correlate") || path.starts_with("zdt-daemon/src/causes")
}

/// All violations, as `file:line: what`.
fn violations(sources: &[Source], rule: impl Fn(&Source) -> Vec<(usize, String)>) -> Vec<String> {
    let found = sources.iter().flat_map(|s| {
        rule(s)
            .into_iter()
            .map(|(n, what)| format!("{}:{n}: {what}", s.path))
    });
    found.collect()
}

#[track_caller]
fn none(found: &[String]) {
    assert!(
        found.is_empty(),
        "{} violations:\n{}",
        found.len(),
        found.join("\n")
    );
}

fn impure(s: &Source) -> Vec<(usize, String)> {
    if is_pure(&s.path) {
        names(s, PURE_NEVER)
    } else {
        Vec::new()
    }
}

/// A map without an order may be asked for a key; going through it is what changes from run to run.
fn unordered(s: &Source) -> Vec<(usize, String)> {
    if !is_pure(&s.path) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for name in source::declared_as(s, UNORDERED) {
        for walk in [
            "iter()",
            "iter_mut()",
            "into_iter()",
            "keys()",
            "values()",
            "values_mut()",
            "drain()",
        ] {
            found.extend(source::lines_with(s, &format!("{name}.{walk}")));
        }
        found.extend(source::lines_with(s, &format!("in &self.{name} ")));
        found.extend(source::lines_with(s, &format!("in &{name} ")));
    }
    // What does not depend on the order.
    found.retain(|(_, line)| {
        ![".any(", ".all(", ".count()", ".sum"]
            .iter()
            .any(|f| line.contains(f))
    });
    found
        .into_iter()
        .map(|(n, line)| (n, format!("goes through an unordered map: {line}")))
        .collect()
}

fn out_of_place(s: &Source) -> Vec<(usize, String)> {
    let daemon = s.path.starts_with("zdt-daemon/src/");
    let foreign = ONLY
        .iter()
        .filter(|(_, place)| daemon && !s.path.starts_with(place));
    foreign
        .flat_map(|(name, place)| {
            names(s, &[name])
                .into_iter()
                .map(move |(n, what)| (n, format!("{what}: only {place} may")))
        })
        .collect()
}

fn too_long(s: &Source) -> Vec<(usize, String)> {
    let lines = s.text.lines().count();
    let long = lines > MOST_LINES;
    long.then(|| (lines, format!("{lines} lines; at most {MOST_LINES}")))
        .into_iter()
        .collect()
}

fn without_a_job(s: &Source) -> Vec<(usize, String)> {
    let said = s
        .text
        .lines()
        .next()
        .is_some_and(|l| l.starts_with("//! ") && l.len() > 8);
    (!said)
        .then(|| {
            (
                1,
                "the first line must say the file's one job (`//! …`)".to_owned(),
            )
        })
        .into_iter()
        .collect()
}

fn empty_names(s: &Source) -> Vec<(usize, String)> {
    let stem = s
        .path
        .rsplit('/')
        .next()
        .and_then(|f| f.strip_suffix(".rs"))
        .unwrap_or_default()
        .to_owned();
    let items = declared(s).into_iter().chain([(1, stem)]);
    items
        .filter(|(_, name)| is_empty_name(name))
        .map(|(n, name)| (n, format!("`{name}` says nothing")))
        .collect()
}

fn is_empty_name(name: &str) -> bool {
    // Constants in capitals are mostly the kernel's (IPT_SO_GET_INFO), and those keep their names.
    let constant = name
        .chars()
        .all(|c| c == '_' || c.is_ascii_uppercase() || c.is_ascii_digit());
    if constant || TERMS.contains(&name) {
        return false;
    }
    let words = source::words(name);
    // The name of a test is a sentence, and may speak of data.
    if words.len() > 4 {
        return false;
    }
    let verb = matches!(words.first().map(String::as_str), Some("process" | "do")) && name.contains('_');
    verb || words.iter().any(|w| EMPTY_WORDS.contains(&w.as_str()))
}

fn allows_without_a_reason(s: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for start in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
        for (at, _) in s.code.match_indices(start) {
            let attribute = s.code[at..].split(")]").next().unwrap_or_default();
            if !attribute.contains("reason") {
                found.push((
                    source::line_at(&s.code, at),
                    "an exception to a lint needs a reason".to_owned(),
                ));
            }
        }
    }
    found
}

#[test]
fn the_correlator_and_the_causes_do_no_io_and_read_no_clock() {
    let sources = workspace();
    assert!(
        sources.iter().any(|s| is_pure(&s.path)),
        "the pure half has moved: mend this test"
    );
    none(&violations(&sources, impure));
}

#[test]
fn nothing_goes_through_an_unordered_map() {
    none(&violations(&workspace(), unordered));
}

#[test]
fn aya_kube_netlink_and_tasks_have_one_place_each() {
    none(&violations(&workspace(), out_of_place));
}

#[test]
fn the_abi_crate_has_no_std_and_names_no_other_crate_of_ours() {
    let sources = workspace();
    let lib = sources
        .iter()
        .find(|s| s.path == "zdt-common/src/lib.rs")
        .unwrap();
    assert!(lib.code.contains("#![no_std]"));
    let rule = |s: &Source| {
        if s.path.starts_with("zdt-common/") {
            names(s, &["std", "alloc", "zdt_daemon"])
        } else {
            Vec::new()
        }
    };
    none(&violations(&sources, rule));
}

#[test]
fn the_lab_knows_the_daemon_only_as_a_program() {
    let rule = |s: &Source| {
        if s.path.starts_with("tests/lab/") {
            names(s, &["zdt_daemon"])
        } else {
            Vec::new()
        }
    };
    none(&violations(&workspace(), rule));
}

#[test]
fn nothing_is_pinned() {
    let rule = |s: &Source| {
        if s.path.starts_with("zdt-daemon/src/kernel") {
            names(s, &["pin", "PinError"])
        } else {
            Vec::new()
        }
    };
    none(&violations(&workspace(), rule));
}

#[test]
fn no_file_is_longer_than_its_one_job() {
    none(&violations(&workspace(), too_long));
}

#[test]
fn every_file_says_its_job_in_its_first_line() {
    none(&violations(&workspace(), without_a_job));
}

#[test]
fn no_name_is_empty() {
    none(&violations(&workspace(), empty_names));
}

#[test]
fn every_exception_to_a_lint_has_its_reason() {
    none(&violations(&workspace(), allows_without_a_reason));
}

#[test]
fn every_hook_has_its_file_in_the_kernel_half() {
    let sources = workspace();
    for hook in zdt_common::Hook::ALL {
        let program = hook.name().split('/').next().unwrap_or_default();
        let path = format!("zdt-ebpf/src/hooks/{program}.rs");
        assert!(sources.iter().any(|s| s.path == path), "no {path}");
    }
}
