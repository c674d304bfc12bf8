//! The flows of one address: nearly always one.

use std::slice;

/// In the order in which they came; never none.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "a word, where nearly all have one id")]
pub(super) enum Ids {
    One(u64),
    More(Box<Vec<u64>>),
}

impl Ids {
    pub fn all(&self) -> &[u64] {
        match self {
            Self::One(id) => slice::from_ref(id),
            Self::More(ids) => ids,
        }
    }

    /// The latest first.
    pub fn latest(&self) -> impl Iterator<Item = u64> {
        self.all().iter().rev().copied()
    }

    pub fn push(&mut self, id: u64) {
        match self {
            Self::One(first) => *self = Self::More(Box::new(vec![*first, id])),
            Self::More(ids) => ids.push(id),
        }
    }

    /// Takes one out. Returns whether any is left.
    pub fn remove(&mut self, id: u64) -> bool {
        match self {
            Self::One(one) => *one != id,
            Self::More(ids) => {
                ids.retain(|i| *i != id);
                if let [one] = *ids.as_slice() {
                    *self = Self::One(one);
                    return true;
                }
                !ids.is_empty()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_and_go_in_order() {
        let mut ids = Ids::One(3);
        ids.push(5);
        ids.push(9);
        assert_eq!(ids.all(), [3, 5, 9]);
        assert!(ids.latest().eq([9, 5, 3]));
        assert!(ids.remove(5) && ids.remove(4));
        assert_eq!(ids.all(), [3, 9]);
        assert!(ids.remove(9));
        assert!(matches!(ids, Ids::One(3)));
        assert!(!ids.remove(3));
        let mut twice = Ids::One(3);
        twice.push(3);
        assert!(!twice.remove(3));
    }

    #[test]
    fn one_takes_no_more_room_than_its_number_and_a_word() {
        assert_eq!(size_of::<Ids>(), 16);
    }
}
