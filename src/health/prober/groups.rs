//! Peers that are probed together: where several upstreams have the same address and the same check, one probe is for all.

use std::collections::HashMap;

/// One of the peers that are probed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The record of its upstream.
    pub record: u32,
    /// Its place among the targets of that.
    pub target: u32,
    /// Its cell.
    pub cell: u32,
}

/// All peers, by the key that their probes have in common. Mostly each is alone, which takes no memory beside the entry.
#[derive(Debug, Default)]
pub struct Groups(HashMap<u64, Group>);

#[derive(Debug)]
struct Group {
    /// The one with the lowest cell, whose lease is that of all: every worker finds the same.
    leader: Member,
    others: Vec<Member>,
}

impl Groups {
    /// Adds a peer.
    pub fn add(&mut self, key: u64, mut member: Member) {
        let group = match self.0.entry(key) {
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(Group { leader: member, others: Vec::new() });
                return;
            }
            std::collections::hash_map::Entry::Occupied(taken) => taken.into_mut(),
        };
        if member.cell < group.leader.cell {
            std::mem::swap(&mut group.leader, &mut member);
        }
        group.others.push(member);
    }

    /// Takes the peer with this cell of the upstream in `record` out.
    pub fn remove(&mut self, key: u64, record: u32, cell: u32) {
        let Some(group) = self.0.get_mut(&key) else { return };
        if (group.leader.record, group.leader.cell) != (record, cell) {
            group.others.retain(|member| (member.record, member.cell) != (record, cell));
        } else if let Some(next) = (0..group.others.len()).min_by_key(|&place| group.others[place].cell) {
            group.leader = group.others.swap_remove(next);
        } else {
            self.0.remove(&key);
        }
    }

    /// Whether the peer with this cell is the one whose lease counts.
    pub fn leads(&self, key: u64, cell: u32) -> bool {
        self.0.get(&key).is_some_and(|group| group.leader.cell == cell)
    }

    /// All that are probed together, the leader first.
    pub fn members(&self, key: u64) -> impl Iterator<Item = Member> {
        self.0.get(&key).into_iter().flat_map(|group| std::iter::once(group.leader).chain(group.others.iter().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Each upstream has an address once.
        #[test]
        fn the_leader_has_the_lowest_cell_of_those_that_are_there(
            steps in prop::collection::vec((0u64..3, 0u32..6, any::<bool>()), 0..60),
        ) {
            let mut groups = Groups::default();
            let mut model: HashMap<u64, HashMap<u32, Member>> = HashMap::new();
            for (i, (key, record, add)) in (1u32..).zip(steps) {
                let members = model.entry(key).or_default();
                if let Some(old) = members.remove(&record) {
                    groups.remove(key, record, old.cell);
                }
                if add {
                    // Cells are in no order.
                    let member = Member { record, target: i, cell: i.wrapping_mul(0x9e37_79b9) };
                    groups.add(key, member);
                    members.insert(record, member);
                }
                let mut expected: Vec<Member> = members.values().copied().collect();
                expected.sort_by_key(|member| member.cell);
                let mut found: Vec<Member> = groups.members(key).collect();
                prop_assert_eq!(found.first(), expected.first());
                for member in &expected {
                    prop_assert_eq!(groups.leads(key, member.cell), Some(member) == expected.first());
                }
                found.sort_by_key(|member| member.cell);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
