//! The preStop sleep that is enough, from what was measured: too short is advice, far too long is a saving.

use std::fmt::Write as _;

use super::{
    Sample, Setting,
    sample::{say_ms, sorted},
};
use crate::verdict::{Advice, Measure};

/// Added to a computed preStop sleep: one sync period of kube-proxy (`minSyncPeriod`, 1 s by default), since the next
/// rollout's removal may just miss the sync that this one's caught.
pub(crate) const MARGIN_MS: f64 = 1_000.0;

/// Fewer pods than this are too few to rely on. A removal waits for the next sync, a time that is spread evenly over the sync
/// period: the longest of n such waits is n/(n+1) of the period on average, so 5 pods show five sixths of it, and
/// [`MARGIN_MS`] covers the rest and more.
pub(crate) const ENOUGH_PODS: usize = 5;

/// Where rules are not known, fewer connections than this are said to be few.
const FEW_CONNECTIONS: usize = 10;

/// A sleep is far too long when it is twice what is enough, and longer by this many seconds at least. A choice: who rounds
/// up generously is left in peace.
const SAVES_S: u64 = 5;

const SETTING: &str = "lifecycle.preStop.sleep.seconds";

/// What the measurements ask for.
struct Need {
    /// From the deletion to the last moment at which the node could send it a new connection.
    longest_ms: f64,
    /// How long it served on anyway.
    served_ms: f64,
}

impl Need {
    /// Seconds of sleep that are missing, at least `least`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=3600 s"
    )]
    fn seconds(&self, least: f64) -> u64 {
        let more = (self.longest_ms - self.served_ms + MARGIN_MS) / 1_000.0;
        more.ceil().clamp(least, 3_600.0) as u64
    }
}

fn longest(values: &[f64]) -> Option<f64> {
    values.iter().copied().max_by(f64::total_cmp)
}

/// The preStop sleep that keeps the old pod serving until the last consumer has let go of it: the longest time that
/// the node still sent it new connections after its deletion, less the time that it served on anyway, plus a margin.
pub(crate) fn pre_stop_sleep(samples: &[&Sample], setting: &Setting) -> Option<Advice> {
    let routed = sorted(samples, Measure::RoutedAfterDeletion);
    let served = sorted(samples, Measure::StoppedServingAfterDeletion);
    let met = routed.last().copied()?;
    // The rules say until when a connection could be sent there; the last one that was is a check on them from below.
    let all = [
        Some(met),
        longest(&setting.dropped_ms),
        longest(&setting.connected_ms),
    ];
    let longest_ms = all.into_iter().flatten().fold(met, f64::max);
    let served = served.first().copied().into_iter();
    let served = served
        .chain(setting.served_ms.iter().copied())
        .min_by(f64::total_cmp);
    let need = Need {
        longest_ms,
        // A sleep takes the place of another hook, and of the time that it held the server up.
        served_ms: served.filter(|_| !setting.other_hook).unwrap_or(0.0).max(0.0),
    };
    let more = need.seconds(1.0);
    let mut because = if setting.dropped_ms.is_empty() {
        let mut because = format!(
            "node {} still sent a connection to a pod {} after its deletion",
            setting.node,
            say_ms(need.longest_ms)
        );
        if routed.len() < FEW_CONNECTIONS {
            let _ = write!(
                because,
                " (from {} connections only: it may be more)",
                routed.len()
            );
        }
        because
    } else {
        format!(
            "the rules of node {} let go of a pod up to {} after its deletion (seen for {} of {} pods{})",
            setting.node,
            say_ms(need.longest_ms),
            setting.dropped_ms.len(),
            setting.pods,
            missing(setting.dropped_ms.len()),
        )
    };
    let _ = write!(
        because,
        ", which served for {}; margin {}",
        say_ms(need.served_ms),
        say_ms(MARGIN_MS)
    );
    if !setting.known {
        let _ = write!(
            because,
            "; its pods ran on other nodes: add {more} s to what it is now"
        );
        return Some(advice(None, because));
    }
    let seconds = setting.pre_stop_s.unwrap_or(0) + more;
    let grace = u64::try_from(setting.grace_s).unwrap_or(0);
    if grace > 0 && seconds + 1 > grace {
        let _ = write!(
            because,
            "; raise terminationGracePeriodSeconds ({grace}) to {}, too: what is left of it after the sleep stays the same",
            grace + more
        );
    }
    Some(advice(Some(seconds), because))
}

/// terminationGracePeriodSeconds that holds the preStop sleep and a request of this length.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=86400 s"
)]
pub(crate) fn grace_seconds(setting: &Setting, longest_request_ms: f64) -> u64 {
    let request = ((longest_request_ms + MARGIN_MS) / 1_000.0)
        .ceil()
        .clamp(0.0, 86_400.0);
    setting.pre_stop_s.unwrap_or(0) + request as u64
}

/// How many pods are missing to rely on it.
fn missing(pods: usize) -> String {
    match ENOUGH_PODS.saturating_sub(pods) {
        0 => String::new(),
        more => format!("; {more} more are needed to rely on it"),
    }
}

/// "Your 60 s could be 7 s": of a rollout in which nothing failed.
pub(crate) fn savings(setting: &Setting) -> Vec<Advice> {
    let saving = || {
        let present = setting.pre_stop_s?;
        let longest_ms = longest(&setting.dropped_ms)?.max(longest(&setting.connected_ms).unwrap_or(0.0));
        let all_seen = setting.dropped_ms.len() >= ENOUGH_PODS.max(setting.pods);
        // What it served beyond the sleep, it serves after a shorter one as well.
        let served_ms = setting.served_ms.iter().copied().min_by(f64::total_cmp)? - present as f64 * 1_000.0;
        let need = Need {
            longest_ms,
            served_ms: served_ms.max(0.0),
        };
        let enough = need.seconds(1.0);
        if !all_seen || present < (2 * enough).max(enough + SAVES_S) {
            return None;
        }
        let because = format!(
            "your {present} s could be {enough} s: the rules of node {} let go of a pod {} after its deletion at the latest \
             ({} pods); margin {}. Each pod ends {} s earlier. Ask the other nodes before you lower it",
            setting.node,
            say_ms(longest_ms),
            setting.dropped_ms.len(),
            say_ms(MARGIN_MS),
            present - enough,
        );
        Some(advice(Some(enough), because))
    };
    saving().into_iter().collect()
}

fn advice(value: Option<u64>, because: String) -> Advice {
    Advice {
        setting: SETTING.to_owned(),
        value,
        because,
        prevents: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(pre_stop_s: Option<u64>, dropped_ms: &[f64], served_ms: f64) -> Setting {
        Setting {
            known: true,
            pre_stop_s,
            grace_s: 30,
            pods: dropped_ms.len(),
            dropped_ms: dropped_ms.to_vec(),
            served_ms: vec![served_ms; dropped_ms.len()],
            node: "n1".into(),
            ..Setting::default()
        }
    }

    fn refused(routed: f64, served: f64) -> Sample {
        Sample {
            cause: "endpoint-removal-race",
            pod: "web".into(),
            measures: vec![
                (Measure::RoutedAfterDeletion, routed),
                (Measure::StoppedServingAfterDeletion, served),
            ],
        }
    }

    #[test]
    fn sleep_covers_the_slowest_removal_with_a_margin() {
        let setting = setting(None, &[400.0, 2_310.0, 900.0, 100.0, 1_200.0], 16.0);
        let sample = refused(700.0, 16.0);
        let advice = pre_stop_sleep(&[&sample], &setting).unwrap();
        // 2.31 s - 0.016 s + 1 s
        assert_eq!(advice.value, Some(4));
        assert!(!advice.because.contains("more are needed"), "{}", advice.because);
    }

    #[test]
    fn few_pods_say_how_many_are_missing() {
        let setting = setting(None, &[400.0, 900.0], 16.0);
        let sample = refused(700.0, 16.0);
        let advice = pre_stop_sleep(&[&sample], &setting).unwrap();
        assert!(
            advice
                .because
                .contains("seen for 2 of 2 pods; 3 more are needed to rely on it"),
            "{}",
            advice.because
        );
    }

    #[test]
    fn a_connection_later_than_the_rules_counts() {
        let setting = Setting {
            connected_ms: vec![3_100.0],
            ..setting(None, &[400.0], 0.0)
        };
        assert_eq!(
            pre_stop_sleep(&[&refused(700.0, 0.0)], &setting).unwrap().value,
            Some(5)
        );
    }

    #[test]
    fn a_sleep_beyond_the_grace_raises_the_grace_by_as_much() {
        let setting = setting(Some(29), &[31_000.0; 5], 29_010.0);
        let advice = pre_stop_sleep(&[&refused(30_000.0, 29_010.0)], &setting).unwrap();
        assert_eq!(advice.value, Some(32));
        assert!(advice.because.contains("(30) to 33"), "{}", advice.because);
    }

    #[test]
    fn grace_holds_the_sleep_and_the_longest_request() {
        assert_eq!(grace_seconds(&setting(Some(3), &[], 0.0), 12_300.0), 17);
    }

    #[test]
    fn sixty_seconds_could_be_four() {
        let setting = setting(Some(60), &[400.0, 2_310.0, 900.0, 100.0, 1_200.0], 60_016.0);
        let savings = savings(&setting);
        assert_eq!(savings.first().and_then(|s| s.value), Some(4));
        assert_eq!(savings.first().map(|s| s.prevents), Some(0));
    }

    #[test]
    fn what_is_generous_but_not_far_too_long_or_rests_on_few_pods_is_left_alone() {
        assert!(savings(&setting(Some(8), &[2_310.0; 5], 8_016.0)).is_empty());
        assert!(savings(&setting(Some(60), &[2_310.0; 4], 60_016.0)).is_empty());
        // Of one of the pods it is not known.
        let unknown = Setting {
            pods: 6,
            ..setting(Some(60), &[2_310.0; 5], 60_016.0)
        };
        assert!(savings(&unknown).is_empty());
    }
}
