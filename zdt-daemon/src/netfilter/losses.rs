//! What the followers of rules can lose, by name: the one place that says what each loss means and what mends it. A loss
//! reaches the correlator as `What::Loss` with the source [`Loss::source`], and lowers the confidence of the verdicts in
//! its window (invariants I7, I9).

/// A kind of loss. "Read anew": kube-proxy's tables are dumped once, and what changed meanwhile is told as one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// nf_tables: the kernel had no room for notifications (ENOBUFS). Read anew.
    Overrun,
    /// nf_tables: generations whose notifications never came. Read anew.
    Gap,
    /// nf_tables: messages that could not be decoded. Read anew; what a dump has of them stays unknown.
    Unparsed,
    /// nf_tables: somebody deleted a table of kube-proxy's. Read anew.
    TableDeleted,
    /// Somebody emptied the chains through which every service is reached, and all routes went. Told as a change;
    /// nf_tables is then read anew, a legacy table was.
    Flushed,
    /// nf_tables: translations in kube-proxy's chains that cannot be followed (to a range, without a port). Where they
    /// lead stays unknown until they are gone.
    Unsupported,
    /// The rules are more than are kept or read: some routes are unknown. nf_tables is read anew when there is room
    /// again, a legacy table at its next replacement.
    TooLarge,
    /// nf_tables: another tool added or removed a translation of its own. Connections may go where no rule of kube-proxy's
    /// leads; nothing of kube-proxy's was missed.
    OtherTool,
    /// Legacy: rules below kube-proxy's chains that could not be understood. Where they lead stays unknown.
    Odd,
    /// Legacy: replacements that shared one read with a later one, and so have its time.
    Shared,
    /// Legacy: replacements that were seen and found no room to wait for their read. The next read has their change.
    Unread,
    /// The rules could not be read. Tried again: nf_tables in a second, a legacy table at its next replacement.
    Unreadable,
}

impl Loss {
    pub const ALL: [Self; 12] = [
        Self::Overrun,
        Self::Gap,
        Self::Unparsed,
        Self::TableDeleted,
        Self::Flushed,
        Self::Unsupported,
        Self::TooLarge,
        Self::OtherTool,
        Self::Odd,
        Self::Shared,
        Self::Unread,
        Self::Unreadable,
    ];

    /// Its name as the source of a `What::Loss`.
    pub fn source(self) -> &'static str {
        match self {
            Self::Overrun => "rules:overrun",
            Self::Gap => "rules:gap",
            Self::Unparsed => "rules:unparsed",
            Self::TableDeleted => "rules:table-deleted",
            Self::Flushed => "rules:flushed",
            Self::Unsupported => "rules:unsupported",
            Self::TooLarge => "rules:too-large",
            Self::OtherTool => "rules:other-tool",
            Self::Odd => "rules:odd",
            Self::Shared => "rules:shared",
            Self::Unread => "rules:unread",
            Self::Unreadable => "rules:unreadable",
        }
    }

    fn place(self) -> usize {
        Self::ALL
            .iter()
            .position(|loss| *loss == self)
            .unwrap_or_default()
    }
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Loss::ALL.len()]);

impl Counts {
    pub fn add(&mut self, loss: Loss, count: u64) {
        if let Some(place) = self.0.get_mut(loss.place()) {
            *place = place.saturating_add(count);
        }
    }

    pub fn of(&self, loss: Loss) -> u64 {
        self.0.get(loss.place()).copied().unwrap_or_default()
    }

    /// Each that grew since the last call, with by how much. What became less (rules that were odd are gone) is no loss.
    pub fn grown(&mut self, now: Self) -> Vec<(Loss, u64)> {
        let grown = |loss: &Loss| (*loss, now.of(*loss).saturating_sub(self.of(*loss)));
        let grown = Loss::ALL
            .iter()
            .map(grown)
            .filter(|(_, count)| *count > 0)
            .collect();
        *self = now;
        grown
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_loss_has_a_place_and_a_source_of_its_own() {
        let sources: BTreeSet<_> = Loss::ALL.map(Loss::source).into();
        assert_eq!(sources.len(), Loss::ALL.len());
        assert!(sources.iter().all(|s| s.starts_with("rules:")));
        let mut counts = Counts::default();
        for (n, loss) in (1..).zip(Loss::ALL) {
            counts.add(loss, n);
            assert_eq!(counts.of(loss), n);
        }
    }

    #[test]
    fn growth_is_told_once_and_a_decrease_never() {
        let (mut told, mut now) = (Counts::default(), Counts::default());
        now.add(Loss::Odd, 3);
        now.add(Loss::Overrun, 1);
        assert_eq!(told.grown(now), [(Loss::Overrun, 1), (Loss::Odd, 3)]);
        assert_eq!(told.grown(now), []);
        let mut less = Counts::default();
        less.add(Loss::Odd, 1);
        assert_eq!(told.grown(less), []);
        less.add(Loss::Odd, 1);
        assert_eq!(told.grown(less), [(Loss::Odd, 1)]);
    }
}
