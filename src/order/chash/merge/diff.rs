//! Which members of a ring left, which came, and which index became which.

use crate::upstream::Address;
use std::collections::HashMap;

/// A member as [`build`](crate::order::chash::build) takes it.
type Member<'a> = (u32, &'a Address, u16);

/// The changes that turn a ring of some members into a ring of others.
#[derive(Debug, Default)]
pub(super) struct Diff<'a> {
    /// With their old indexes. A member with another weight has left, and has come with the new one.
    pub(super) left: Vec<Member<'a>>,
    /// With their new indexes.
    pub(super) came: Vec<Member<'a>>,
    /// The new indexes of members that stayed.
    pub(super) moved: Moved,
}

/// From an old index to the new one.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Moved {
    /// Members that stayed keep their index.
    #[default]
    Nobody,
    /// Indexes from the first number on went up by the second, wrapping: so after a change of one peer.
    From(u32, u32),
    /// By old index; [`Moved::NOWHERE`] for members that left.
    To(Vec<u32>),
}

impl Moved {
    /// No index: the top bit is set.
    pub(super) const NOWHERE: u32 = u32::MAX;

    /// From the old and new indexes of members that stayed, ascending.
    fn of(stayed: impl Iterator<Item = (u32, u32)> + Clone) -> Moved {
        // Each run of indexes that moved alike: where it begins, and by how much they went up.
        let mut runs = vec![(0, 0)];
        for (old, new) in stayed.clone() {
            let by = new.wrapping_sub(old);
            if runs.last().is_some_and(|run| run.1 != by) {
                runs.push((old, by));
            }
        }
        match runs[..] {
            [_] => Moved::Nobody,
            [_, (first, by)] => Moved::From(first, by),
            _ => {
                let mut indexes = Vec::new();
                for (old, new) in stayed {
                    indexes.resize(old as usize, Moved::NOWHERE);
                    indexes.push(new);
                }
                Moved::To(indexes)
            }
        }
    }
}

impl<'a> Diff<'a> {
    /// From `from` to `to`, both by ascending index. Members that stay keep their order: a peer that went past others has left
    /// and come.
    pub(super) fn of(from: &[Member<'a>], to: &[Member<'a>]) -> Diff<'a> {
        // Most changes are of one peer: before it and behind it nothing has to be looked up.
        let head = common(from.iter().zip(to));
        let tail = common(from[head..].iter().rev().zip(to[head..].iter().rev()));
        let (from_tail, to_tail) = (from.len() - tail, to.len() - tail);
        let mut diff = Diff::default();
        let between = diff.between(&from[head..from_tail], &to[head..to_tail]);
        let before = pairs(&from[..head], &to[..head]);
        let behind = pairs(&from[from_tail..], &to[to_tail..]);
        diff.moved = Moved::of(before.chain(between.iter().copied()).chain(behind));
        diff
    }

    /// Sorts members into those that left, those that came, and those that stayed, which are the answer.
    fn between(&mut self, from: &[Member<'a>], to: &[Member<'a>]) -> Vec<(u32, u32)> {
        let mut places = HashMap::new();
        if !from.is_empty() {
            // Should two addresses share an identity, then one of them is not found: it leaves and comes.
            places.extend(to.iter().enumerate().map(|(place, member)| (member.1.ident(), place)));
        }
        let (mut stayed, mut next) = (Vec::new(), 0);
        for old in from {
            match places.get(&old.1.ident()) {
                Some(&place) if place >= next && same(old, &to[place]) => {
                    self.came.extend_from_slice(&to[next..place]);
                    stayed.push((old.0, to[place].0));
                    next = place + 1;
                }
                _ => self.left.push(*old),
            }
        }
        self.came.extend_from_slice(&to[next..]);
        stayed
    }
}

/// Whether both have the same points.
fn same(old: &Member<'_>, new: &Member<'_>) -> bool {
    old.2 == new.2 && old.1 == new.1
}

/// How many pairs from the start on are the same.
fn common<'a: 'm, 'm>(mut pairs: impl Iterator<Item = (&'m Member<'a>, &'m Member<'a>)>) -> usize {
    let mut count = 0;
    while pairs.next().is_some_and(|(old, new)| same(old, new)) {
        count += 1;
    }
    count
}

fn pairs(from: &[Member<'_>], to: &[Member<'_>]) -> impl Iterator<Item = (u32, u32)> + Clone {
    from.iter().zip(to).map(|(old, new)| (old.0, new.0))
}
