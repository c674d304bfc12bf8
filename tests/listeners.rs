//! Whoever listens to the events of the HTTP interface and takes nothing is dropped and counted, and holds up nobody meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "clippy knows tests by their attribute; this whole file is one, and it measures time"
)]

#[path = "support/served.rs"]
mod served;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use served::Started;
use zdt_daemon::verdict::Output;

/// A large output, as of a rollout of hundreds of pods.
fn output() -> Output {
    let name = "x".repeat(100_000);
    let switch = format!(
        r#"{{"kind":"selector-switch","node":"n1","service":{{"namespace":"shop","name":"{name}"}},"at":1,"wall":1,"left":0,"ready":0,"stayed":null}}"#
    );
    serde_json::from_str(&switch).unwrap()
}

fn listen(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET /api/v1/events?since=0 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream
}

#[test]
fn listener_that_takes_nothing_is_dropped_and_holds_up_nobody() {
    let mut daemon = Started::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut stuck = listen(daemon.addr);
    let mut reads = listen(daemon.addr);
    let (large, mut slowest) = (vec![output()], Duration::ZERO);
    // More than the kernel buffers for a connection, and more than is kept.
    for _ in 0..400 {
        let began = Instant::now();
        daemon.deliver(&large);
        slowest = slowest.max(began.elapsed());
    }
    // What waited for the stuck one would wait until it is dropped, 20 s; a busy machine holds everything up a bit.
    assert!(slowest < Duration::from_secs(5), "{slowest:?} for one output");
    // Who reads on goes on, and is told what went by before it could take it.
    let mut taken = String::new();
    let mut piece = vec![0; 1 << 16];
    let newest = format!(".{}\nevent: output", daemon.recent.newest());
    while !taken.contains(&newest) {
        let n = reads.read(&mut piece).unwrap();
        assert!(n > 0, "the listener that reads was dropped");
        taken.push_str(&String::from_utf8_lossy(&piece[..n]));
        // The end is enough to find a line that came in two pieces.
        if !taken.contains(&newest) {
            taken.drain(..taken.len().saturating_sub(100));
        }
    }
    assert_eq!(daemon.dropped.load(Relaxed), 0);
    let until = Instant::now() + Duration::from_mins(1);
    while daemon.dropped.load(Relaxed) == 0 {
        assert!(Instant::now() < until, "it is still there");
        // The heartbeats of the other one are read, so that it stays.
        let _ = reads.read(&mut piece).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    // What the kernel had buffered, and then the end.
    let mut rest = Vec::new();
    let ended = stuck.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    assert!(rest.len() < 30 << 20, "{}", rest.len());
    thread::sleep(Duration::from_secs(6));
    assert!(reads.read(&mut piece).unwrap() > 0 && daemon.dropped.load(Relaxed) == 1);
}
