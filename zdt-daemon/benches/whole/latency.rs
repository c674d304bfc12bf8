//! From a failure in the kernel until zdt has printed its verdict, a scrape has counted it, and the page has it.

use std::{thread, time::Duration};

use serde_json::Value;
use zdt_daemon::{correlate::Settings, input::Ktime};

use crate::{
    observer::{LISTEN, Observer},
    report::Latency,
    served::{Listener, Scraper, counted_ms},
    traffic::{Pace, UNSERVED},
    world::{self, World},
};

/// Failures a second, of each of two clients.
const RATE: f64 = 25.0;

/// When the failure was that a line tells a verdict about; none for other lines.
pub fn failed_at(line: &str) -> Option<Ktime> {
    let said: Value = serde_json::from_str(line).ok()?;
    let ended = said.get("ended")?.as_u64()?;
    let counts = said.get("kind")? == "verdict" && said.get("blame")? != "not-a-request";
    counts.then_some(Ktime(ended))
}

/// A port of the service that nobody serves is dialled: each connection is refused, and has a verdict.
pub fn measure(world: &mut World, quick: bool) -> Latency {
    eprintln!("latency ...");
    let grace_ms = Settings::default().judge_grace_ms;
    let zdt = Observer::Zdt(false).start().unwrap();
    let page = Listener::start(LISTEN);
    let scraper = Scraper::start(LISTEN, "zdt_failed_requests_total");
    let lasts = Duration::from_secs(if quick { 1 } else { 8 });
    let to = (world::SERVER, UNSERVED).into();
    for client in &mut world.clients {
        client.order(Pace::RefusedRate(RATE), to, lasts);
    }
    let failures = world.clients.iter_mut().map(|c| c.done().latencies.count()).sum();
    // The last of them is ripe then, and the text of the metrics is made once a second.
    thread::sleep(Duration::from_millis(grace_ms + 2_500));
    let lines: Vec<_> = zdt.lines().collect();
    let told = page.stop();
    let behind = |(read, line): &(Ktime, String)| Some(read.ms_since(failed_at(line)?));
    let ended: Vec<Ktime> = lines.iter().filter_map(|(_, line)| failed_at(line)).collect();
    Latency {
        grace_ms: grace_ms as f64,
        printed_ms: lines.iter().filter_map(behind).collect(),
        counted_ms: counted_ms(&ended, &scraper.stop()).into_iter().collect(),
        page_ms: told.iter().filter_map(behind).collect(),
        failures,
    }
}
