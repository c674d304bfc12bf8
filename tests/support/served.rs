//! A daemon's HTTP interface without a daemon: the real server and the real ring, fed by a test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a part of tests; what fails here must fail the test"
)]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use zdt_daemon::{
    clock,
    live::Health,
    serve::{Admission, Admitted, Aside, Pages, Server, Tls, Told},
    sink::{
        Sink as _,
        recent::{Recent, RecentSink},
    },
    verdict::{Output, UnderWay},
};

/// A daemon's HTTP interface without a daemon.
pub struct Served {
    recent: Arc<Recent>,
    dropped: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    guard: Option<Guard>,
}

/// Who may ask.
#[derive(Clone, Copy)]
pub struct Guard {
    pub tls: bool,
    /// Let in, and known but not let in.
    pub token: &'static str,
    pub stranger: &'static str,
}

/// A file of the certificates that the daemon's own tests use.
pub fn certificate(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("zdt-daemon/tests");
    tests.join("fixtures/tls").join(name)
}

impl Pages for Served {
    fn recent(&self) -> &Arc<Recent> {
        self.asked.fetch_add(1, Relaxed);
        &self.recent
    }

    fn aside(&self, work: Box<dyn FnOnce() -> Told + Send>) -> Aside {
        Box::pin(async move { Some(work()) })
    }

    fn admits(&self, token: Option<&str>, _: &str, _: &str) -> Admission {
        let admitted = match self.guard {
            Some(guard) if token == Some(guard.stranger) => Admitted::No,
            Some(guard) if token != Some(guard.token) => Admitted::NoToken,
            _ => Admitted::Yes,
        };
        Box::pin(async move { admitted })
    }

    fn dropped_listener(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }
}

/// One start of it; it ends when this is dropped.
pub struct Started {
    pub addr: SocketAddr,
    pub recent: Arc<Recent>,
    /// Listeners that were dropped since they took nothing.
    pub dropped: Arc<AtomicUsize>,
    /// Requests for how things stand or what was said.
    pub asked: Arc<AtomicUsize>,
    stands: Arc<Mutex<(Health, Vec<UnderWay>)>>,
    sink: RecentSink,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Started {
    pub fn new(addr: SocketAddr) -> Self {
        Self::of("n1", addr)
    }

    pub fn of(node: &str, addr: SocketAddr) -> Self {
        Self::guarded(node, addr, None)
    }

    pub fn guarded(node: &str, addr: SocketAddr, guard: Option<Guard>) -> Self {
        let (recent, sink) = Recent::new(node);
        let stands: Arc<Mutex<(Health, Vec<UnderWay>)>> = Arc::default();
        recent.look(clock::wall(), Health::default(), Vec::new());
        // The port of the one before may be in use for a moment.
        let bound = (0..100).find_map(|_| {
            let bound = Server::bind(addr).ok();
            if bound.is_none() {
                thread::sleep(Duration::from_millis(50));
            }
            bound
        });
        let mut server = bound.expect("the port is in use");
        if guard.is_some_and(|guard| guard.tls) {
            let files = (certificate("first.crt"), certificate("first.key"));
            server = server.with_tls(Tls::open(files.0, files.1).unwrap());
        }
        let addr = server.addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (dropped, asked) = (Arc::default(), Arc::default());
        let pages = Arc::new(Served {
            recent: Arc::clone(&recent),
            dropped: Arc::clone(&dropped),
            asked: Arc::clone(&asked),
            guard,
        });
        let (looked, looks) = (Arc::clone(&recent), Arc::clone(&stands));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    _ = server.run(pages) => {}
                    _ = stopped => {}
                    () = ticks(&looked, &looks) => {}
                }
            });
        });
        Self {
            addr,
            recent,
            dropped,
            asked,
            stands,
            sink,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// How things stand from now on.
    pub fn stands(&self, health: Health, under_way: Vec<UnderWay>) {
        *self.stands.lock().unwrap() = (health.clone(), under_way.clone());
        self.recent.look(clock::wall(), health, under_way);
    }

    pub fn deliver(&mut self, outputs: &[Output]) {
        for output in outputs {
            self.sink.deliver(output).unwrap();
        }
        self.sink.flush().unwrap();
    }
}

/// As the daemon looks at itself.
async fn ticks(recent: &Recent, stands: &Mutex<(Health, Vec<UnderWay>)>) {
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let (health, under_way) = stands.lock().unwrap().clone();
        recent.look(clock::wall(), health, under_way);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}
