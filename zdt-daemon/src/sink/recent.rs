//! The last outputs, kept for those who ask over HTTP, each with its sequence number; and how things stand.
//!
//! At most [`MOST`] outputs and [`MOST_BYTES`] bytes of JSON are kept; what does not fit makes the oldest ones go, and is
//! counted. Sequence numbers begin with 1 at each start of the daemon and have no holes, so whoever asks knows what it has
//! missed. The lock is held to move references, never for IO: nobody who asks can hold up a verdict.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::Sink;
use crate::{
    clock,
    input::{Ktime, Wall},
    live::{Health, State},
    report,
    verdict::{Output, UnderWay},
};

/// Outputs kept. A verdict is one to three kilobytes of JSON.
pub const MOST: usize = 8_192;

/// Bytes of JSON kept: a tenth of what the DaemonSet may have.
pub const MOST_BYTES: usize = 24 << 20;

/// Whose an output is, to find those of one workload without reading all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// None: not known.
    pub namespace: Option<String>,
    /// Name of the workload. None: not known.
    pub workload: Option<String>,
}

impl About {
    fn of(output: &Output) -> Self {
        let (namespace, workload) = match output {
            Output::Verdict(v) => match (&v.pod, &v.service) {
                (Some(pod), _) => (Some(&pod.pod.namespace), pod.workload.as_ref()),
                (None, service) => (service.as_ref().map(|s| &s.namespace), None),
            },
            Output::Propagation(p) => (Some(&p.namespace), p.workload.as_ref()),
            Output::Rollout(r) => (Some(&r.namespace), Some(&r.workload)),
            Output::SelectorSwitch(s) => (Some(&s.service.namespace), None),
            Output::NotSeen(_) => (None, None),
        };
        Self {
            namespace: namespace.cloned(),
            workload: workload.map(|w| w.name.clone()),
        }
    }

    /// Whether it may be one of these; what is not known may.
    pub fn may_be(&self, namespace: Option<&str>, workload: Option<&str>) -> bool {
        let fits = |own: &Option<String>, asked: Option<&str>| match (own, asked) {
            (Some(own), Some(asked)) => own == asked,
            _ => true,
        };
        fits(&self.namespace, namespace) && fits(&self.workload, workload)
    }
}

/// One output.
#[derive(Clone, Debug)]
pub struct Kept {
    pub seq: u64,
    pub about: Arc<About>,
    /// A JSON object without its line break: what `zdt run -o json` prints, and `seq`.
    pub line: Bytes,
}

/// Outputs behind some number.
#[derive(Clone, Debug, Default)]
pub struct Behind {
    pub kept: Vec<Kept>,
    /// Of those asked for, these are gone.
    pub missed: u64,
    /// The last number that is here or is gone: to be asked for next.
    pub next: u64,
    pub more: bool,
}

#[derive(Debug, Default)]
struct Ring {
    kept: VecDeque<Kept>,
    bytes: usize,
    /// Number of the newest output.
    newest: u64,
    state: State,
    /// When somebody last looked how things stand.
    looked: Ktime,
    /// Counts the changes of `state`.
    states: u64,
}

/// It is looked at once a second at least. Older than this, it says nothing of now.
const STALE_MS: f64 = 5_000.0;

/// What both ends share.
#[derive(Debug)]
pub struct Recent {
    ring: Mutex<Ring>,
    /// Grows with every change.
    changes: watch::Sender<u64>,
}

impl Recent {
    /// The end that asks, and the sink that feeds it.
    pub fn new(node: &str) -> (Arc<Self>, RecentSink) {
        let state = State {
            node: node.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: format!("{:x}-{:x}", clock::wall().0, clock::now().0),
            started: clock::wall(),
            health: Health {
                blind: vec!["it is starting".to_owned()],
                ..Health::default()
            },
            ..State::default()
        };
        let recent = Arc::new(Self {
            ring: Mutex::new(Ring {
                state,
                ..Ring::default()
            }),
            changes: watch::Sender::new(0),
        });
        (Arc::clone(&recent), RecentSink { recent })
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At most `most` outputs and about `bytes` bytes of those behind number `since`.
    pub fn behind(&self, since: u64, most: usize, bytes: usize) -> Behind {
        let ring = self.ring();
        let oldest = ring.kept.front().map_or(ring.newest + 1, |k| k.seq);
        // A number that was never given is another daemon's: from the beginning.
        let since = if since > ring.newest { 0 } else { since };
        let missed = oldest.saturating_sub(since + 1);
        let skip = usize::try_from((since + 1).saturating_sub(oldest)).unwrap_or(usize::MAX);
        let mut kept = Vec::new();
        let mut size = 0;
        for one in ring.kept.iter().skip(skip) {
            if kept.len() >= most || size > bytes {
                break;
            }
            size += one.line.len();
            kept.push(one.clone());
        }
        let next = kept.last().map_or(since + missed, |k: &Kept| k.seq);
        Behind {
            missed,
            next,
            more: next < ring.newest,
            kept,
        }
    }

    /// Number of the newest output.
    pub fn newest(&self) -> u64 {
        self.ring().newest
    }

    /// How things stand, and the number of that.
    pub fn state(&self) -> (u64, State) {
        let ring = self.ring();
        let mut state = ring.state.clone();
        let late_ms = clock::now().ms_since(ring.looked);
        if ring.looked > Ktime(0) && late_ms > STALE_MS {
            let why = "it is behind by more than 5 s".to_owned();
            state.health.blind.push(why);
        }
        (ring.states, state)
    }

    /// Outputs that the bound has cost, and those that are kept.
    pub fn counts(&self) -> (u64, usize) {
        let ring = self.ring();
        (ring.newest - ring.kept.len() as u64, ring.kept.len())
    }

    /// Tells when something has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How things stand now. What differs in the time alone is no change.
    pub fn look(&self, now: Wall, health: Health, under_way: Vec<UnderWay>) {
        let mut ring = self.ring();
        ring.state.now = now;
        ring.looked = clock::now();
        if ring.state.health == health && ring.state.under_way == under_way {
            return;
        }
        ring.state.health = health;
        ring.state.under_way = under_way;
        ring.states += 1;
        drop(ring);
        self.changes.send_modify(|n| *n += 1);
    }

    fn keep(&self, output: &Output, json: &str) {
        const SEQ: usize = r#","seq":"#.len() + 21;
        let mut line = Vec::with_capacity(json.len() + SEQ);
        line.extend_from_slice(json.as_bytes());
        let about = Arc::new(About::of(output));
        let mut ring = self.ring();
        ring.newest += 1;
        let seq = ring.newest;
        // An output is an object and never empty.
        line.pop();
        let _ = write!(line, ",\"seq\":{seq}}}");
        let line = Bytes::from(line);
        ring.bytes += line.len();
        ring.kept.push_back(Kept { seq, about, line });
        while ring.kept.len() > MOST || ring.bytes > MOST_BYTES {
            let Some(oldest) = ring.kept.pop_front() else {
                break;
            };
            ring.bytes -= oldest.line.len();
        }
    }
}

/// Keeps outputs. It waits for nobody.
pub struct RecentSink {
    recent: Arc<Recent>,
}

impl Sink for RecentSink {
    fn deliver(&mut self, output: &Output) -> io::Result<()> {
        self.deliver_json(output, &report::json(output)?)
    }

    fn deliver_json(&mut self, output: &Output, json: &str) -> io::Result<()> {
        self.recent.keep(output, json);
        Ok(())
    }

    fn writes_json(&self) -> bool {
        true
    }

    fn flush(&mut self) -> io::Result<()> {
        self.recent.changes.send_modify(|n| *n += 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{input::NsName, verdict::SelectorSwitch};

    fn output(name: &str) -> Output {
        Output::SelectorSwitch(Box::new(SelectorSwitch {
            node: "n1".into(),
            service: NsName {
                namespace: "shop".into(),
                name: name.into(),
            },
            at: Ktime(1),
            wall: Wall(1),
            left: 0,
            ready: 0,
            stayed: None,
        }))
    }

    fn fed(count: usize, name: &str) -> Arc<Recent> {
        let (recent, mut sink) = Recent::new("n1");
        for _ in 0..count {
            sink.deliver(&output(name)).unwrap();
        }
        recent
    }

    #[test]
    fn outputs_are_what_run_prints_with_a_number() {
        let recent = fed(2, "web");
        let behind = recent.behind(1, 10, 1 << 20);
        assert_eq!((behind.missed, behind.next, behind.more), (0, 2, false));
        let [kept] = behind.kept.try_into().unwrap();
        let plain = serde_json::to_string(&output("web")).unwrap();
        let wanted = format!("{},\"seq\":2}}", plain.strip_suffix('}').unwrap());
        assert_eq!(kept.line, wanted);
        assert_eq!(
            serde_json::from_slice::<Output>(&kept.line).unwrap(),
            output("web")
        );
        assert!(kept.about.may_be(Some("shop"), Some("web")) && !kept.about.may_be(Some("other"), None));
    }

    #[test]
    fn what_the_bound_costs_is_told_to_whoever_asks_behind_it() {
        let recent = fed(MOST + 3, "web");
        assert_eq!(recent.counts(), (3, MOST));
        let behind = recent.behind(0, 2, 1 << 20);
        assert_eq!((behind.missed, behind.next, behind.more), (3, 5, true));
        assert_eq!(recent.behind(1, 1, 0).missed, 2);
        assert_eq!(recent.behind(3, 1, 0).missed, 0);
    }

    #[test]
    fn large_outputs_are_bounded_by_their_bytes() {
        let recent = fed(30, &"x".repeat(1 << 20));
        let (dropped, kept) = recent.counts();
        assert!((20..24).contains(&kept) && dropped == 30 - kept as u64, "{kept}");
        let behind = recent.behind(0, 100, 2 << 20);
        assert!(behind.kept.len() <= 3 && behind.more, "{}", behind.kept.len());
    }

    #[test]
    fn number_of_another_daemon_begins_anew() {
        let behind = fed(2, "web").behind(77, 10, 1 << 20);
        assert_eq!((behind.kept.len(), behind.next), (2, 2));
        let empty = fed(0, "web").behind(5, 10, 1 << 20);
        assert_eq!((empty.missed, empty.next, empty.more), (0, 0, false));
    }

    #[test]
    fn only_news_are_a_change() {
        let recent = fed(0, "web");
        recent.look(Wall(1), Health::default(), Vec::new());
        let (before, changes) = (recent.state().0, recent.changes());
        recent.look(Wall(2), Health::default(), Vec::new());
        assert!(!changes.has_changed().unwrap());
        let health = Health {
            events_lost: 1,
            ..Health::default()
        };
        recent.look(Wall(3), health, Vec::new());
        assert!(changes.has_changed().unwrap());
        assert_eq!(recent.state().0, before + 1);
    }
}
