//! The HTTP interface over real sockets: what it answers, and what a hostile or careless peer cannot do to it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in tests only by `#[test]`; what fails here must fail the test"
)]

mod api;
#[path = "serve/guard.rs"]
mod guard;
#[path = "serve/limits.rs"]
mod limits;
#[path = "serve/live.rs"]
mod live;
mod zdt;

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use zdt_daemon::{
    serve::{Aside, Pages, Server, Text, Told},
    sink::recent::{Recent, RecentSink},
};

/// Pages that count how often their text is made.
struct Counting(AtomicUsize, Arc<Recent>);

impl Pages for Counting {
    fn metrics(&self) -> Text {
        let made = self.0.fetch_add(1, Relaxed) + 1;
        Box::pin(async move { Some(format!("made {made}\n")) })
    }

    fn metrics_type(&self) -> &'static str {
        "text/plain; version=0.0.4"
    }

    fn ready(&self) -> Result<(), &'static str> {
        Err("the hooks are not attached yet")
    }

    fn recent(&self) -> &Arc<Recent> {
        &self.1
    }

    fn aside(&self, work: Box<dyn FnOnce() -> Told + Send>) -> Aside {
        Box::pin(async move { Some(work()) })
    }
}

/// A server on a thread; it ends with the test.
fn serve() -> (SocketAddr, Arc<Counting>) {
    let (addr, pages, _) = serve_with_sink();
    (addr, pages)
}

fn serve_with_sink() -> (SocketAddr, Arc<Counting>, RecentSink) {
    let (recent, sink) = Recent::new("n1");
    let pages = Arc::new(Counting(AtomicUsize::default(), recent));
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let addr = server.addr().unwrap();
    let served: Arc<dyn Pages> = Arc::<Counting>::clone(&pages);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(server.run(served))
    });
    (addr, pages, sink)
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Status line, headers and body, as they came.
fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = connect(addr);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // Who is refused while it still sends may get a reset behind the answer.
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => {}
    }
    String::from_utf8(answer).unwrap()
}

fn get(addr: SocketAddr, path: &str) -> String {
    ask(addr, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
}

#[track_caller]
fn status(answer: &str, wanted: u16) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {wanted} ")),
        "{wanted}: {answer}"
    );
}

#[test]
fn pages_answer_get_and_head_and_nothing_else() {
    let (addr, _) = serve();
    let metrics = get(addr, "/metrics");
    status(&metrics, 200);
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4\r\n")
            && metrics.ends_with("\r\n\r\nmade 1\n")
    );
    status(&get(addr, "/healthz"), 200);
    let ready = get(addr, "/readyz");
    status(&ready, 503);
    assert!(ready.ends_with("the hooks are not attached yet\n"), "{ready}");
    status(&get(addr, "/etc/passwd"), 404);
    status(&get(addr, "/../metrics"), 404);

    let head = ask(addr, "HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
    status(&head, 200);
    assert!(
        head.ends_with("\r\n\r\n") && head.contains("content-length: 7\r\n"),
        "{head}"
    );
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let refused = ask(
            addr,
            &format!("{method} /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"),
        );
        status(&refused, 405);
        assert!(refused.contains("allow: GET, HEAD\r\n"), "{refused}");
    }
}

#[test]
fn text_is_made_once_a_second_whoever_asks_how_often() {
    let (addr, pages) = serve();
    let answers: Vec<String> = (0..10).map(|_| get(addr, "/metrics")).collect();
    assert!(answers.iter().all(|a| a.ends_with("made 1\n")), "{answers:?}");
    assert_eq!(pages.0.load(Relaxed), 1);
}

#[test]
fn flood_of_requests_is_refused_and_the_probes_are_not() {
    let (addr, _) = serve();
    let answers: Vec<String> = (0..100).map(|_| get(addr, "/metrics")).collect();
    let refused = answers.iter().filter(|a| a.starts_with("HTTP/1.1 429 ")).count();
    assert!(refused > 0, "a hundred at once");
    status(&get(addr, "/healthz"), 200);
    status(&get(addr, "/readyz"), 503);
}

#[test]
fn head_that_is_too_large_is_refused() {
    let (addr, _) = serve();
    let long = "a".repeat(20_000);
    status(
        &ask(
            addr,
            &format!("GET /metrics HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"),
        ),
        431,
    );
    let many = "x: y\r\n".repeat(200);
    status(
        &ask(addr, &format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{many}\r\n")),
        431,
    );
    let garbage = ask(addr, "\u{1}\u{2}\u{3} nonsense\r\n\r\n");
    status(&garbage, 400);
    status(&get(addr, "/healthz"), 200);
}

#[test]
fn peer_that_says_nothing_is_hung_up_on() {
    let (addr, _) = serve();
    let mut silent = connect(addr);
    let mut slow = connect(addr);
    slow.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").unwrap();
    // Both end by themselves; the read times out after 20 s.
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).unwrap();
    slow.read_to_end(&mut answer).unwrap();
    assert!(answer.len() < 200, "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn connections_that_are_held_open_do_not_lock_the_probes_out() {
    let (addr, _) = serve();
    let held: Vec<TcpStream> = (0..300).map(|_| connect(addr)).collect();
    status(&get(addr, "/healthz"), 200);
    // The oldest gave way.
    let mut oldest = &held[0];
    assert_eq!(oldest.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn port_in_use_is_an_error_that_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let dir = zdt::Dir::new("port-in-use");
    let mut run = zdt::zdt(zdt::ZDT.as_ref());
    run.args(["run", "--node", "n1", "--listen", &addr, "--kubeconfig"])
        .arg(dir.kubeconfig());
    zdt::ends(&mut run, 2, &[&addr, "is in use", "--listen"]);
    let mut run = zdt::zdt(zdt::ZDT.as_ref());
    run.args(["run", "--node", "n1", "--listen", "192.0.2.1", "--kubeconfig"])
        .arg(dir.kubeconfig());
    zdt::ends(&mut run, 2, &["192.0.2.1:9734 is no address of this machine"]);
    let mut run = zdt::zdt(zdt::ZDT.as_ref());
    run.args(["run", "--node", "n1", "--listen", "localhost"]);
    zdt::ends(&mut run, 2, &["wanted an IP address"]);
}

#[test]
fn daemon_is_ready_when_its_watches_are_and_says_what_it_sees() {
    let dir = zdt::Dir::new("ready");
    let store = api::Store::default();
    let server = api::Api::start(&store);
    let mut run = zdt::zdt(zdt::ZDT.as_ref());
    run.args(["run", "--node", "n1", "--listen", "127.0.0.1:0", "--kubeconfig"]);
    let mut child = run.arg(api::kubeconfig(&dir.0, server.addr)).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut until = |text: &str| log.find_map(|l| l.ok().filter(|l| l.contains(text))).unwrap();
    let addr: SocketAddr = until("on http://").rsplit('/').next().unwrap().parse().unwrap();
    status(&get(addr, "/healthz"), 200);
    until("ready: ");
    status(&get(addr, "/readyz"), 200);
    let metrics = get(addr, "/metrics");
    for line in [
        "zdt_watches_synced 1\n",
        "zdt_hooks_missing 0\n",
        "zdt_build_info{version=\"",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    // As long as this is held, the kernel counts run times (bpf(2) BPF_ENABLE_STATS); no setting of the machine changes.
    let _counting = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let runs = "zdt_hook_runs_total{hook=\"sched_process_exit\"} ";
    while !get(addr, "/metrics").contains(runs) {
        // Its end is what the hook sees; and no more requests than are answered.
        let slept = std::process::Command::new("sleep").arg("0.2").status();
        assert!(slept.unwrap().success());
    }
    assert!(get(addr, "/metrics").contains("zdt_hook_run_seconds_total{hook=\"sched_process_exit\"} 0.0"));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id().try_into().unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
