//! What a hostile peer cannot do: whoever watches zdt gets its metrics all the while.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::{ask, connect, get, serve, status};

/// The daemon answers who watches it.
#[track_caller]
fn watched(addr: SocketAddr) {
    status(&get(addr, "/metrics"), 200);
    status(&get(addr, "/healthz"), 200);
}

#[test]
fn head_that_comes_byte_by_byte_is_not_waited_for() {
    let (addr, _) = serve();
    let mut slow: Vec<TcpStream> = (0..20).map(|_| connect(addr)).collect();
    let head = b"GET /metrics HTTP/1.1\r\nhost: x\r\nx-slow: ".iter();
    // A byte now and then for as long as it is taken: for a minute, far beyond what a head may take.
    let refused = head.chain(std::iter::repeat(&b'a')).take(200).any(|byte| {
        std::thread::sleep(Duration::from_millis(300));
        let sent = slow.iter_mut().map(|s| s.write_all(&[*byte]));
        sent.filter(Result::is_err).count() == 20
    });
    assert!(refused);
    watched(addr);
}

#[test]
fn body_without_an_end_is_refused_and_not_kept() {
    let (addr, _) = serve();
    // It says how long it is, and it does not.
    let mut told = connect(addr);
    told.write_all(b"POST /api/v1/gate HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000000\r\n\r\n")
        .unwrap();
    let mut chunked = connect(addr);
    chunked
        .write_all(b"POST /api/v1/gate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [b"1000\r\n".to_vec(), vec![b'x'; 4096], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    for (stream, piece) in [(&mut told, &chunk[6..4102]), (&mut chunked, &chunk[..])] {
        // What the kernel buffers, and no more: 64 MiB would be taken by a server that keeps all.
        while sent < 64 << 20 && stream.write_all(piece).is_ok() {
            sent += piece.len();
        }
        assert!(sent < 64 << 20, "it was all taken");
        watched(addr);
    }
    // A body where none belongs is not read either.
    let long = "x".repeat(1 << 20);
    let answer = ask(
        addr,
        &format!(
            "GET /api/v1/state HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{long}",
            long.len()
        ),
    );
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 200 "),
        "{answer}"
    );
    watched(addr);
}

#[test]
fn ten_thousand_connections_do_not_lock_anybody_out() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most.min(4_096), most).unwrap();
    let (addr, _) = serve();
    // The other tests of this process hold some, too.
    let mut held = std::collections::VecDeque::new();
    for n in 0..10_000 {
        held.push_back(connect(addr));
        if held.len() > 400 {
            held.pop_front();
        }
        // What waits to be accepted has a bound of the kernel's (listen(2)), beyond which connecting takes seconds.
        if n % 64 == 0 {
            status(&get(addr, "/healthz"), 200);
        }
        if n % 2_500 == 0 {
            watched(addr);
        }
    }
    watched(addr);
}

#[test]
fn flood_of_questions_leaves_the_metrics_alone() {
    let (addr, _) = serve();
    let refused = (0..100)
        .filter(|_| get(addr, "/api/v1/state").starts_with("HTTP/1.1 429 "))
        .count();
    assert!(refused > 0, "a hundred at once");
    watched(addr);
}

#[test]
fn answer_that_nobody_takes_is_given_up() {
    let (addr, pages, mut sink) = super::serve_with_sink();
    let long = "n".repeat(2_048);
    let output = serde_json::to_string(&super::live::output()).unwrap();
    let output = serde_json::from_str(&output.replace("\"web\"", &format!("{long:?}"))).unwrap();
    for _ in 0..8_000 {
        zdt_daemon::sink::Sink::deliver(&mut sink, &output).unwrap();
    }
    // Megabytes, of which the kernel holds a part.
    let whole = get(addr, "/api/v1/outputs").len();
    let mut lazy = connect(addr);
    lazy.write_all(b"GET /api/v1/outputs HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut first = [0; 1];
    lazy.read_exact(&mut first).unwrap();
    watched(addr);
    assert_eq!(pages.1.counts().1, 8_000);
    // It may take 15 s.
    let mut looks = 0;
    while established(addr, lazy.local_addr().unwrap()) {
        looks += 1;
        assert!(looks < 600, "it waits on");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut rest = Vec::new();
    drop(lazy.read_to_end(&mut rest));
    assert!(rest.len() + 1 < whole, "the kernel held all of it");
}

/// Whether the kernel of the server's side has this connection as one that goes on: /proc/net/tcp (addresses in the machine's
/// order of bytes, ports in hexadecimal, state 01).
fn established(server: SocketAddr, client: SocketAddr) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (local, remote) = (
        format!(":{:04X}", server.port()),
        format!(":{:04X}", client.port()),
    );
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (from, to, state) = (
            words.next().unwrap(),
            words.next().unwrap(),
            words.next().unwrap(),
        );
        from.ends_with(&local) && to.ends_with(&remote) && state == "01"
    })
}
