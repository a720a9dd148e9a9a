//! The ring after a change, made from the ring before it.
//!
//! To build a ring of 10,000 peers takes 18 ms, mostly to sort. A change of one of them touches 160 points in 1.6 million. So
//! the points of peers that left and of peers that came are made and sorted. Between the few buckets of these, the old words
//! are copied, but for two numbers. `starts` go up or down by the number of points that came or left before, and peer indexes
//! become those of the new list.
//!
//! The result equals, to the bit, that of [`build`](super::build) for the new members. The old words are not trusted. A point
//! that should leave and is not there, or starts that go backwards, end the merge. Other nonsense goes over into the new ring,
//! of the right size.
//!
//! - `diff` finds the peers that left and that came, and the new index of each that stays.
//! - `splice` copies the old words, and puts the new points between them.
//! - `resize` writes the same points under another number of bits.

mod diff;
mod resize;
mod splice;

use super::points::Base;
use super::ring::Ring;
use super::search::Words;
use super::shape::{RingShape, ring_points};
use crate::upstream::{Address, HashId, MAX_PEERS};
use diff::Diff;
use splice::Edits;

/// A merge pays as long as at most one in so many of the points leave and come. From a tenth on it is the slower one, with much
/// to sort and no long runs to copy.
const ONE_IN: usize = 16;

/// The ring of `to`, byte for byte as [`build`](super::build) makes it, from `old`, the words of the ring of `from`.
///
/// Both lists are (peer index, address, weight), by ascending index. `None`: build the ring. Then too much has changed for a
/// merge to pay, or the order of the peers has. Or there are too many points, or `old` is not that ring.
///
/// `old` may be changed by others meanwhile: then the result may be anything, and has to be thrown away.
///
/// ```
/// use dyups::upstream::HashId;
/// use dyups::order::chash::{build, merge};
/// use dyups::upstream::Address;
///
/// let all: Vec<Address> = (1..=20).map(|n| Address::from_server(&format!("10.0.0.{n}")).unwrap()).collect();
/// let before: Vec<_> = (0..).zip(&all).map(|(index, address)| (index, address, 1)).collect();
/// // The first is no more, and all others move up.
/// let after: Vec<_> = (0..).zip(&all[1..]).map(|(index, address)| (index, address, 1)).collect();
/// let ring = build(&before, HashId::Nginx).unwrap();
/// assert_eq!(merge(&ring.words, ring.shape, &before, &after, HashId::Nginx), build(&after, HashId::Nginx).ok());
/// ```
pub fn merge<W: Words + ?Sized>(
    old: &W,
    shape: RingShape,
    from: &[(u32, &Address, u16)],
    to: &[(u32, &Address, u16)],
    hash_id: HashId,
) -> Option<Ring> {
    let points = points_of(to)?;
    if !shape.is_sound() || shape.points as usize != points_of(from)? {
        return None;
    }
    let new = RingShape::new(points, to.last()?.0);
    let diff = Diff::of(from, to);
    if (points_of(&diff.left)? + points_of(&diff.came)?) * ONE_IN > points {
        return None;
    }
    // In between there are as many bits as any of the old and the new indexes needs.
    let bits = shape.bits.max(new.bits);
    let edits = Edits { left: keys(&diff.left, hash_id, bits), came: keys(&diff.came, hash_id, bits) };
    let words = if shape.bits == bits {
        splice::splice(old, shape, &edits, &diff.moved)?
    } else {
        let (words, shape) = resize::resize(old, shape, bits)?;
        splice::splice(&words, shape, &edits, &diff.moved)?
    };
    if new.bits == bits {
        return Some(Ring::sealed(new, words));
    }
    let (words, shape) = resize::resize(&words, RingShape { bits, ..new }, new.bits)?;
    Some(Ring::sealed(shape, words))
}

/// How many points members have. `None`: more than a ring may have, or they are no members of one.
fn points_of(members: &[(u32, &Address, u16)]) -> Option<usize> {
    let ascending = members.is_sorted_by(|a, b| a.0 < b.0) && members.last().is_none_or(|m| (m.0 as usize) < MAX_PEERS);
    let weight = members.iter().map(|&(_, _, weight)| u64::from(weight)).sum();
    if ascending { ring_points(weight).ok() } else { None }
}

/// The points of members as the ring sorts them: bucket, rest of the hash, index.
fn keys(members: &[(u32, &Address, u16)], hash_id: HashId, bits: u8) -> Vec<u64> {
    let mut keys = Vec::new();
    for &(index, address, weight) in members {
        Base::of(address, hash_id).points(weight).for_each(|hash| {
            let bucket = hash >> (u32::BITS - u32::from(bits));
            keys.push(u64::from(bucket) << 32 | u64::from(hash << bits | index));
        });
    }
    keys.sort_unstable();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::chash::ring::build;
    use proptest::prelude::*;

    type Member = (u32, &'static Address, u16);

    /// Enough addresses for all tests, two spellings of each: to lua-resty-chash both have the same points.
    fn address(number: usize) -> &'static Address {
        static ALL: std::sync::LazyLock<Vec<Address>> = std::sync::LazyLock::new(|| {
            let spelled = |number| {
                [
                    format!("10.0.{}.{}", number / 256, number % 256),
                    format!("10.0.{}.{}:80", number / 256, number % 256),
                ]
            };
            (0..2_000).flat_map(spelled).map(|server| Address::from_server(&server).unwrap()).collect()
        });
        &ALL[number]
    }

    /// Members of weight 1 with other addresses.
    fn members(numbers: std::ops::Range<u32>) -> Vec<Member> {
        numbers.map(|number| (number, address(2 * number as usize), 1)).collect()
    }

    fn merged(from: &[Member], to: &[Member]) -> Option<Ring> {
        let old = build(from, HashId::Nginx).unwrap();
        merge(&old.words, old.shape, from, to, HashId::Nginx)
    }

    #[track_caller]
    fn check(from: &[Member], to: &[Member]) {
        assert!(merged(from, to) == Some(build(to, HashId::Nginx).unwrap()));
    }

    /// An upstream's peers as a test changes them.
    #[derive(Clone, Debug)]
    struct Peer {
        address: usize,
        weight: u16,
        out: bool,
    }

    #[derive(Clone, Debug)]
    enum Edit {
        Append(usize),
        Insert(prop::sample::Index, usize),
        Remove(prop::sample::Index),
        Weigh(prop::sample::Index, u16),
        Switch(prop::sample::Index),
        MoveToTheEnd(prop::sample::Index),
    }

    fn some_change() -> impl Strategy<Value = Edit> {
        use Edit::*;
        let at = any::<prop::sample::Index>;
        prop_oneof![
            4 => (0..4_000usize).prop_map(Append),
            1 => (at(), 0..4_000usize).prop_map(|(at, address)| Insert(at, address)),
            4 => at().prop_map(Remove),
            2 => (at(), 0u16..4).prop_map(|(at, weight)| Weigh(at, weight)),
            4 => at().prop_map(Switch),
            1 => at().prop_map(MoveToTheEnd),
        ]
    }

    fn apply(change: &Edit, peers: &mut Vec<Peer>) {
        let new = |&address: &usize| Peer { address, weight: 1, out: false };
        match change {
            Edit::Append(address) => peers.push(new(address)),
            Edit::Insert(at, address) => peers.insert(at.index(peers.len()), new(address)),
            Edit::Remove(at) => drop(peers.remove(at.index(peers.len()))),
            Edit::Weigh(at, weight) => at.get_mut(peers).weight = *weight,
            Edit::Switch(at) => at.get_mut(peers).out ^= true,
            Edit::MoveToTheEnd(at) => {
                let peer = peers.remove(at.index(peers.len()));
                peers.push(peer);
            }
        }
    }

    fn members_of(peers: &[Peer]) -> Vec<Member> {
        let all = (0..).zip(peers).filter(|(_, peer)| !peer.out && peer.weight > 0);
        all.map(|(index, peer)| (index, address(peer.address), peer.weight)).collect()
    }

    /// Whether an address is there twice, as in no upstream: then peers are taken for each other.
    fn is_twice(members: &[Member]) -> bool {
        let mut all: Vec<u64> = members.iter().map(|member| member.1.ident()).collect();
        all.sort_unstable();
        all.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// Sizes about those where the bits change.
    fn some_peers() -> impl Strategy<Value = Vec<Peer>> {
        prop_oneof![36usize..41, 74usize..80, 150usize..156]
            .prop_map(|count| (0..count).map(|number| Peer { address: 7 * number, weight: 1, out: false }).collect())
    }

    proptest! {
        // Slow in a debug build: a ring a step.
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn after_any_changes_it_is_the_ring_that_would_be_built(
            mut peers in some_peers(),
            steps in prop::collection::vec(prop::collection::vec(some_change(), 1..4), 1..12),
            nginx: bool,
        ) {
            let hash_id = if nginx { HashId::Nginx } else { HashId::HostPort };
            let mut ring = build(&members_of(&peers), hash_id).unwrap();
            for changes in steps {
                let before = peers.clone();
                changes.iter().for_each(|change| apply(change, &mut peers));
                let (from, to) = (members_of(&before), members_of(&peers));
                let built = build(&to, hash_id).unwrap();
                if let Some(merged) = merge(&ring.words, ring.shape, &from, &to, hash_id) {
                    prop_assert!(merged == built);
                } else {
                    // Each change is of six units of weight at most; and in another order all may have left and come.
                    let moved = changes.iter().any(|change| matches!(change, Edit::MoveToTheEnd(_)));
                    prop_assert!(changes.len() * 6 * ONE_IN > to.len() || moved || is_twice(&from) || is_twice(&to));
                }
                ring = built;
            }
        }

        #[test]
        fn any_old_words_are_survived(
            words in prop::collection::vec(0u64.., 0..9_000), points in prop::option::of(0u32..20_000), bits in 0u8..26, small: bool,
        ) {
            // Small halves are more often taken for starts.
            let words: Vec<u64> = words.iter().map(|word| if small { word & 0x1fff_0000_1fff } else { *word }).collect();
            let (from, to) = (members(0..50), members(1..51));
            let shape = RingShape { points: points.unwrap_or(8_000), bits };
            if let Some(ring) = merge(&words, shape, &from, &to, HashId::Nginx) {
                prop_assert_eq!(ring.words.len(), ring.shape.words());
            }
        }

        #[test]
        fn a_ring_with_spoilt_words_is_survived(
            spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0u32..64), 1..20), first in 0u32..3, last in 38u32..44,
        ) {
            let (from, to) = (members(0..40), members(first..last));
            let mut old = build(&from, HashId::Nginx).unwrap();
            for (at, by, shift) in spoilt {
                let at = at.index(old.words.len());
                old.words[at] ^= by >> shift;
            }
            if let Some(ring) = merge(&old.words, old.shape, &from, &to, HashId::Nginx) {
                prop_assert_eq!((ring.shape, ring.words.len()), (build(&to, HashId::Nginx).unwrap().shape, ring.shape.words()));
            }
        }
    }

    #[test]
    fn one_peer_of_many_that_comes_or_leaves_or_weighs_more() {
        let all = members(0..100);
        check(&all, &members(0..101));
        check(&all, &all);
        for at in [0, 1, 50, 98, 99] {
            let (mut less, mut heavier) = (all.clone(), all.clone());
            less.remove(at);
            check(&all, &less);
            check(&less, &all);
            (0..).zip(&mut less).for_each(|(index, member)| member.0 = index);
            check(&all, &less);
            check(&less, &all);
            heavier[at].2 = 4;
            check(&all, &heavier);
            check(&heavier, &all);
        }
    }

    #[test]
    fn indexes_that_need_more_bits_and_fewer() {
        let near = members(0..40);
        let far: Vec<Member> = near.iter().map(|&(index, address, weight)| (index * 6_000, address, weight)).collect();
        check(&near, &far);
        check(&far, &near);
        check(&far, &members(0..41));
        let last = &[(MAX_PEERS as u32 - 1, address(1), 1)];
        check(&near, &[&near[..], last].concat());
        check(&[&near[..], last].concat(), &near);
    }

    #[test]
    fn peers_of_the_same_points_are_told_apart_by_index() {
        // As lua-resty-chash hashes them, one is the other.
        let twins = |indexes: [u32; 2]| {
            let mut all = members(100..200);
            all.extend((0..).zip(indexes).map(|(spelling, index)| (index, address(spelling), 1)));
            all.sort_unstable_by_key(|member| member.0);
            all
        };
        for (from, to) in [([3, 300], [3, 300]), ([3, 300], [3, 4]), ([300, 301], [3, 301]), ([301, 300], [3, 4])] {
            let (from, to) = (twins(from), twins(to));
            let old = build(&from, HashId::HostPort).unwrap();
            let built = build(&to, HashId::HostPort).ok();
            assert!(merge(&old.words, old.shape, &from, &to, HashId::HostPort) == built);
            for one in 0..to.len() {
                let mut less = to.clone();
                less.remove(one);
                let built = build(&less, HashId::HostPort).ok();
                let ring = build(&to, HashId::HostPort).unwrap();
                assert!(merge(&ring.words, ring.shape, &to, &less, HashId::HostPort) == built);
            }
        }
    }

    #[test]
    fn what_is_not_worth_it_is_left_to_build() {
        assert_eq!(merged(&members(0..40), &members(0..43)), None, "too much has come");
        assert_eq!(merged(&members(0..43), &members(0..40)), None, "too much has left");
        assert_eq!(merged(&members(0..1), &[]), None, "nobody is left");
        let mut turned = members(0..40);
        turned.rotate_left(20);
        (0..).zip(&mut turned).for_each(|(index, member)| member.0 = index);
        assert_eq!(merged(&members(0..40), &turned), None, "another order");
        let heavy = [&members(0..40)[..], &[(40, address(1), u16::MAX), (41, address(3), u16::MAX)]].concat();
        assert_eq!(merged(&members(0..40), &heavy), None, "more points than there may be");
        turned.swap(0, 1);
        assert_eq!(merged(&members(0..40), &turned), None, "indexes that do not ascend");
    }

    #[test]
    fn a_ring_of_others_is_not_merged() {
        let old = build(&members(0..40), HashId::Nginx).unwrap();
        let others = [&members(0..39)[..], &members(41..42)].concat();
        assert_eq!(
            merge(&old.words, old.shape, &others, &members(0..39), HashId::Nginx),
            None,
            "who leaves is not there"
        );
        assert_eq!(merge(&old.words, old.shape, &members(0..39), &members(0..40), HashId::Nginx), None, "too few");
        let cut = &old.words[..old.words.len() - 1];
        assert_eq!(merge(cut, old.shape, &members(0..40), &members(0..41), HashId::Nginx), None, "a word is missing");
        let mut backwards = old.words.clone();
        backwards[..512].reverse();
        assert_eq!(merge(&backwards, old.shape, &members(0..40), &members(0..41), HashId::Nginx), None);
    }
}
