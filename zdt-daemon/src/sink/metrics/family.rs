//! A family of series whose labels come from the cluster: bounded, and never waited for by the verdict path.
//!
//! Not `prometheus::core::MetricVec`: that one finds a series by a hash of its label values without a separator
//! (prometheus 0.14, vec.rs `hash_label_values`), so that namespace `a` with `cronjob/x` and namespace `acron` with
//! `job/x` are one series there; and it has no bound.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, Opts, Registry, Result,
    core::{Collector, Desc, Metric},
    proto::{MetricFamily, MetricType},
};

use crate::report::escape;

/// Namespace and workload of what found no room in a family. No object of Kubernetes has such a name.
pub(super) const OTHER: &str = "(other)";

/// The series, as the writer and the reader of `/metrics` share them. The lock is held for one push, or for copying the
/// handles of all series.
type Shared<M> = Arc<Mutex<Vec<M>>>;

/// Makes one series of a kind.
pub(super) trait Kind: Metric + 'static {
    const TYPE: MetricType;
    /// What several workloads have can be one series. A state of each cannot.
    const SUMS: bool = true;

    fn make(opts: Opts, buckets: &[f64]) -> Result<Self>;
}

impl Kind for IntCounter {
    const TYPE: MetricType = MetricType::COUNTER;

    fn make(opts: Opts, _: &[f64]) -> Result<Self> {
        Self::with_opts(opts)
    }
}

impl Kind for Gauge {
    const TYPE: MetricType = MetricType::GAUGE;
    const SUMS: bool = false;

    fn make(opts: Opts, _: &[f64]) -> Result<Self> {
        Self::with_opts(opts)
    }
}

impl Kind for Histogram {
    const TYPE: MetricType = MetricType::HISTOGRAM;

    fn make(opts: Opts, buckets: &[f64]) -> Result<Self> {
        let opts = HistogramOpts::from(opts).buckets(buckets.to_vec());
        Self::with_opts(opts)
    }
}

/// What a family is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described {
    pub name: &'static str,
    pub help: &'static str,
    /// The first two are namespace and workload; the others are from closed sets.
    pub labels: &'static [&'static str],
    /// Upper bounds; for histograms only.
    pub buckets: &'static [f64],
    /// Most label sets that name a workload.
    pub most: usize,
}

/// The writer's half.
pub(super) struct Family<M> {
    described: Described,
    series: HashMap<Vec<String>, M>,
    named: usize,
    shared: Shared<M>,
    overflowed: IntCounter,
}

impl<M: Kind> Family<M> {
    /// Adds the family to `registry`. `overflowed` counts what found no room.
    pub(super) fn register(
        described: Described,
        registry: &Registry,
        overflowed: IntCounter,
    ) -> Result<Self> {
        let shared = Shared::<M>::default();
        let labels = described.labels.iter().map(|l| (*l).to_owned()).collect();
        registry.register(Box::new(Reader {
            desc: Desc::new(
                described.name.into(),
                described.help.into(),
                labels,
                HashMap::new(),
            )?,
            described,
            shared: Arc::clone(&shared),
        }))?;
        Ok(Self {
            described,
            series: HashMap::new(),
            named: 0,
            shared,
            overflowed,
        })
    }

    /// The series of these label values, or the one of [`OTHER`] when there is no room. None: they are fewer or more
    /// than the family has labels, or there is no room and this kind has no sum.
    pub(super) fn of(&mut self, mut values: Vec<String>) -> Option<&M> {
        if values.len() != self.described.labels.len() {
            return None;
        }
        // The text format has its own escapes for quotes and line breaks; the rest would be shown as it is.
        for value in &mut values {
            if let Cow::Owned(safe) = escape(value) {
                *value = safe;
            }
        }
        if !self.series.contains_key(&values) {
            if self.named >= self.described.most {
                self.overflowed.inc();
                if !M::SUMS {
                    return None;
                }
                values.iter_mut().take(2).for_each(|v| OTHER.clone_into(v));
            } else {
                self.named += 1;
            }
            if !self.series.contains_key(&values) {
                let metric = self.make(&values)?;
                let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                shared.push(metric.clone());
                self.series.insert(values.clone(), metric);
            }
        }
        self.series.get(&values)
    }

    fn make(&self, values: &[String]) -> Option<M> {
        let names = self.described.labels.iter().map(|l| (*l).to_owned());
        let opts = Opts::new(self.described.name, self.described.help)
            .const_labels(names.zip(values.iter().cloned()).collect());
        M::make(opts, self.described.buckets).ok()
    }
}

/// The half that `/metrics` reads.
struct Reader<M> {
    desc: Desc,
    described: Described,
    shared: Shared<M>,
}

impl<M: Kind> Collector for Reader<M> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let series = self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut family = MetricFamily::default();
        family.set_name(self.described.name.to_owned());
        family.set_help(self.described.help.to_owned());
        family.set_field_type(M::TYPE);
        family.set_metric(series.iter().map(Metric::metric).collect());
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: Described = Described {
        name: "zdt_test_total",
        help: "A test.",
        labels: &["namespace", "workload"],
        buckets: &[],
        most: 2,
    };

    fn values(namespace: &str, workload: &str) -> Vec<String> {
        vec![namespace.to_owned(), workload.to_owned()]
    }

    fn family() -> (Registry, Family<IntCounter>, IntCounter) {
        let registry = Registry::new();
        let overflowed = IntCounter::new("o", "o").unwrap();
        let family = Family::register(COUNT, &registry, overflowed.clone()).unwrap();
        (registry, family, overflowed)
    }

    #[test]
    fn labels_that_join_to_the_same_text_are_two_series() {
        let (_, mut family, _) = family();
        family.of(values("a", "cronjob/x")).unwrap().inc_by(2);
        family.of(values("acron", "job/x")).unwrap().inc();
        assert_eq!(family.of(values("a", "cronjob/x")).unwrap().get(), 2);
        assert_eq!(family.of(values("acron", "job/x")).unwrap().get(), 1);
    }

    #[test]
    fn what_finds_no_room_is_counted_under_other_and_known_series_go_on() {
        let (registry, mut family, overflowed) = family();
        for n in 0..10 {
            family.of(values("n", &format!("deployment/{n}"))).unwrap().inc();
        }
        family.of(values("n", "deployment/0")).unwrap().inc();
        assert_eq!(family.of(values("n", "deployment/0")).unwrap().get(), 2);
        assert_eq!(overflowed.get(), 8);
        let gathered = registry.gather();
        let series = gathered[0].get_metric();
        assert_eq!(series.len(), 3);
        let sum: f64 = series.iter().map(|m| m.get_counter().get_value()).sum();
        assert!((sum - 11.0).abs() < f64::EPSILON, "{sum}");
    }

    #[test]
    fn state_that_finds_no_room_is_left_out() {
        let overflowed = IntCounter::new("o", "o").unwrap();
        let mut family = Family::<Gauge>::register(COUNT, &Registry::new(), overflowed.clone()).unwrap();
        for n in 0..3 {
            let there = family
                .of(values("n", &format!("deployment/{n}")))
                .map(|g| g.set(1.0));
            assert_eq!(there.is_some(), n < 2);
        }
        assert_eq!(overflowed.get(), 1);
        assert!(!family.series.contains_key(&values(OTHER, OTHER)));
    }

    #[test]
    fn too_few_label_values_make_no_series() {
        let (registry, mut family, _) = family();
        assert!(family.of(vec!["n".to_owned()]).is_none());
        assert!(registry.gather().is_empty());
    }
}
