//! The edges of one chain or map, stored small: most chains of a large rule set have one or two.

use std::collections::BTreeMap;

use super::graph::{Out, Place};

#[derive(Debug)]
pub(super) enum Outs {
    /// By rule handle, ascending: the kernel counts them up. A removed one leaves a gap until gaps are the most.
    Rules {
        list: Vec<(u64, Option<Out>)>,
        gaps: usize,
    },
    /// By the key of the element.
    Elements(BTreeMap<Box<[u8]>, Out>),
    /// Of an anonymous map: its elements never change.
    Constant(Vec<Out>),
}

impl Default for Outs {
    fn default() -> Self {
        Self::Constant(Vec::new())
    }
}

impl Outs {
    pub(super) fn rules() -> Self {
        Self::Rules {
            list: Vec::new(),
            gaps: 0,
        }
    }

    pub(super) fn insert(&mut self, place: Place<'_>, out: Out) {
        match (self, place) {
            (Self::Rules { list, .. }, Place::Rule(handle)) => {
                let at = list.partition_point(|(h, _)| *h <= handle);
                // A chain of one rule is the commonest: do not let the first push make room for four.
                if list.is_empty() {
                    list.reserve_exact(1);
                }
                list.insert(at, (handle, Some(out)));
            }
            (Self::Elements(map), Place::Element(key)) => {
                map.insert(key.into(), out);
            }
            (Self::Constant(list), _) => list.push(out),
            _ => {}
        }
    }

    /// One edge of a place; a rule may have several.
    pub(super) fn remove(&mut self, place: Place<'_>) -> Option<Out> {
        match (self, place) {
            (Self::Rules { list, gaps }, Place::Rule(handle)) => {
                let from = list.partition_point(|(h, _)| *h < handle);
                let mut of_rule = list.iter_mut().skip(from).take_while(|(h, _)| *h == handle);
                let out = of_rule.find_map(|(_, out)| out.take())?;
                *gaps += 1;
                if *gaps * 2 > list.len() {
                    list.retain(|(_, out)| out.is_some());
                    *gaps = 0;
                }
                Some(out)
            }
            (Self::Elements(map), Place::Element(key)) => map.remove(key),
            _ => None,
        }
    }

    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = &Out> + '_> {
        match self {
            Self::Rules { list, .. } => Box::new(list.iter().filter_map(|(_, out)| out.as_ref())),
            Self::Elements(map) => Box::new(map.values()),
            Self::Constant(list) => Box::new(list.iter()),
        }
    }
}
