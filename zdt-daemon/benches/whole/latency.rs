//! From a failure in the kernel until zdt has printed its verdict.

use std::{thread, time::Duration};

use serde_json::Value;
use zdt_daemon::{correlate::Settings, input::Ktime};

use crate::{
    figures::Figures,
    observer::Observer,
    report::Latency,
    traffic::{Pace, UNSERVED},
    world::{self, World},
};

/// Failures a second, of each of two clients.
const RATE: f64 = 25.0;

/// How long after its failure a verdict was read, in milliseconds; none for other lines.
pub fn printed_ms(read: Ktime, line: &str) -> Option<f64> {
    let said: Value = serde_json::from_str(line).ok()?;
    let ended = said.get("ended")?.as_u64()?;
    (said.get("kind")? == "verdict").then(|| read.ms_since(Ktime(ended)))
}

/// A port of the service that nobody serves is dialled: each connection is refused, and has a verdict.
pub fn measure(world: &mut World, quick: bool) -> Latency {
    eprintln!("latency ...");
    let grace_ms = Settings::default().judge_grace_ms;
    let zdt = Observer::Zdt(false).start().unwrap();
    let lasts = Duration::from_secs(if quick { 1 } else { 8 });
    let to = (world::SERVER, UNSERVED).into();
    for client in &mut world.clients {
        client.order(Pace::RefusedRate(RATE), to, lasts);
    }
    let failures = world.clients.iter_mut().map(|c| c.done().latencies.count()).sum();
    // The last of them is ripe then.
    thread::sleep(Duration::from_millis(grace_ms + 1_500));
    let printed: Figures = zdt
        .lines()
        .filter_map(|(read, line)| printed_ms(read, &line))
        .collect();
    Latency {
        grace_ms: grace_ms as f64,
        printed_ms: printed,
        failures,
    }
}
