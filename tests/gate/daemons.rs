//! The gate at daemons: one, several, and through `zdt serve-gate`.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::Ordering::Relaxed,
    thread,
    time::Duration,
};

use zdt_daemon::{
    clock,
    input::Wall,
    live::Health,
    verdict::{Output, UnderWay},
};

use super::{ends, rollout, served::Started, under_way, zdt};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn gate(daemons: &[&Started], timeout: &str, more: &[&str]) -> std::process::Child {
    let servers: Vec<String> = daemons
        .iter()
        .map(|d| format!("--server=http://{}", d.addr))
        .collect();
    let mut command = zdt(&["gate", "deployment/web", "-n", "shop", "--timeout", timeout]);
    let asked = || -> Vec<usize> { daemons.iter().map(|d| d.asked.load(Relaxed)).collect() };
    let before = asked();
    let mut child = command.args(servers).args(more).spawn().unwrap();
    // A look is two requests. After two looks the next comes in a second: what is set up until then is there as a whole.
    let looked = || before.iter().zip(asked()).all(|(before, now)| now >= before + 4);
    while !looked() && child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(20));
    }
    child
}

fn summed_up(node: &str, failed: usize, elsewhere: usize) -> Vec<Output> {
    vec![Output::Rollout(Box::new(rollout(node, failed, elsewhere)))]
}

#[test]
fn gate_waits_for_every_node_and_adds_up_what_they_counted() {
    let (mut one, mut two) = (Started::of("n1", ANY_PORT), Started::of("n2", ANY_PORT));
    // What was over before it began does not count.
    one.deliver(&summed_up("n1", 5, 0));
    let waits = gate(&[&one, &two], "60s", &[]);
    one.deliver(&summed_up("n1", 1, 1));
    // It has looked since then, and waits on.
    let seen = one.asked.load(Relaxed);
    while one.asked.load(Relaxed) < seen + 5 {
        thread::sleep(Duration::from_millis(20));
    }
    two.deliver(&summed_up("n2", 2, 1));
    ends(
        &waits.wait_with_output().unwrap(),
        1,
        "gate failed: 3 requests lost",
    );

    let waits = gate(&[&one, &two], "60s", &["--format", "json"]);
    one.deliver(&summed_up("n1", 0, 1));
    two.deliver(&summed_up("n2", 0, 1));
    let ended = waits.wait_with_output().unwrap();
    ends(&ended, 0, "\"answer\":\"kept\"");
    ends(&ended, 0, "\"nodes\":[\"n1\",\"n2\"]");
    // The same daemon twice counts once.
    let since = ["--since", "1h", "--budget", "9"];
    let ended = gate(&[&one, &one], "60s", &since).wait_with_output().unwrap();
    ends(&ended, 2, "pods ended on nodes that did not tell");
}

#[test]
fn gate_cannot_tell_when_a_node_is_silent_restarted_blind_or_loses_something() {
    let mut one = Started::of("n1", ANY_PORT);
    let two = Started::of("n2", ANY_PORT);
    let addr = two.addr;
    let waits = gate(&[&one, &two], "60s", &[]);
    drop(two);
    let two = Started::of("n2", addr);
    one.deliver(&summed_up("n1", 0, 0));
    ends(&waits.wait_with_output().unwrap(), 2, "n2: it was restarted");

    let waits = gate(&[&one, &two], "60s", &[]);
    drop(two);
    one.deliver(&summed_up("n1", 0, 0));
    ends(&waits.wait_with_output().unwrap(), 2, "no answer from http://");

    let waits = gate(&[&one], "60s", &[]);
    let now = clock::wall();
    let health = Health {
        events_lost: 3,
        last_lost: Some(Wall(now.0 + 1_000)),
        ..Health::default()
    };
    one.stands(health, Vec::new());
    one.deliver(&summed_up("n1", 0, 0));
    ends(&waits.wait_with_output().unwrap(), 2, "n1: it lost events");

    one.stands(Health::default(), Vec::new());
    let waits = gate(&[&one], "60s", &[]);
    let blind = Health {
        blind: vec!["2 kernel hooks are not attached".to_owned()],
        ..Health::default()
    };
    one.stands(blind, Vec::new());
    one.deliver(&summed_up("n1", 0, 0));
    ends(
        &waits.wait_with_output().unwrap(),
        2,
        "n1: 2 kernel hooks are not attached",
    );

    one.stands(Health::default(), Vec::new());
    let waits = gate(&[&one], "1s", &[]);
    ends(&waits.wait_with_output().unwrap(), 2, "time ran out");
    one.stands(Health::default(), vec![under_way(0)]);
    let waits = gate(&[&one], "1s", &["--format", "junit"]);
    ends(
        &waits.wait_with_output().unwrap(),
        2,
        "time ran out: the rollout is not over",
    );
}

pub fn ask(addr: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    let length = body.len();
    write!(
        stream,
        "{head} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[track_caller]
fn said(answer: &str, status: u16, says: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(says),
        "{answer}"
    );
}

#[test]
fn argo_and_flagger_get_what_they_read_from_the_gate_of_all_nodes() {
    let (mut one, mut two) = (Started::of("n1", ANY_PORT), Started::of("n2", ANY_PORT));
    // Its own process, as in a cluster; the port is the first that it says.
    let servers = [
        format!("--server={}", one.addr),
        format!("--server=http://{}/", two.addr),
    ];
    let mut gates = zdt(&["serve-gate", "--listen", "127.0.0.1:0"])
        .args(servers)
        .spawn()
        .unwrap();
    let mut log = std::io::BufReader::new(gates.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut log, &mut line).unwrap();
    let addr: SocketAddr = line.trim().rsplit('/').next().unwrap().parse().unwrap();
    let get = |more: &str| {
        ask(
            addr,
            &format!("GET /api/v1/gate?workload=deployment%2Fweb&namespace=shop{more}"),
            "",
        )
    };
    let post = || {
        ask(
            addr,
            "POST /api/v1/gate",
            r#"{"name":"web","namespace":"shop","phase":"Progressing","metadata":{}}"#,
        )
    };

    said(&get(""), 503, "no rollout of deployment/web was seen");
    said(&post(), 503, "cannot tell");
    let now = clock::wall();
    one.stands(
        Health::default(),
        vec![UnderWay {
            wall: now,
            ..under_way(0)
        }],
    );
    said(&get(""), 200, "\"answer\":\"under-way\"");
    said(&post(), 200, "under way, 0 requests lost so far");
    said(&get("&over=true"), 503, "\"answer\":\"under-way\"");
    one.stands(Health::default(), Vec::new());
    one.deliver(&summed_up("n1", 0, 1));
    said(&get(""), 503, "1 pods ended on nodes that did not tell");
    two.deliver(&summed_up("n2", 0, 1));
    said(&get(""), 200, "\"answer\":\"kept\"");
    said(&get("&to=nothing"), 503, "no rollout");
    let hash = rollout("n1", 0, 0).to.unwrap().template_hash;
    said(&get(&format!("&to={hash}")), 200, "\"answer\":\"kept\"");
    said(&post(), 200, "no request lost");
    one.deliver(&summed_up("n1", 0, 1));
    two.deliver(&summed_up("n2", 4, 1));
    said(&get(""), 200, "\"answer\":\"lost\"");
    said(&post(), 409, "4 requests lost");
    said(&get("&budget=4"), 200, "\"answer\":\"kept\"");
    // A daemon of one node alone cannot tell of the others.
    said(
        &ask(two.addr, "GET /api/v1/gate?workload=web&budget=9", ""),
        503,
        "did not tell",
    );
    drop(two);
    said(&get("&budget=9"), 503, "no answer from http://");
    said(&ask(addr, "GET /", ""), 404, "");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(gates.id().try_into().unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(gates.wait().unwrap().code(), Some(0));
}
