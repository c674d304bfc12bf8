//! Kernel events to inputs, each with its look-up behind it.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use zdt_common::{DecodeError, Decoded};

use super::{Lost, endings, lookup::Lookups, own_netns, rules};
use crate::{
    input::{Input, Ktime, NetnsInum, Observation, What},
    kernel::{EventRing, TakesEvents, Translator},
    netfilter::losses::Loss,
};

/// Handed on together, since each that comes alone wakes the consumer. A look-up takes some 20 µs: they wait for 5 ms.
const TOGETHER: usize = 256;

/// What becomes of events.
pub(super) struct Feed {
    translator: Translator,
    lookups: Lookups,
    own: NetnsInum,
    /// On their way to `to`.
    together: Vec<Input>,
    to: mpsc::Sender<Input>,
    /// Of rules that were replaced.
    replaced: mpsc::Sender<(Ktime, Observation)>,
    /// Something begins.
    stir: watch::Sender<Ktime>,
    lost: Arc<Lost>,
}

impl Feed {
    pub(super) fn new(
        translator: Translator,
        to: mpsc::Sender<Input>,
        (replaced, stir): (mpsc::Sender<(Ktime, Observation)>, watch::Sender<Ktime>),
        lost: Arc<Lost>,
    ) -> Self {
        Self {
            translator,
            lookups: Lookups::new(),
            own: own_netns(),
            together: Vec::with_capacity(TOGETHER),
            to,
            replaced,
            stir,
            lost,
        }
    }

    /// Reads the ring until the stop.
    pub(super) async fn run(
        mut self,
        mut ring: EventRing,
        mut stop: watch::Receiver<()>,
    ) -> anyhow::Result<()> {
        tokio::select! {
            ended = ring.feed(&mut self) => {
                // Nothing but an error ends it.
                let Err(error) = ended;
                return Err(error).context("kernel events cannot be waited for");
            }
            // Ends when the other half is dropped.
            _ = stop.changed() => {}
        }
        // What came since the last look.
        ring.drain(|event| {
            self.event(event);
        });
        self.drained();
        Ok(())
    }

    fn send(&mut self, input: Input) {
        self.together.push(input);
        if self.together.len() >= TOGETHER {
            self.drained();
        }
    }
}

impl TakesEvents for Feed {
    fn event(&mut self, event: Result<Decoded<'_>, DecodeError>) -> bool {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                if self.lost.decode.fetch_add(1, Relaxed) == 0 {
                    tracing::warn!("a kernel event cannot be read: {error}; such events are counted as lost");
                }
                return false;
            }
        };
        let input = self.translator.input(&event);
        let translation = self.lookups.after(&input);
        self.lost.lookup.fetch_add(self.lookups.take_skipped(), Relaxed);
        if let What::Kernel(observation) = &input.what
            && rules::concerns(observation, self.own)
            && self.replaced.try_send((input.at, observation.clone())).is_err()
        {
            self.lost.rules.add(Loss::Unread, 1);
        }
        if endings::begins(&input.what) {
            self.stir.send_replace(input.at);
        }
        let goes_on = endings::goes_on(&input.what);
        self.send(input);
        if let Some(translation) = translation {
            self.send(translation);
        }
        goes_on
    }

    /// Never waits for room: the ring would overflow.
    fn drained(&mut self) {
        for input in self.together.drain(..) {
            if self.to.try_send(input).is_err() {
                self.lost.channel.fetch_add(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use zdt_common::{ABI, Addr, HEADER_LEN, Header, Hook, Retransmit, SockView, decode};
    use zerocopy::IntoBytes as _;

    use super::*;

    /// A SYN that a server's side sends again: nobody is asked about it.
    fn event() -> Vec<u64> {
        let payload = Retransmit {
            view: SockView {
                laddr: Addr::v4([10, 0, 1, 0]),
                raddr: Addr::v4([10, 0, 2, 0]),
                lport: 80,
                rport: 10_000,
                full: 1,
                state: 2,
                server: 1,
                ..SockView::default()
            },
            err: 0,
            silent: 0,
        };
        let payload = payload.as_bytes();
        let header = Header {
            ktime_ns: 1_000,
            abi: ABI,
            hook: Hook::TcpRetransmitSkb as u16,
            len: u32::try_from(payload.len()).unwrap(),
        };
        let mut words = vec![0; (HEADER_LEN + payload.len()).div_ceil(8)];
        let bytes = words.as_mut_bytes();
        bytes[..HEADER_LEN].copy_from_slice(header.as_bytes());
        bytes[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(payload);
        words
    }

    #[test]
    fn what_one_drain_finds_is_handed_on_at_its_end_and_what_finds_no_room_is_counted() {
        let (to, mut from) = mpsc::channel(TOGETHER + 3);
        let (replaced, _replacements) = mpsc::channel(1);
        let (stir, _) = watch::channel(Ktime::default());
        let lost = Arc::new(Lost::default());
        let translator = Translator::new(BTreeMap::new(), BTreeMap::new(), 250);
        let mut feed = Feed::new(translator, to, (replaced, stir), Arc::clone(&lost));
        let event = event();
        let found = |feed: &mut Feed, events: usize| {
            for _ in 0..events {
                feed.event(decode(event.as_bytes()));
            }
        };
        found(&mut feed, 3);
        assert!(from.is_empty(), "the drain goes on");
        feed.drained();
        assert_eq!(from.len(), 3);
        // A long one is handed on in parts.
        found(&mut feed, TOGETHER + 2);
        assert_eq!(from.len(), 3 + TOGETHER);
        feed.drained();
        assert_eq!((from.len(), lost.channel.load(Relaxed)), (3 + TOGETHER, 2));
        assert!(matches!(from.try_recv().unwrap().what, What::Kernel(_)));
        feed.event(decode(&[]));
        assert_eq!(lost.decode.load(Relaxed), 1);
    }
}
