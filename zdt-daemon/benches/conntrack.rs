//! What it costs to ask conntrack, and what a node with many new connections loses to its observers.
//! `cargo xtask bench conntrack`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "a benchmark stops at the first surprise, as a test does; the modules are the tests'"
)]

#[path = "../tests/api/mod.rs"]
mod api;
mod beside;
#[path = "conntrack/costs.rs"]
mod costs;
mod figures;
#[path = "conntrack/load.rs"]
mod load;
#[path = "conntrack/observer.rs"]
mod observer;

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use figures::{Args, Figures, Table};
use load::Load;
use nix::sched::{CloneFlags, unshare};
use observer::{ALL, Observer};

/// Connections are counted for so long, in each round, beside each observer.
const WINDOW: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(500);

const METHOD: &str = "\
Costs: one look-up or dump at a time, on an idle table of a network namespace; a dump walks the hash table of the whole machine.
Throughput: as many TCP connections as two clients and two servers open and reset in one network namespace, through a DNAT to a
pod, 2 s beside each observer, all observers in each round, in a rotating order; the ratio is to \"nobody\" of the same round.
In transition: one endpoint ends and one is gone each second; none of them is the busy pod. \"part\" is what asks conntrack and
follows the rules, alone in a process; \"zdt\" is all of `zdt run`. CPU is the observer's, in percent of one CPU.";

/// A service with one pod here, and one with many endpoints elsewhere; conntrack works in a namespace while rules ask for it.
fn setup() -> Vec<String> {
    let elsewhere: Vec<String> = (0..250)
        .map(|n| {
            format!(
                "add rule ip kube-proxy service-far meta l4proto tcp dnat ip to {}:80",
                observer::far(n)
            )
        })
        .collect();
    let rules = format!(
        "add table ip kube-proxy
        add chain ip kube-proxy nat-output {{ type nat hook output priority -100; }}
        add chain ip kube-proxy services
        add chain ip kube-proxy service-near
        add chain ip kube-proxy service-far
        add map ip kube-proxy service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
        add rule ip kube-proxy nat-output jump services
        add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
        add rule ip kube-proxy service-near meta l4proto tcp dnat ip to {}
        {}
        add element ip kube-proxy service-ips {{ 10.96.0.1 . tcp . 80 : goto service-near, 10.96.0.2 . tcp . 80 : goto service-far }}",
        load::POD,
        elsewhere.join("\n")
    );
    vec![
        "ip link set lo up".into(),
        "ip addr add 10.0.0.5/32 dev lo".into(),
        "ip route add 10.96.0.0/16 dev lo".into(),
        // It makes conntrack work, and with it its settings appear.
        format!("nft {rules}"),
        // 20,000 a second would fill the table in its usual 10 s.
        "sysctl -q -w net.netfilter.nf_conntrack_tcp_timeout_close=1".into(),
    ]
}

fn run(command: &str) {
    let (program, rest) = command.split_once(' ').unwrap();
    let mut command = Command::new(program);
    if program == "nft" {
        command.arg(rest);
    } else {
        command.args(rest.split(' '));
    }
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// Into a network namespace of this process, with all that it starts.
fn isolate() {
    unshare(CloneFlags::CLONE_NEWNET).expect("the benchmark makes a network namespace: run it as root");
    for command in setup() {
        run(&command);
    }
}

/// Connections a second beside one observer, and its CPU in percent.
fn beside(observer: Observer, load: &Load) -> (f64, f64) {
    let running = observer.start();
    thread::sleep(WARM_UP);
    let (before, cpu, started) = (load.opened(), running.cpu(), Instant::now());
    thread::sleep(WINDOW);
    let (opened, took) = (load.opened() - before, started.elapsed().as_secs_f64());
    let cpu = running.cpu().saturating_sub(cpu).as_secs_f64();
    running.stop();
    (opened as f64 / took, cpu / took * 100.0)
}

fn throughput(rounds: usize) -> Table {
    isolate();
    let load = Load::start();
    let mut measured: Vec<[Figures; 3]> = ALL.iter().map(|_| <_>::default()).collect();
    for round in 0..rounds {
        eprintln!("round {} of {rounds} ...", round + 1);
        let order = (0..ALL.len()).map(|n| (n + round) % ALL.len());
        let mut rates = vec![(0.0, 0.0); ALL.len()];
        for at in order {
            rates[at] = beside(ALL[at], &load);
        }
        let nobody = rates[0].0;
        for (figures, (rate, cpu)) in measured.iter_mut().zip(rates) {
            figures[0].add(rate);
            figures[1].add(rate / nobody);
            figures[2].add(cpu);
        }
    }
    load.stop();
    let mut table = Table::new(
        "observer",
        &[("connections/s", 0), ("ratio to nobody", 3), ("its CPU %", 1)],
    );
    for (observer, figures) in ALL.iter().zip(measured) {
        table.row(observer.name(), figures.into());
    }
    table
}

fn main() {
    if let Some(moving) = observer::as_child() {
        // In its parent's namespace already.
        return observer::part(moving);
    }
    let args = Args::read(7);
    eprintln!("costs ...");
    let costs = costs::table(args.rounds);
    let throughput = throughput(args.rounds);
    args.print(METHOD, &[costs, throughput]);
}
