//! Whatever zdt is given, it says what is wrong and what to do, ends with the right exit code, and never panics.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in tests only by `#[test]`; what fails here must fail the test"
)]

mod api;
mod zdt;

use std::{
    fs,
    io::Write as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Output, Stdio},
};

use nix::unistd::geteuid;

use zdt::{Dir, ZDT, ends, zdt};

const HEAD: &str = "{\"format\":\"zdt-record\",\"version\":1,\"zdt\":\"0.1.0\"}\n";
const TICK: &str = "{\"at\":5,\"what\":\"tick\"}\n";

fn replay(text: &str, name: &str, code: i32, says: &[&str]) -> Output {
    let dir = Dir::new(name);
    let file = dir.file("record", text);
    ends(zdt(ZDT.as_ref()).arg("replay").arg(file), code, says)
}

#[test]
fn no_btf_says_which_kernel_option_is_missing() {
    let dir = Dir::new("btf");
    let mut run = zdt(ZDT.as_ref());
    run.args([
        "run",
        "--node",
        "n1",
        "--btf-path",
        "/nonexistent/vmlinux",
        "--kubeconfig",
    ])
    .arg(dir.kubeconfig());
    ends(&mut run, 2, &["/nonexistent/vmlinux", "CONFIG_DEBUG_INFO_BTF=y"]);
}

#[test]
fn broken_btf_is_an_error() {
    let dir = Dir::new("btf-broken");
    let mut run = zdt(ZDT.as_ref());
    run.args(["run", "--node", "n1", "--btf-path", "/etc/passwd", "--kubeconfig"])
        .arg(dir.kubeconfig());
    ends(&mut run, 2, &["cannot understand the BTF at /etc/passwd"]);
}

#[test]
fn doctor_without_btf_says_that_zdt_cannot_run() {
    let mut doctor = zdt(ZDT.as_ref());
    doctor.args(["doctor", "--btf-path", "/nonexistent/vmlinux"]);
    ends(
        &mut doctor,
        2,
        &["missing   BTF", "CONFIG_DEBUG_INFO_BTF=y", "zdt cannot run here"],
    );
}

/// As nobody: as root by giving it up, else as we are.
#[test]
fn no_permission_says_which_capabilities_are_needed() {
    let dir = Dir::new("permission");
    let kubeconfig = dir.kubeconfig();
    // The build folder may lie where nobody else may look.
    let binary = dir.0.join("zdt");
    fs::copy(ZDT, &binary).unwrap();
    let as_nobody = || {
        let mut command = zdt(&binary);
        if geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        command
    };
    let mut run = as_nobody();
    run.args(["run", "--node", "n1", "--kubeconfig"]).arg(&kubeconfig);
    ends(&mut run, 2, &["CAP_BPF, CAP_PERFMON"]);
    ends(
        as_nobody().arg("doctor"),
        2,
        &["missing   eBPF", "CAP_BPF", "zdt cannot run here"],
    );
}

#[test]
fn no_node_name_says_where_it_comes_from() {
    ends(zdt(ZDT.as_ref()).arg("run"), 2, &["--node", "NODE_NAME"]);
}

#[test]
fn no_kubeconfig_outside_a_cluster_says_how_to_pass_one() {
    ends(
        zdt(ZDT.as_ref()).args(["run", "--node", "n1"]),
        2,
        &["--kubeconfig", "service account"],
    );
}

#[test]
fn broken_kubeconfigs_are_errors_that_name_the_file() {
    let dir = Dir::new("kubeconfig");
    let missing = dir.0.join("missing");
    let not_yaml = dir.file("not-yaml", "clusters: [\n\t{");
    let other =
        "apiVersion: v1\nkind: Config\ncurrent-context: nowhere\ncontexts: []\nclusters: []\nusers: []\n";
    let unknown = dir.file("unknown-context", other);
    let no_context = dir.file("no-context", "apiVersion: v1\nkind: Config\n");
    let cases = [
        (missing, "cannot be read"),
        (not_yaml, "is not valid YAML"),
        (unknown, "`nowhere` is not among its contexts"),
        (no_context, "names no current context"),
    ];
    for (file, says) in cases {
        let name = file.display().to_string();
        let mut run = zdt(ZDT.as_ref());
        run.args(["run", "--node", "n1", "--kubeconfig"]).arg(&file);
        ends(&mut run, 2, &[says, &name]);
    }
}

#[test]
fn unwritable_record_is_said_before_anything_starts() {
    let dir = Dir::new("unwritable");
    let mut record = zdt(ZDT.as_ref());
    record.arg("record").arg(dir.0.join("no/such/folder/r"));
    record
        .args(["--node", "n1", "--kubeconfig"])
        .arg(dir.kubeconfig());
    ends(&mut record, 2, &["cannot create the record"]);
}

#[test]
fn missing_record_is_an_error() {
    ends(
        zdt(ZDT.as_ref()).args(["replay", "/nonexistent/record"]),
        2,
        &["/nonexistent/record"],
    );
}

#[test]
fn empty_record_is_said_to_be_empty() {
    replay("", "empty", 2, &["the file is empty"]);
}

#[test]
fn other_file_is_not_a_record() {
    replay(
        "hello\nworld\n",
        "other",
        2,
        &["line 1 is not the head of a zdt record"],
    );
}

#[test]
fn newer_record_names_the_zdt_that_reads_it() {
    let newer = "{\"format\":\"zdt-record\",\"version\":2,\"zdt\":\"3.1.4\"}\n";
    replay(newer, "newer", 2, &["format version 2", "zdt 3.1.4 or newer"]);
}

#[test]
fn malformed_line_is_named() {
    let text = format!("{HEAD}{TICK}{{\"at\":\"soon\"}}\n{TICK}");
    replay(&text, "malformed", 2, &["line 3 is not an input"]);
}

#[test]
fn truncated_record_gives_the_verdicts_of_what_is_whole() {
    let whole = include_str!("fixtures/rollout.jsonl");
    let expected = replay(whole, "whole", 0, &[]).stdout;
    assert!(!expected.is_empty(), "the fixture has something to say");
    // Two characters short of the end: all but the last line, a tick, is whole.
    let cut = whole.get(..whole.len() - 2).unwrap();
    let lines = whole.lines().count();
    let output = replay(cut, "truncated", 2, &[&format!("line {lines} is cut off")]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&expected)
    );
}

#[test]
fn record_on_standard_input_is_the_same() {
    let mut child = zdt(ZDT.as_ref())
        .args(["replay", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{HEAD}{TICK}").as_bytes())
        .unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

#[test]
fn reader_that_leaves_is_no_error() {
    let dir = Dir::new("pipe");
    let file = dir.file("record", include_str!("fixtures/rollout.jsonl"));
    let mut child = zdt(ZDT.as_ref())
        .args(["replay", "-o", "json"])
        .arg(file)
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(0), None));
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
