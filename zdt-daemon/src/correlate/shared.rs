//! Ways to keep what a cluster has 150,000 of in little room.

use std::{borrow::Borrow, collections::BTreeSet, ops::Deref, sync::Arc};

/// Values that many have in common, each once.
#[derive(Debug)]
pub(super) struct Shared<T: ?Sized>(BTreeSet<Arc<T>>);

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<T: ?Sized + Ord> Shared<T> {
    /// The one that is equal.
    pub fn one<V: Borrow<T> + Into<Arc<T>>>(&mut self, value: V) -> Arc<T> {
        if let Some(known) = self.0.get(value.borrow()) {
            return Arc::clone(known);
        }
        let new = value.into();
        self.0.insert(Arc::clone(&new));
        new
    }

    /// Whoever has it lets it go: forgotten, if nobody else has it.
    pub fn let_go(&mut self, one: &Arc<T>) {
        if Arc::strong_count(one) == 2 {
            self.0.remove(one);
        }
    }

    /// Forgets what nobody has any more.
    pub fn forget(&mut self) {
        self.0.retain(|one| Arc::strong_count(one) > 1);
    }
}

/// A list of mostly one: that one takes no allocation.
#[derive(Clone, Debug)]
pub(super) enum Few<T> {
    One([T; 1]),
    Any(Vec<T>),
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Any(Vec::new())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(one) => one,
            Self::Any(all) => all,
        }
    }
}

impl<T> Few<T> {
    pub fn push(&mut self, new: T) {
        *self = match std::mem::take(self) {
            Self::Any(all) if all.is_empty() => Self::One([new]),
            Self::One([one]) => Self::Any(vec![one, new]),
            Self::Any(mut all) => {
                all.push(new);
                Self::Any(all)
            }
        };
    }

    pub fn remove_first(&mut self) {
        *self = match std::mem::take(self) {
            Self::Any(mut all) if !all.is_empty() => {
                all.remove(0);
                Self::Any(all)
            }
            Self::One(_) | Self::Any(_) => Self::default(),
        };
    }
}

/// Appends `new` to a list that rarely grows; of more than `max` the first goes.
pub(super) fn add<T>(all: &mut Box<[T]>, new: T, max: usize) {
    let mut more = std::mem::take(all).into_vec();
    if more.len() >= max {
        more.remove(0);
    }
    more.reserve_exact(1);
    more.push(new);
    *all = more.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_few_is_a_list() {
        let mut few = Few::default();
        let mut all = Vec::new();
        for n in 0..4 {
            assert_eq!(*few, *all);
            few.push(n);
            all.push(n);
        }
        while !all.is_empty() {
            assert_eq!(*few, *all);
            few.remove_first();
            all.remove(0);
        }
        few.remove_first();
        assert!(few.is_empty());
        few.push(7);
        few.remove_first();
        assert!(few.is_empty());
    }

    #[test]
    fn equal_values_are_one_until_nobody_has_it() {
        let mut nodes: Shared<str> = Shared::default();
        let (one, two) = (nodes.one("n1"), nodes.one("n1"));
        assert!(Arc::ptr_eq(&one, &two));
        nodes.let_go(&one);
        drop(one);
        assert!(Arc::ptr_eq(&two, &nodes.one("n1")));
        nodes.let_go(&two);
        assert_eq!(nodes.0.len(), 0);
        drop(nodes.one("n3"));
        let other = nodes.one("n2");
        nodes.forget();
        assert_eq!(nodes.0.len(), 1);
        assert!(Arc::ptr_eq(&other, &nodes.one("n2")));
    }

    #[test]
    fn of_more_than_the_most_the_first_goes() {
        let mut all: Box<[u32]> = Box::default();
        for n in 0..5 {
            add(&mut all, n, 3);
        }
        assert_eq!(*all, [2, 3, 4]);
    }
}
