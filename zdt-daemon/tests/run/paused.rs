//! A daemon that is stopped for a while, and goes on.

use std::{fs, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{Running, api, zdt::Dir};

#[test]
fn daemon_that_was_stopped_for_a_while_says_so_before_it_tells_what_it_missed() {
    let dir = Dir::new("paused");
    let store = api::Store::default();
    store.put("pods", api::pod("a", "10.0.0.1"));
    let server = api::Api::start(&store);
    let record = dir.0.join("record");
    let kubeconfig = api::kubeconfig(&dir.0, server.addr);
    let mut run = Running::start(&kubeconfig, &["--record", record.to_str().unwrap()]);
    run.until("ready: ");
    let pid = Pid::from_raw(run.child.id().try_into().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    // That it is stopped for long is what is tested.
    std::thread::sleep(Duration::from_secs(3));
    store.delete("pods", "a");
    kill(pid, Signal::SIGCONT).unwrap();
    run.until("zdt did not run for ");
    run.until("what changed meanwhile has been told");
    assert_eq!(run.stop(), Some(0));

    let text = fs::read_to_string(&record).unwrap();
    let inputs: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let place = |what: &str, key: &str, value: &str| {
        let found = inputs.iter().position(|i| i["what"] == what && i[key] == value);
        found.unwrap_or_else(|| panic!("no {what} of {value} in\n{text}"))
    };
    let broken = place("watch-broken", "resource", "pods");
    let since = inputs[broken]["since"].as_u64().unwrap();
    let at = inputs[broken]["at"].as_u64().unwrap();
    assert!(at - since > 2_000_000_000, "the time in which it did not run");
    assert!(broken < place("loss", "source", "paused"));
    let gone = place("pod-gone", "uid", "uid-a");
    assert!(broken < gone, "what is told late is known to be late");
    assert!(gone < place("watch-gap", "resource", "pods"), "and waited for");
}
