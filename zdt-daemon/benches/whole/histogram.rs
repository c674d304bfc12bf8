//! Latencies by their logarithm: 1.6 % apart, in a few hundred counters, so that those of two clients can be added.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets between a power of two and the next.
const PARTS: u64 = 64;

/// How often each latency occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    counts: Vec<u64>,
}

/// Where a number of nanoseconds goes: exact below [`PARTS`].
fn bucket(ns: u64) -> usize {
    let power = u64::from(ns.max(1).ilog2().saturating_sub(PARTS.ilog2()));
    usize::try_from(power * PARTS + (ns >> power)).unwrap()
}

/// The least number of nanoseconds of a bucket.
fn least(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * PARTS {
        return bucket;
    }
    let power = bucket / PARTS - 1;
    (bucket - power * PARTS) << power
}

impl Histogram {
    pub fn add(&mut self, latency: Duration) {
        let at = bucket(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The latency that `share` of all do not exceed, in milliseconds; NaN where there are none.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let rank = (self.count() as f64 * share).ceil().max(1.0);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen as f64 >= rank {
                return least(at) as f64 / 1e6;
            }
        }
        f64::NAN
    }
}
