//! `zdt run` on this machine's kernel, against an API server that is not there, goes away, comes back and refuses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in tests only by `#[test]`; what fails here must fail the test"
)]

mod api;
#[path = "run/paused.rs"]
mod paused;
#[path = "run/privileges.rs"]
mod privileges;
#[path = "run/record.rs"]
mod record;
mod zdt;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use zdt::{Dir, ZDT, ends, zdt};

/// A `zdt run` whose log is read line by line.
struct Running {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(kubeconfig: &Path, more: &[&str]) -> Self {
        Self::by(zdt(ZDT.as_ref()), kubeconfig, more)
    }

    fn by(mut command: Command, kubeconfig: &Path, more: &[&str]) -> Self {
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
    let broken = text.find("\"what\":\"watch-broken\"").unwrap();
    assert!(
        broken < text.find(gone).unwrap(),
        "the gap is marked before what came of it"
    );
    assert_eq!(run.stop(), Some(0));
}

#[test]
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

/// Programs, maps and links of the kernel that a process holds.
fn held(pid: u32) -> BTreeSet<(String, u32)> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let texts = files.filter_map(|f| fs::read_to_string(f.unwrap().path()).ok());
    let mut held = BTreeSet::new();
    for line in texts.flat_map(|t| t.lines().map(str::to_owned).collect::<Vec<_>>()) {
        let Some((key, id)) = line.split_once(":\t") else {
            continue;
        };
        if ["prog_id", "map_id"].contains(&key) {
            held.insert((key.to_owned(), id.parse().unwrap()));
        }
    }
    held
}

/// What goes away between its number and its name, as others' does all the time, is not there.
fn in_the_kernel() -> BTreeSet<(String, u32)> {
    let programs = aya::programs::loaded_programs().flatten();
    let maps = aya::maps::loaded_maps().flatten();
    let programs = programs.map(|p| ("prog_id".to_owned(), p.id()));
    programs
        .chain(maps.map(|m| ("map_id".to_owned(), m.id())))
        .collect()
}

fn leaves_nothing(name: &str, end: Signal) {
    let dir = Dir::new(name);
    let store = api::Store::default();
    let server = api::Api::start(&store);
    let mut run = Running::start(&api::kubeconfig(&dir.0, server.addr), &[]);
    run.until("ready: ");
    let held = held(run.child.id());
    assert!(held.len() > 20, "{held:?}");
    assert!(held.is_subset(&in_the_kernel()));
    kill(Pid::from_raw(run.child.id().try_into().unwrap()), end).unwrap();
    run.child.wait().unwrap();
    // The kernel frees them behind a grace period of its own (kernel/bpf/syscall.c bpf_prog_put_deferred).
    let mut looks = 0;
    while !held.is_disjoint(&in_the_kernel()) {
        assert!(looks < 2_000, "still there: {held:?}");
        looks += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn daemon_that_is_killed_leaves_nothing_in_the_kernel() {
    leaves_nothing("killed", Signal::SIGKILL);
}

#[test]
fn daemon_that_is_stopped_leaves_nothing_in_the_kernel() {
    leaves_nothing("stopped", Signal::SIGTERM);
}

#[test]
fn two_daemons_on_one_node_do_not_disturb_each_other() {
    let dir = Dir::new("two");
    let store = api::Store::default();
    let server = api::Api::start(&store);
    let kubeconfig = api::kubeconfig(&dir.0, server.addr);
    let mut first = Running::start(&kubeconfig, &[]);
    first.until("ready: ");
    let mut second = Running::start(&kubeconfig, &[]);
    let ready = second.until("ready: ");
    assert!(ready.contains("hooks attached"), "{ready}");
    assert_eq!(second.stop(), Some(0));
    let held = held(first.child.id());
    assert!(
        held.is_subset(&in_the_kernel()),
        "the first one's are still there"
    );
    assert_eq!(first.stop(), Some(0));
}
