//! The rule for what must not grow: a line is fitted to what was seen in the second half of the time, or behind the
//! 16th minute where that is later; by it, nothing may have grown by more than its bound from the beginning of that time to its end.
//!
//! The correlator remembers pods and addresses for 15 minutes after they are gone, so in a shorter time its tables, and the memory
//! with them, have to grow: then these are shown and not judged.

use std::fmt;

use crate::run::Sample;

/// 15 minutes of memory, and the minute in which they are gone.
const REMEMBERED_S: f64 = 960.0;

/// Looks that a line can be fitted to.
const FEWEST: usize = 12;

pub(super) const HEAD: &str = "what                          mean    growth     bound";

/// One thing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    what: String,
    /// Over the time that is judged.
    mean: f64,
    growth: f64,
    bound: f64,
    judged: bool,
}

impl Row {
    pub(super) fn finding(&self) -> Option<String> {
        (self.judged && self.growth > self.bound).then(|| {
            format!(
                "{} grows: by {:.1} in the time that is judged, of {:.1}; allowed are {:.1}",
                self.what, self.growth, self.mean, self.bound
            )
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let note = if self.judged {
            ""
        } else {
            "  (too short a time to judge)"
        };
        write!(
            f,
            "{:<24} {:>9.1} {:>9.1} {:>9.1}{note}",
            self.what, self.mean, self.growth, self.bound
        )
    }
}

/// The share of the mean, and how much besides, that is no growth: an allocator's pages, a rollout that is under way.
const MEMORY: (f64, f64) = (0.05, 1_024.0);
const FILES: (f64, f64) = (0.0, 2.0);
const TABLE: (f64, f64) = (0.1, 16.0);

pub(super) fn rows(samples: &[Sample]) -> Vec<Row> {
    let last = samples.last().map_or(0.0, |s| s.at_s);
    let half: Vec<&Sample> = samples.iter().filter(|s| s.at_s >= last / 2.0).collect();
    let late: Vec<&Sample> = half.iter().copied().filter(|s| s.at_s >= REMEMBERED_S).collect();
    let long = late.len() >= FEWEST;
    let settled = if long { late } else { half.clone() };
    let row =
        |what: &str, of: &dyn Fn(&Sample) -> u64, among: &[&Sample], bound: (f64, f64), judged: bool| {
            let points: Vec<(f64, f64)> = among.iter().map(|s| (s.at_s, as_f64(of(s)))).collect();
            let (mean, growth) = fit(&points);
            Row {
                what: what.to_owned(),
                mean,
                growth,
                bound: mean * bound.0 + bound.1,
                judged,
            }
        };
    let mut rows = vec![
        row("rss KiB", &|s| s.rss_kib, &settled, MEMORY, long),
        row("own memory KiB", &|s| s.anon_kib, &settled, MEMORY, long),
        row("open files", &|s| s.fds, &half, FILES, true),
        row("threads", &|s| s.threads, &half, FILES, true),
    ];
    let tables = samples.last().into_iter().flat_map(|s| s.tables.keys());
    rows.extend(tables.map(|table| {
        let of = |s: &Sample| s.tables.get(table).copied().unwrap_or_default();
        row(table, &of, &settled, TABLE, long)
    }));
    rows.push(row("evicted", &|s| s.evicted, &half, (0.0, 0.0), true));
    rows.push(row("lost", &|s| s.lost, &half, (0.0, 0.0), true));
    rows
}

/// Mean, and by how much the fitted line (least squares) rises from the first point to the last.
fn fit(points: &[(f64, f64)]) -> (f64, f64) {
    let n = as_f64(points.len() as u64);
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n.max(1.0);
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return (0.0, 0.0);
    };
    if spread == 0.0 {
        return (y, 0.0);
    }
    let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread;
    (y, slope * (last.0 - first.0))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn as_f64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 5 s for 20 minutes.
    fn samples(of: impl Fn(u64, &mut Sample)) -> Vec<Sample> {
        let one = |n: u64| {
            let mut sample = Sample {
                at_s: as_f64(n) * 5.0,
                rss_kib: 40_000,
                anon_kib: 20_000,
                fds: 40,
                threads: 5,
                ..Sample::default()
            };
            sample.tables.insert("pods".to_owned(), 90 + n % 6);
            of(n, &mut sample);
            sample
        };
        (0..240).map(one).collect()
    }

    fn findings(samples: &[Sample]) -> Vec<String> {
        rows(samples).iter().filter_map(Row::finding).collect()
    }

    #[test]
    fn what_stays_as_it_is_or_goes_up_and_down_is_flat() {
        assert_eq!(findings(&samples(|_, _| {})), Vec::<String>::new());
        // Filling up for as long as it is remembered.
        let fills = samples(|n, s| {
            s.rss_kib += 100 * n.min(190);
            s.tables.insert("pods".to_owned(), 3 * n.min(190));
        });
        assert_eq!(findings(&fills), Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_grows_is_a_finding() {
        for (what, grows) in [
            ("rss KiB", (|n, s| s.rss_kib += 100 * n) as fn(u64, &mut Sample)),
            ("own memory KiB", |n, s| s.anon_kib += 60 * n),
            ("open files", |n, s| s.fds += n / 20),
            ("threads", |n, s| s.threads += n / 20),
            ("pods", |n, s| {
                s.tables.values_mut().for_each(|pods| *pods = 10 * n);
            }),
            ("evicted", |n, s| s.evicted = n / 200),
            ("lost", |n, s| s.lost = n / 200),
        ] {
            let found = findings(&samples(grows));
            assert_eq!(found.len(), 1, "{what}: {found:?}");
            assert!(found[0].starts_with(what), "{what}: {found:?}");
        }
    }

    #[test]
    fn memory_of_a_short_time_is_shown_and_not_judged() {
        let mut short = samples(|n, s| s.rss_kib += 1_000 * n);
        short.truncate(24);
        let rows = rows(&short);
        assert!(rows[0].growth > rows[0].bound && rows[0].finding().is_none());
        assert!(rows[2].judged, "files are judged");
    }
}
