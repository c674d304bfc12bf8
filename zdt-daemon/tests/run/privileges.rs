//! zdt with the capabilities of its manifest and nothing else, on the kernel that runs: `cargo xtask kernels` runs these on each.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::Value;

use super::{
    Running, api,
    zdt::{Dir, ZDT, ends, zdt},
};

const BASE: &str = include_str!("../../../deploy/base/daemonset.yaml");
const BEFORE_5_11: &str = include_str!("../../../deploy/components/before-5.11/kustomization.yaml");

/// Where the containers' capabilities are, in both.
const ADDED: &str = "/spec/template/spec/containers/0/securityContext/capabilities/add";

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn texts(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).unwrap()
}

/// What `deploy/base` adds to nothing.
fn of_the_manifest() -> Vec<String> {
    texts(yaml(BASE).pointer(ADDED).unwrap())
}

/// What the component for kernels before 5.11 adds to that.
fn of_the_component() -> Vec<String> {
    let patch = yaml(yaml(BEFORE_5_11)["patches"][0]["patch"].as_str().unwrap());
    let steps = patch.as_array().unwrap();
    assert!(
        steps
            .iter()
            .all(|s| s["op"] == "add" && s["path"] == format!("{ADDED}/-"))
    );
    steps
        .iter()
        .map(|s| s["value"].as_str().unwrap().to_owned())
        .collect()
}

/// What `deploy/base` says that an operator of this kernel installs.
fn of_this_kernel() -> Vec<String> {
    let component = if before_5_11() {
        of_the_component()
    } else {
        Vec::new()
    };
    [of_the_manifest(), component].concat()
}

/// The kernel that ends what the component is for: from 5.11 on maps count against the memory of the cgroup
/// (kernel/bpf/syscall.c, `bpf_map_area_alloc` with `__GFP_ACCOUNT`).
fn before_5_11() -> bool {
    let uname = nix::sys::utsname::uname().unwrap();
    let release = uname.release().to_str().unwrap();
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let mut next = || numbers.next().unwrap().unwrap();
    (next(), next()) < (5, 11)
}

/// As the kubelet has a container started: a root that cannot be written, no privilege to gain, these capabilities, and the limit
/// of locked memory that 5.10 begins with (include/uapi/linux/resource.h). It stays one process.
fn contained(capabilities: &[String]) -> Command {
    let set = capabilities
        .iter()
        .fold("-all".to_owned(), |set, name| set + ",+" + &name.to_lowercase());
    let mut command = zdt(Path::new("unshare"));
    command
        .args([
            "--mount",
            "sh",
            "-c",
            "mount -o remount,bind,ro / && exec \"$@\"",
            "sh",
        ])
        .args(["prlimit", "--memlock=65536:65536"])
        .args(["setpriv", "--no-new-privs", "--inh-caps=-all"])
        .args([&format!("--bounding-set={set}"), "--", ZDT]);
    command
}

/// What `zdt doctor` found. It ends with 1 where this kernel does not tell everything.
fn found(mut command: Command) -> Value {
    let output = command.args(["doctor", "-o", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let code = output.status.code();
    assert!(code == Some(0) || code == Some(1), "{code:?}: {said}");
    serde_json::from_str(&said).unwrap()
}

/// Of a process, as capabilities(7) numbers them.
fn effective(pid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim();
    assert_eq!(field("NoNewPrivs:"), "1");
    let set = u64::from_str_radix(field("CapEff:"), 16).unwrap();
    (0..64).filter(|bit| set >> bit & 1 == 1).collect()
}

#[test]
fn with_the_manifests_capabilities_everything_attaches_that_root_could() {
    let root = found(zdt(Path::new(ZDT)));
    let here = found(contained(&of_this_kernel()));
    assert_eq!(here["checks"], root["checks"]);
    let states = |said: &Value| -> BTreeMap<String, String> {
        let hooks = said["hooks"].as_array().unwrap().iter();
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        hooks.map(|h| (text(&h["hook"]), text(&h["state"]))).collect()
    };
    assert_eq!(states(&here), states(&root));
    assert!(states(&here).values().all(|state| state != "refused"), "{here:#}");

    let dir = Dir::new("privileges");
    let store = api::Store::default();
    let server = api::Api::start(&store);
    let kubeconfig = api::kubeconfig(&dir.0, server.addr);
    let mut run = Running::by(contained(&of_this_kernel()), &kubeconfig, &[]);
    let ready = run.until("ready: ");
    let attached = states(&here)
        .values()
        .filter(|state| *state == "attached")
        .count();
    assert!(
        ready.starts_with(&format!("ready: {attached} hooks attached")),
        "{ready}"
    );
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", run.child.id())).unwrap();
    // The last of those at one place is the one that is seen.
    let root = mounts
        .lines()
        .rfind(|l| l.split(' ').nth(1) == Some("/"))
        .unwrap();
    assert!(root.split(' ').nth(3).unwrap().starts_with("ro"), "{root}");
    let mut wanted: Vec<u32> = of_this_kernel().iter().map(|name| number(name)).collect();
    wanted.sort_unstable();
    assert_eq!(effective(run.child.id()), wanted);
    assert_eq!(run.stop(), Some(0));
}

/// include/uapi/linux/capability.h
fn number(name: &str) -> u32 {
    match name {
        "NET_ADMIN" => 12,
        "SYS_RESOURCE" => 24,
        "PERFMON" => 38,
        "BPF" => 39,
        other => panic!("{other}: what is its number?"),
    }
}

#[test]
fn little_locked_memory_stops_it_only_before_5_11_and_it_says_what_is_missing() {
    let base = || contained(&of_the_manifest());
    if !before_5_11() {
        found(base());
        return;
    }
    let says = ["64 KiB", "CAP_SYS_RESOURCE", "deploy/components/before-5.11"];
    let dir = Dir::new("locked");
    let mut run = base();
    run.args(["run", "--node", "n1", "--kubeconfig"])
        .arg(dir.kubeconfig());
    ends(&mut run, 2, &says);
    let mut doctor = base();
    doctor.arg("doctor");
    ends(&mut doctor, 2, &[&["missing   eBPF"], &says[..]].concat());
}

#[test]
fn each_capability_of_the_manifest_is_needed() {
    let names = of_the_manifest();
    for (left_out, name) in names.iter().enumerate() {
        let mut others = of_this_kernel();
        others.remove(left_out);
        let output = contained(&others)
            .args(["doctor", "-o", "json"])
            .output()
            .unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = said["checks"].as_array().unwrap();
        let worse = checks.iter().any(|c| {
            c["state"] != "fine"
                && c["found"]
                    .as_str()
                    .is_some_and(|f| f.contains(&format!("CAP_{name}")))
        });
        assert!(worse, "without {name}: {said:#}");
    }
}
