//! Every delay of the lab's control plane: its name, unit, default and source, in this one place.

use std::time::Duration;

use serde::Deserialize;

/// A delay that is drawn evenly from `min..=max` each time. In YAML: milliseconds, `[4, 9]` or `7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Millis")]
pub struct Delay {
    pub min: Duration,
    pub max: Duration,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Millis {
    Fixed(f64),
    Between([f64; 2]),
}

impl TryFrom<Millis> for Delay {
    type Error = String;

    fn try_from(millis: Millis) -> Result<Self, String> {
        let [min, max] = match millis {
            Millis::Fixed(ms) => [ms, ms],
            Millis::Between(range) => range,
        };
        let wrong = |_| format!("a delay of {min} to {max} ms: both must be numbers from 0 up");
        let duration = |ms: f64| Duration::try_from_secs_f64(ms / 1000.0).map_err(wrong);
        if min > max {
            return Err(format!(
                "a delay of {min} to {max} ms: the smaller number comes first"
            ));
        }
        Ok(Self {
            min: duration(min)?,
            max: duration(max)?,
        })
    }
}

impl Delay {
    pub const fn ms(min: u64, max: u64) -> Self {
        Self {
            min: Duration::from_millis(min),
            max: Duration::from_millis(max),
        }
    }

    /// To the microsecond.
    pub fn draw(self, rng: &mut fastrand::Rng) -> Duration {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let (min, max) = (micros(self.min), micros(self.max));
        Duration::from_micros(rng.u64(min..=max.max(min)))
    }
}

/// The control plane's delays. "Measured": on a two-node Kubernetes 1.36.2 with nothing else to do; "split": a
/// part of a measured sum whose parts were not measured by themselves.
///
/// The measured sum: an old pod's deletion follows a new pod's Ready by 7 to 15 ms. It has three hops:
/// `replicaset_follows_pod` + `deployment_follows_replicaset` + `replicaset_follows_spec`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    /// Pod changed → its ReplicaSet's status counts it. Default 2 to 5 ms (split).
    pub replicaset_follows_pod: Delay,
    /// ReplicaSet changed → the Deployment acts on it (scales another ReplicaSet). Default 2 to 5 ms (split).
    pub deployment_follows_replicaset: Delay,
    /// ReplicaSet scaled → its pods are created or their deletion is requested. Default 3 to 5 ms (split).
    pub replicaset_follows_spec: Delay,
    /// Deployment changed (new template, scale) → its controller acts. Default 2 to 5 ms (assumed: as for a ReplicaSet).
    pub deployment_follows_spec: Delay,
    /// Pod or service changed → the EndpointSlice says so. Default 4 to 9 ms (measured; about 5 ms for a pod that
    /// turned Succeeded, that runs, or that became Ready).
    pub endpointslice_follows_pod: Delay,
    /// Pod created → it has a node. Default 2 to 6 ms (assumed; the real scheduler's latency without contention).
    pub scheduler_follows_pod: Delay,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            replicaset_follows_pod: Delay::ms(2, 5),
            deployment_follows_replicaset: Delay::ms(2, 5),
            replicaset_follows_spec: Delay::ms(3, 5),
            deployment_follows_spec: Delay::ms(2, 5),
            endpointslice_follows_pod: Delay::ms(4, 9),
            scheduler_follows_pod: Delay::ms(2, 6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_a_number_or_a_range_of_milliseconds() {
        let timings: Timings =
            serde_json::from_str(r#"{"endpointslice_follows_pod": [1.5, 300], "scheduler_follows_pod": 0}"#)
                .unwrap();
        assert_eq!(timings.endpointslice_follows_pod.min, Duration::from_micros(1500));
        assert_eq!(timings.endpointslice_follows_pod.max, Duration::from_millis(300));
        assert_eq!(timings.scheduler_follows_pod, Delay::ms(0, 0));
        assert_eq!(
            timings.replicaset_follows_pod,
            Timings::default().replicaset_follows_pod
        );
    }

    #[test]
    fn a_backward_negative_or_unknown_delay_is_an_error() {
        let error = |text: &str| serde_json::from_str::<Timings>(text).unwrap_err().to_string();
        assert!(error(r#"{"scheduler_follows_pod": [9, 4]}"#).contains("the smaller number comes first"));
        assert!(error(r#"{"scheduler_follows_pod": -1}"#).contains("from 0 up"));
        assert!(error(r#"{"scheduler_follows_pods": 1}"#).contains("unknown field"));
    }

    #[test]
    fn a_seed_gives_the_same_delays_and_another_seed_others() {
        let draws = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            (0..20)
                .map(|_| Delay::ms(4, 9).draw(&mut rng))
                .collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert!(
            draws(3)
                .iter()
                .all(|d| *d >= Duration::from_millis(4) && *d <= Duration::from_millis(9))
        );
    }
}
