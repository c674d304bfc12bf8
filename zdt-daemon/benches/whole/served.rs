//! What zdt serves, as those see it who ask: the counters of a scrape, and the stream of the page.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use zdt_daemon::{clock, input::Ktime};

/// It answers 20 requests a second; so many fewer that none is refused.
const SCRAPE: Duration = Duration::from_millis(60);
const PATIENCE: Duration = Duration::from_secs(20);

/// HTTP/1.0: the body has no chunks, and ends with the connection.
fn ask(addr: &str, page: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("zdt serves its pages");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {page} HTTP/1.0\r\nhost: {addr}\r\n\r\n").unwrap();
    stream
}

/// What a counter is in Prometheus' text format, over all its labels.
pub fn sum(metrics: &str, counter: &str) -> f64 {
    let of_it = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(counter)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<f64>().ok())?
    });
    of_it.sum()
}

/// How long after its failure each was first in a scrape, in milliseconds. Failures are counted in the order in which they are
/// printed; none for those that no scrape has.
pub fn counted_ms(ended: &[Ktime], scrapes: &[(Ktime, f64)]) -> Vec<f64> {
    let mut scrapes = scrapes.iter().peekable();
    let counted = (1..).zip(ended).map_while(|(nth, ended)| {
        while scrapes.next_if(|(_, count)| *count < f64::from(nth)).is_some() {}
        scrapes.peek().map(|(read, _)| read.ms_since(*ended))
    });
    counted.collect()
}

/// Somebody who scrapes as often as zdt answers.
pub struct Scraper {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Ktime, f64)>>,
}

impl Scraper {
    pub fn start(addr: &'static str, counter: &'static str) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stopped);
        let scrape = move || {
            let mut scrapes = Vec::new();
            while !ends.load(Relaxed) {
                let mut answer = String::new();
                ask(addr, "/metrics").read_to_string(&mut answer).unwrap();
                assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
                scrapes.push((clock::now(), sum(&answer, counter)));
                thread::sleep(SCRAPE);
            }
            scrapes
        };
        let thread = thread::spawn(scrape);
        Self { stopped, thread }
    }

    /// When what was read.
    pub fn stop(self) -> Vec<(Ktime, f64)> {
        self.stopped.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

/// Somebody who has the page open.
pub struct Listener {
    stream: TcpStream,
    thread: JoinHandle<Vec<(Ktime, String)>>,
}

impl Listener {
    pub fn start(addr: &str) -> Self {
        let stream = ask(addr, "/api/v1/events");
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        // From here on it is told.
        while !line.starts_with("event: hello") {
            line.clear();
            assert!(
                lines.read_line(&mut line).unwrap() > 0,
                "the page's stream has ended"
            );
        }
        let listen = move || {
            let told = lines.lines().map_while(Result::ok);
            let of_events =
                told.filter_map(|line| Some((clock::now(), line.strip_prefix("data: ")?.to_owned())));
            of_events.collect()
        };
        let thread = thread::spawn(listen);
        Self { stream, thread }
    }

    /// What was told when, as JSON.
    pub fn stop(self) -> Vec<(Ktime, String)> {
        // zdt may have ended it.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.thread.join().unwrap()
    }
}
