//! What the bound of a table has cost.

/// Entries that a full table has refused or given up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    all: u64,
    told: u64,
}

impl Cost {
    pub(super) fn one(&mut self) {
        self.all += 1;
    }

    /// Since it was last asked.
    pub(super) fn take(&mut self) -> u64 {
        let new = self.all - self.told;
        self.told = self.all;
        new
    }

    /// Since the start.
    pub(super) fn all(self) -> u64 {
        self.all
    }
}
