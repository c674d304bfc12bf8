//! The rules themselves: each finds what it is for, and leaves alone what it is not for.

use super::*;

fn at(path: &str, text: &str) -> Source {
    Source::new(path.to_owned(), text.to_owned())
}

fn pure(text: &str) -> usize {
    impure(&at("zdt-daemon/src/correlate/x.rs", text)).len()
}

#[test]
fn an_import_of_io_in_the_pure_half_is_found() {
    assert_eq!(pure("use tokio::time;"), 1);
    assert_eq!(
        pure("use crate::{input::Input, kernel::Ring};"),
        1,
        "inside braces"
    );
    assert_eq!(pure("use std::{fmt, fs};"), 1, "std's too");
    assert_eq!(pure("let t = std::time::Instant::now();"), 2);
    assert_eq!(impure(&at("zdt-daemon/src/app.rs", "use tokio::time;")).len(), 0);
}

#[test]
fn a_walk_through_an_unordered_map_is_found_and_a_lookup_is_not() {
    let table = "struct T { by: HashMap<u8, u8> }\nfn a(t: &T) { t.by.get(&1); t.by.insert(1, 2); }\n";
    let rule = |text: &str| unordered(&at("zdt-daemon/src/correlate/x.rs", text)).len();
    assert_eq!(rule(table), 0);
    assert_eq!(
        rule(&format!("{table}fn b(t: &T) {{ for v in t.by.values() {{}} }}")),
        1
    );
    assert_eq!(
        rule(&format!(
            "{table}impl T {{ fn b(&self) {{ for v in &self.by {{}} }} }}"
        )),
        1
    );
    assert_eq!(rule("fn a() { let m = BTreeMap::new(); m.values(); }"), 0);
}

#[test]
fn comments_strings_tests_and_longer_words_are_left_alone() {
    assert_eq!(pure("// tokio is not here\n/// nor kube\nlet s = \"aya\";"), 0);
    assert_eq!(pure("use crate::input::Observation; let kube_proxy = 1;"), 0);
    assert_eq!(pure("fn a() {}\n#[cfg(test)]\nmod tests { use std::fs; }"), 0);
    assert_eq!(pure("use std::{fmt, net::SocketAddr};"), 0);
}

#[test]
fn a_name_out_of_its_place_is_found() {
    assert_eq!(
        out_of_place(&at("zdt-daemon/src/app.rs", "use kube::Client;")).len(),
        1
    );
    assert_eq!(
        out_of_place(&at("zdt-daemon/src/cluster/watch.rs", "use kube::Client;")).len(),
        0
    );
    assert_eq!(
        out_of_place(&at("zdt-daemon/src/sink/x.rs", "tokio::spawn(async {})")).len(),
        1
    );
    assert_eq!(
        out_of_place(&at("tests/lab/x.rs", "tokio::spawn(async {})")).len(),
        0
    );
}

#[test]
fn empty_names_are_found_and_kernel_names_are_not() {
    for name in ["EventManager", "do_it", "process_event", "net_utils", "pod_data"] {
        assert!(is_empty_name(name), "{name}");
    }
    for name in [
        "ProcessExit",
        "Database",
        "sched_process_exit",
        "Doctor",
        "information",
        "IPT_SO_GET_INFO",
        "process",
    ] {
        assert!(!is_empty_name(name), "{name}");
    }
    assert_eq!(empty_names(&at("x/src/helpers.rs", "fn a() {}")).len(), 1);
    assert_eq!(
        empty_names(&at(
            "x/src/y.rs",
            "pub struct FlowInfo;\nimpl Z { async fn do_x() {} }"
        ))
        .len(),
        2
    );
}

#[test]
fn long_files_files_without_a_job_and_silent_exceptions_are_found() {
    assert_eq!(too_long(&at("x.rs", &"\n".repeat(401))).len(), 1);
    assert_eq!(too_long(&at("x.rs", &"\n".repeat(400))).len(), 0);
    assert_eq!(without_a_job(&at("x.rs", "use a;")).len(), 1);
    assert_eq!(
        allows_without_a_reason(&at("x.rs", "#[allow(dead_code)]\nfn a() {}")).len(),
        1
    );
    assert_eq!(
        allows_without_a_reason(&at("x.rs", "#[expect(\n dead_code,\n reason = \"so\"\n)]")).len(),
        0
    );
}
