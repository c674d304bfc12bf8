//! From the start of the process until it is ready, with a generated API server of so many endpoints.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    api,
    figures::Figures,
    machine::Process,
    observer::{is_installed, spawn_zdt, with_us},
    report::Start,
    server::{self, Size},
};

/// What zdt asks for.
const LISTS: [&str; 4] = [
    "/api/v1/pods?fieldSelector=spec.nodeName=n0",
    "/api/v1/services",
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/apis/apps/v1/replicasets",
];

fn size(endpoints: usize) -> Size {
    let pods_of_each = 10;
    Size {
        nodes: (endpoints / 30).max(1),
        services: endpoints / pods_of_each,
        pods_of_each,
        changes_a_second: 1,
        seconds: 0,
    }
}

/// As a process of its own: its address is the first line.
pub fn serve(words: &[String]) {
    server::serve(size(words[0].parse().unwrap()));
}

/// All the lists, one behind the other, as the tool gets them that everybody has.
fn kubectl(kubeconfig: &Path) -> Option<f64> {
    if !is_installed("kubectl") {
        return None;
    }
    let began = Instant::now();
    for list in LISTS {
        let got = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["get", "--raw", list])
            .stdout(Stdio::null())
            .status();
        assert!(got.is_ok_and(|s| s.success()), "kubectl get --raw {list}");
    }
    Some(began.elapsed().as_secs_f64())
}

fn once(endpoints: usize, into: &mut Start) {
    let mut serving = with_us(std::env::current_exe().unwrap().to_str().unwrap())
        .args(["serve-api", &endpoints.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(serving.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let addr: SocketAddr = line.trim().parse().unwrap();
    let dir = std::env::temp_dir().join(format!("zdt-bench-start-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let kubeconfig = api::kubeconfig(&dir, addr);
    into.kubectl_s.extend(kubectl(&kubeconfig));
    let began = Instant::now();
    let zdt = spawn_zdt(&kubeconfig, "n0");
    into.ready_s.add(began.elapsed().as_secs_f64());
    // What the lists have left behind.
    std::thread::sleep(Duration::from_secs(1));
    into.rss_mib.add(Process::look(zdt.pid().unwrap()).rss_mib);
    drop(zdt);
    serving.kill().unwrap();
    serving.wait().unwrap();
    let _ = fs::remove_dir_all(dir);
}

pub fn measure(quick: bool) -> Vec<Start> {
    let sizes = if quick {
        &[100, 10_000][..]
    } else {
        &[100, 10_000, 150_000]
    };
    let measured = sizes.iter().map(|&endpoints| {
        let mut start = Start {
            endpoints,
            ready_s: Figures::default(),
            ..Start::default()
        };
        for round in 0..if quick { 1 } else { 3 } {
            eprintln!("start with {endpoints} endpoints, round {} ...", round + 1);
            once(endpoints, &mut start);
        }
        start
    });
    measured.collect()
}
