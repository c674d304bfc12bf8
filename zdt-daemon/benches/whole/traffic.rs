//! The pods: each is a process in a network namespace of its own, which ends when its standard input does. A server, and
//! clients that do as they are told, a line at a time.

use std::{
    io::{BufRead as _, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use crate::{histogram::Histogram, world};

/// Closes behind each answer, and keeps connections.
pub const SHORT: u16 = 8080;
pub const KEPT: u16 = 8081;
/// Nobody listens; the second is a port of the service all the same.
pub const CLOSED: u16 = 9999;
pub const UNSERVED: u16 = 9998;

const THREADS: usize = 2;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: web\r\n\r\n";
/// Nothing here takes so long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pace {
    /// Short connections, one behind the other.
    Short,
    /// Short connections, so many a second in each client; a latency counts from when it was due.
    Rate(f64),
    /// Requests on connections that are kept, one behind the other.
    Keep,
    /// Connections to a closed port, one behind the other.
    Refused,
    /// The same, so many a second.
    RefusedRate(f64),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Order {
    pub pace: Pace,
    pub to: SocketAddr,
    pub lasts: Duration,
}

/// What one client did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    pub latencies: Histogram,
    pub failed: u64,
}

/// Into a network namespace; the rest comes when the node has tied it up.
fn enter(words: &[String]) -> Ipv4Addr {
    let addr = words[0].parse().unwrap();
    unshare(CloneFlags::CLONE_NEWNET).expect("the benchmark makes network namespaces: run it as root");
    println!("unshared");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    world::configure_pod(addr);
    addr
}

pub fn serve(words: &[String]) {
    let addr = enter(words);
    let short = TcpListener::bind((addr, SHORT)).unwrap();
    let kept = TcpListener::bind((addr, KEPT)).unwrap();
    for _ in 0..2 * THREADS {
        let short = short.try_clone().unwrap();
        thread::spawn(move || {
            loop {
                if let Ok((stream, _)) = short.accept() {
                    answer(&stream);
                }
            }
        });
    }
    thread::spawn(move || {
        for stream in kept.incoming().map_while(Result::ok) {
            thread::spawn(move || while answer(&stream) {});
        }
    });
    println!("ready");
    // To its end.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Reads a request and answers it; false at the end of the connection.
fn answer(mut stream: &TcpStream) -> bool {
    let mut request = [0; 512];
    matches!(stream.read(&mut request), Ok(1..)) && stream.write_all(ANSWER).is_ok()
}

pub fn client(words: &[String]) {
    enter(words);
    println!("ready");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let order: Order = serde_json::from_str(&line).unwrap();
        let done = obey(order);
        println!("{}", serde_json::to_string(&done).unwrap());
    }
}

fn obey(order: Order) -> Done {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let all = Mutex::new(Done::default());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut done = Done::default();
                let mut kept = None;
                while let Some(due) = due(order, began, &next) {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let from = if matches!(order.pace, Pace::Rate(_) | Pace::RefusedRate(_)) {
                        due
                    } else {
                        Instant::now()
                    };
                    match request(order, &mut kept) {
                        Some(()) => done.latencies.add(from.elapsed()),
                        None => done.failed += 1,
                    }
                }
                let mut all = all.lock().unwrap();
                all.latencies.merge(&done.latencies);
                all.failed += done.failed;
            });
        }
    });
    all.into_inner().unwrap()
}

/// When the next request begins; none when the time is over.
fn due(order: Order, began: Instant, next: &AtomicU64) -> Option<Instant> {
    let end = began + order.lasts;
    let due = match order.pace {
        Pace::Rate(rate) | Pace::RefusedRate(rate) => {
            began + Duration::from_secs_f64(next.fetch_add(1, Relaxed) as f64 / rate)
        }
        _ => Instant::now(),
    };
    (due < end).then_some(due)
}

fn connect(to: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// One request and its answer.
fn request(order: Order, kept: &mut Option<TcpStream>) -> Option<()> {
    let mut answer = [0; 512];
    match order.pace {
        Pace::Refused | Pace::RefusedRate(_) => {
            let refused = TcpStream::connect(order.to).err()?;
            (refused.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
        }
        Pace::Keep => {
            let stream = match kept {
                Some(stream) => stream,
                None => {
                    let stream = connect(order.to)?;
                    stream.set_nodelay(true).ok()?;
                    kept.insert(stream)
                }
            };
            let asked = stream.write_all(REQUEST).and_then(|()| stream.read(&mut answer));
            if !matches!(asked, Ok(1..)) {
                *kept = None;
                return None;
            }
            Some(())
        }
        Pace::Short | Pace::Rate(_) => {
            let mut stream = connect(order.to)?;
            stream.write_all(REQUEST).ok()?;
            let got = stream.read(&mut answer).ok()?;
            // The server closes first, and keeps TIME_WAIT: the client's port is free at once.
            (got > 0 && stream.read(&mut answer).ok()? == 0).then_some(())
        }
    }
}
