//! Whatever zdt is given, it says what is wrong and what to do, ends with the right exit code, and never panics.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in tests only by `#[test]`; what fails here must fail the test"
)]

mod api;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

const ZDT: &str = env!("CARGO_BIN_EXE_zdt");
const HEAD: &str = "{\"format\":\"zdt-record\",\"version\":1,\"zdt\":\"0.1.0\"}\n";
const TICK: &str = "{\"at\":5,\"what\":\"tick\"}\n";

/// A folder of one test, gone with it.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("zdt-bad-input-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        // The test that gives up root reads what is in it.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, text).unwrap();
        file
    }

    /// A kubeconfig whose server is a port that nobody listens on.
    fn kubeconfig(&self) -> PathBuf {
        api::kubeconfig(&self.0, SocketAddr::from(([127, 0, 0, 1], 9)))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// zdt without what the environment may say.
fn zdt(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for name in [
        "KUBECONFIG",
        "NODE_NAME",
        "ZDT_LOG",
        "ZDT_BTF_PATH",
        "KUBERNETES_SERVICE_HOST",
    ] {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[track_caller]
fn ends(command: &mut Command, code: i32, says: &[&str]) -> Output {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{stdout}\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for text in says {
        assert!(
            stderr.contains(text) || stdout.contains(text),
            "no {text:?} in\n{stdout}\n{stderr}"
        );
    }
    output
}

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

/// A `zdt run` whose log is read line by line.
struct Running {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(kubeconfig: &Path, more: &[&str]) -> Self {
        let mut command = zdt(ZDT.as_ref());
        command
            .args(["run", "--node", "n1", "--kubeconfig"])
            .arg(kubeconfig)
            .args(more);
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Reads the log until a line contains `text`.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let mut all = String::new();
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(
                self.log.read_line(&mut line).unwrap() > 0,
                "the log ended without {text:?}:\n{all}"
            );
            all.push_str(&line);
        }
        line
    }

    fn stop(mut self) -> Option<i32> {
        kill(
            Pid::from_raw(self.child.id().try_into().unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs root"]
fn api_server_that_is_not_there_is_said_once_and_waited_for() {
    let dir = Dir::new("refused");
    let mut run = Running::start(&dir.kubeconfig(), &[]);
    let line = run.until("cannot be reached");
    assert!(
        line.contains("http://127.0.0.1:9/") && line.contains("Connection refused"),
        "{line}"
    );
    assert!(line.contains("zdt keeps trying"), "{line}");
    assert_eq!(run.stop(), Some(0));
}

#[test]
#[ignore = "needs root"]
fn api_server_that_goes_away_and_comes_back_is_said_and_survived() {
    let dir = Dir::new("away");
    let store = api::Store::default();
    store.put("pods", api::pod("a", "10.0.0.1"));
    let server = api::Api::start(&store);
    let record = dir.0.join("record");
    let kubeconfig = api::kubeconfig(&dir.0, server.addr);
    let mut run = Running::start(&kubeconfig, &["--record", record.to_str().unwrap()]);
    let ready = run.until("ready: ");
    assert!(
        ready.starts_with("ready: ") && ready.contains("hooks attached, watches synced"),
        "{ready}"
    );

    let addr = server.stop();
    run.until("cannot be reached");
    store.delete("pods", "a");
    store.forget_history(false);
    let _server = api::Api::start_at(addr, &store);
    run.until("answers again");
    // Waits until the record has it: it is flushed with each tick.
    let gone = "\"what\":\"pod-gone\"";
    let text = loop {
        let text = fs::read_to_string(&record).unwrap();
        if text.contains(gone) {
            break text;
        }
        std::thread::yield_now();
    };
    let gap = text.find("\"what\":\"watch-gap\"").unwrap();
    assert!(
        gap < text.find(gone).unwrap(),
        "the gap is marked before what came of it"
    );
    assert_eq!(run.stop(), Some(0));
}

#[test]
#[ignore = "needs root"]
fn forbidden_list_ends_with_the_rule_that_is_missing() {
    let dir = Dir::new("forbidden");
    let store = api::Store::default();
    store.refuse("services", 403);
    let server = api::Api::start(&store);
    let mut run = zdt(ZDT.as_ref());
    run.args(["run", "--node", "n1", "--kubeconfig"])
        .arg(api::kubeconfig(&dir.0, server.addr));
    ends(&mut run, 2, &["resources: [services], verbs: [list, watch]"]);
}
