//! From a key's hash to a peer.
//!
//! The words are shared memory, so nothing in them is trusted. A search does a bounded number of steps, and never looks outside
//! of the bounds of its [`RingShape`]. It reports damage where it can tell. Any other nonsense gives a wrong peer index, which
//! the caller checks against its number of peers.

use super::points::Base;
use super::shape::RingShape;

/// Where the words of a ring are read from.
///
/// ```
/// use dyups::order::chash::Words;
///
/// let words = vec![7, 8];
/// assert_eq!((words.word(1), words.word(2)), (Some(8), None));
/// ```
pub trait Words {
    /// The word at `index`. `None`: there is none, so the ring is damaged: it does not have the shape that it claims.
    fn word(&self, index: usize) -> Option<u64>;

    /// Copies the words from `index` on into `out`. `None` as for [`Words::word`]; then `out` may hold some of them.
    fn copy(&self, index: usize, out: &mut [u64]) -> Option<()> {
        (index..).zip(out).try_for_each(|(index, out)| self.word(index).map(|word| *out = word))
    }
}

impl Words for [u64] {
    #[inline]
    fn word(&self, index: usize) -> Option<u64> {
        self.get(index).copied()
    }

    fn copy(&self, index: usize, out: &mut [u64]) -> Option<()> {
        out.copy_from_slice(self.get(index..)?.get(..out.len())?);
        Some(())
    }
}

impl Words for Vec<u64> {
    #[inline]
    fn word(&self, index: usize) -> Option<u64> {
        self.as_slice().word(index)
    }

    fn copy(&self, index: usize, out: &mut [u64]) -> Option<()> {
        self.as_slice().copy(index, out)
    }
}

/// The most points that [`pick`] walks. The tried and failed peers of a request have so many points in a row only if the usable
/// ones have next to none. Then these are few enough for [`pick_without_ring`].
pub const MAX_WALK: u32 = 4096;

/// The points that are looked at one by one. A bucket has 3 to 6, and hardly ever more than 20. A longer one is halved first.
/// So a search takes at most 30 steps more, in any region.
const SCANNED: u32 = 16;

/// The result of a walk over the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This peer, by its index.
    Peer(u32),
    /// The whole ring was walked, and no point belongs to a usable peer.
    Nobody,
    /// [`MAX_WALK`] points in a row belong to peers that are not usable. [`pick_without_ring`] over the usable ones gives the
    /// answer of a longer walk. It costs 160 steps a unit of their weight, and that is small. Were only one in 200 of the
    /// points usable, a walk of this length would miss them once in 800 million.
    TooFar,
    /// The words or the shape are not those of a ring.
    Damaged,
}

/// The peer that a key's `hash` belongs to: of the first point at or after it whose peer is usable.
///
/// `usable` is asked for each point that is walked over, so mostly once. It gets an index from the ring, which is only as good
/// as the ring. A peer that is not usable moves no keys but its own.
///
/// ```
/// use dyups::upstream::HashId;
/// use dyups::order::chash::{Pick, build, pick};
/// use dyups::upstream::Address;
///
/// let address = Address::from_server("10.0.0.1").unwrap();
/// let ring = build(&[(5, &address, 1)], HashId::Nginx).unwrap();
/// assert_eq!(pick(&ring.words, ring.shape, 42, |_| true), Pick::Peer(5));
/// assert_eq!(pick(&ring.words, ring.shape, 42, |_| false), Pick::Nobody);
/// assert_eq!(pick(&vec![], ring.shape, 42, |_| true), Pick::Damaged);
/// ```
#[inline]
pub fn pick<W: Words + ?Sized>(words: &W, shape: RingShape, hash: u32, mut usable: impl FnMut(u32) -> bool) -> Pick {
    if shape.points == 0 {
        return Pick::Nobody;
    }
    let Some(position) = successor(words, shape, hash) else { return Pick::Damaged };
    match peer_at(words, shape, position) {
        Some(index) if usable(index) => Pick::Peer(index),
        Some(_) => walk(words, shape, position, usable),
        None => Pick::Damaged,
    }
}

/// On from a point whose peer is not usable.
#[cold]
fn walk<W: Words + ?Sized>(
    words: &W,
    shape: RingShape,
    mut position: u32,
    mut usable: impl FnMut(u32) -> bool,
) -> Pick {
    for _ in 1..shape.points.min(MAX_WALK) {
        position = if position + 1 < shape.points { position + 1 } else { 0 };
        match peer_at(words, shape, position) {
            Some(index) if usable(index) => return Pick::Peer(index),
            Some(_) => {}
            None => return Pick::Damaged,
        }
    }
    if shape.points <= MAX_WALK { Pick::Nobody } else { Pick::TooFar }
}

/// The position, 0 to N - 1, of the first point at or after `hash`; 0 if there is none after it.
///
/// `None`: the words or the shape are not those of a ring, or of one without points.
#[inline]
pub fn successor<W: Words + ?Sized>(words: &W, shape: RingShape, hash: u32) -> Option<u32> {
    if !shape.is_sound() || shape.points == 0 {
        return None;
    }
    let bucket = (hash >> (u32::BITS - u32::from(shape.bits))) as usize;
    let (mut low, mut high) = (half(words, bucket)?, half(words, bucket + 1)?);
    if low > high || high > shape.points {
        return None;
    }
    // Where a point of this very hash and of peer 0 would be.
    let sought = hash << shape.bits;
    while high - low > SCANNED {
        let middle = low + (high - low) / 2;
        if point(words, shape, middle)? < sought {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    while low < high && point(words, shape, low)? < sought {
        low += 1;
    }
    // Nothing in this bucket: the first point of those behind it, and behind the last is the first.
    Some(if low < shape.points { low } else { 0 })
}

/// The peer index of the point at `position`, below 2^[`bits`](RingShape::bits).
///
/// `None`: there is no such position, or the words or the shape are not those of a ring.
#[inline]
pub fn peer_at<W: Words + ?Sized>(words: &W, shape: RingShape, position: u32) -> Option<u32> {
    if !shape.is_sound() || position >= shape.points {
        return None;
    }
    Some(point(words, shape, position)? & ((1 << shape.bits) - 1))
}

#[inline]
fn point<W: Words + ?Sized>(words: &W, shape: RingShape, position: u32) -> Option<u32> {
    half(words, 2 * shape.first_point_word() + position as usize)
}

#[inline]
pub(super) fn half<W: Words + ?Sized>(words: &W, half: usize) -> Option<u32> {
    Some((words.word(half / 2)? >> (32 * (half % 2))) as u32)
}

/// The answer of [`pick`] on the ring of `members`, found without a ring. It takes 160 steps a unit of weight of the usable
/// ones, and no memory. It is for an upstream whose ring is not built yet, and where [`pick`] would walk too far.
///
/// `members` are (peer index, base of its points, weight), in any order. `None`: none of those with weight is usable.
///
/// ```
/// use dyups::order::chash::{Base, pick_without_ring};
///
/// let members = [(0, Base::nginx(b"10.0.0.1:80"), 1), (1, Base::nginx(b"10.0.0.2:80"), 1)];
/// let owner = pick_without_ring(members, 42, |_| true).unwrap();
/// assert_eq!(pick_without_ring(members, 42, |index| index != owner), Some(1 - owner));
/// assert_eq!(pick_without_ring(members, 42, |_| false), None);
/// ```
pub fn pick_without_ring(
    members: impl IntoIterator<Item = (u32, Base, u16)>,
    hash: u32,
    mut usable: impl FnMut(u32) -> bool,
) -> Option<u32> {
    members
        .into_iter()
        .filter(|&(index, _, weight)| weight > 0 && usable(index))
        // How far behind the key the peer's next point is; of points with one hash the smallest index is first.
        .filter_map(|(index, base, weight)| {
            Some((base.points(weight).map(|point| point.wrapping_sub(hash)).min()?, index))
        })
        .min()
        .map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::chash::ring::{Member, Ring, build_of};
    use proptest::prelude::*;

    fn member(index: u32, weight: u16) -> Member {
        Member { index, base: Base::nginx(format!("10.0.0.{index}:80").as_bytes()), weight }
    }

    /// Peers with gaps in their indexes, some of them with the points of their neighbour.
    fn some_members() -> impl Strategy<Value = Vec<Member>> {
        prop::collection::vec((1u32..5, 0u16..4, prop::bool::weighted(0.1)), 1..30).prop_map(|peers| {
            let mut members: Vec<Member> = Vec::new();
            for (gap, weight, twin) in peers {
                let mut new = member(members.last().map_or(0, |last| last.index + gap), weight);
                if let (true, Some(last)) = (twin, members.last()) {
                    new.base = last.base;
                }
                members.push(new);
            }
            members
        })
    }

    fn sorted(members: &[Member]) -> Vec<(u32, u32)> {
        let mut points = Vec::new();
        for member in members {
            member.base.points(member.weight).for_each(|point| points.push((point, member.index)));
        }
        points.sort_unstable();
        points
    }

    /// First point at or after the hash, else the first of all.
    fn naive(points: &[(u32, u32)], hash: u32) -> Option<usize> {
        points.iter().position(|&(point, _)| point >= hash).or((!points.is_empty()).then_some(0))
    }

    fn owner(ring: &Ring, hash: u32) -> Pick {
        pick(&ring.words, ring.shape, hash, |_| true)
    }

    fn without_ring(members: &[Member], hash: u32, usable: impl FnMut(u32) -> bool) -> Option<u32> {
        pick_without_ring(members.iter().map(|member| (member.index, member.base, member.weight)), hash, usable)
    }

    proptest! {
        #[test]
        fn successor_is_the_naive_one(members in some_members(), hashes: Vec<u32>) {
            let (ring, points) = (build_of(&members).unwrap(), sorted(&members));
            // At, right before and right behind points, too.
            let near = points.iter().step_by(97).flat_map(|&(point, _)| [point.wrapping_sub(1), point, point.wrapping_add(1)]);
            for hash in hashes.into_iter().chain(near).chain([0, u32::MAX]) {
                let position = successor(&ring.words, ring.shape, hash);
                prop_assert_eq!(position.map(|position| position as usize), naive(&points, hash));
                if let Some(position) = position {
                    let index = peer_at(&ring.words, ring.shape, position);
                    prop_assert_eq!(index, Some(points[position as usize].1));
                }
            }
            prop_assert_eq!(peer_at(&ring.words, ring.shape, ring.shape.points), None);
        }

    }

    proptest! {
        // Slow in a debug build: 160 steps a unit of weight, a retry and a hash.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn with_or_without_the_ring_it_is_the_same_peer(members in some_members(), hashes: Vec<u32>, down: u64) {
            let ring = build_of(&members).unwrap();
            for hash in hashes {
                // As retries go: each peer that was picked is tried no more, till none is left.
                let mut tried = vec![];
                loop {
                    let usable = |index: u32| down >> (index % 64) & 1 == 0 && !tried.contains(&index);
                    let found = pick(&ring.words, ring.shape, hash, usable);
                    match without_ring(&members, hash, usable) {
                        Some(index) => prop_assert_eq!(found, Pick::Peer(index)),
                        // 90 units of weight at most are 14,400 points, so that a walk may end early.
                        None => prop_assert!(matches!(found, Pick::Nobody | Pick::TooFar)),
                    }
                    let Pick::Peer(index) = found else { break };
                    tried.push(index);
                }
            }
        }

    }

    proptest! {
        #[test]
        fn a_peer_that_leaves_moves_its_own_keys_only(members in some_members(), leaver: prop::sample::Index, hashes: Vec<u32>) {
            let leaver = leaver.get(&members).index;
            let rest: Vec<Member> = members.iter().filter(|member| member.index != leaver).copied().collect();
            let (before, after) = (build_of(&members).unwrap(), build_of(&rest).unwrap());
            for hash in hashes {
                match owner(&before, hash) {
                    // Taken off the ring or passed over on it: the same.
                    Pick::Peer(index) if index == leaver => prop_assert_eq!(
                        pick(&before.words, before.shape, hash, |index| index != leaver),
                        owner(&after, hash)
                    ),
                    stays => prop_assert_eq!(owner(&after, hash), stays),
                }
            }
        }

        #[test]
        fn more_weight_only_takes_keys(members in some_members(), grower: prop::sample::Index, hashes: Vec<u32>) {
            let before = build_of(&members).unwrap();
            let mut grown = members;
            let grower = grower.index(grown.len());
            grown[grower].weight += 1;
            let after = build_of(&grown).unwrap();
            for hash in hashes {
                let now = owner(&after, hash);
                prop_assert!(now == owner(&before, hash) || now == Pick::Peer(grown[grower].index));
            }
        }

        #[test]
        fn any_words_of_any_shape_are_survived(words: Vec<u64>, points: u32, bits: u8, hash: u32) {
            let shape = RingShape { points, bits };
            pick(&words, shape, hash, |_| false);
            successor(&words, shape, hash);
            peer_at(&words, shape, hash);
        }

        #[test]
        fn a_ring_of_noise_is_survived(
            points in 0u32..500, bits in 1u8..7, noise in prop::collection::vec(0u64.., 400), small: bool, hash: u32,
        ) {
            let shape = RingShape { points, bits };
            // Small halves are more often taken for starts.
            let word = |word: &u64| if small { word & 0x1ff_0000_01ff } else { *word };
            let words: Vec<u64> = noise.iter().map(word).collect();
            let mut asked = 0;
            let found = pick(&words, shape, hash, |index| {
                asked += 1;
                assert!(index < 1 << bits);
                false
            });
            prop_assert!(asked <= points);
            prop_assert!(matches!(found, Pick::Nobody | Pick::Damaged));
        }
    }

    #[test]
    fn peers_of_one_crc_are_halved_not_scanned() {
        let members: Vec<Member> = (0..2_000).map(|index| Member { index, ..member(7, 1) }).collect();
        let ring = build_of(&members).unwrap();
        let points = sorted(&members);
        for &(point, _) in points.iter().step_by(2_000) {
            let (index, reads) = counted(&ring, point);
            assert_eq!(index, 0);
            assert!(reads < 40, "{reads} reads");
        }
    }

    /// The owner of a hash, and how many words were read.
    fn counted(ring: &Ring, hash: u32) -> (u32, usize) {
        struct Counting<'a>(&'a [u64], std::cell::Cell<usize>);
        impl Words for Counting<'_> {
            fn word(&self, index: usize) -> Option<u64> {
                self.1.set(self.1.get() + 1);
                self.0.word(index)
            }
        }
        let words = Counting(&ring.words, Default::default());
        let Pick::Peer(index) = pick(&words, ring.shape, hash, |_| true) else { panic!("nobody") };
        (index, words.1.get())
    }

    #[test]
    fn a_search_reads_few_words() {
        let members: Vec<Member> = (0..300).map(|index| member(index, 1)).collect();
        let ring = build_of(&members).unwrap();
        let reads = (0..10_000u32).map(|key| counted(&ring, key.wrapping_mul(0x9e37_79b9)).1);
        let (sum, most) = reads.fold((0, 0), |(sum, most), reads| (sum + reads, most.max(reads)));
        assert!(sum < 70_000 && most < 30, "{sum} in all, {most} at most");
    }

    #[test]
    fn too_far_is_told_and_the_scan_finds_what_a_longer_walk_would() {
        let members = [member(0, 8_000), member(1, 1), member(2, 1)];
        let ring = build_of(&members).unwrap();
        let points = sorted(&members);
        let (mut too_far, mut found) = (0, 0);
        for key in 0..50u32 {
            let hash = crate::order::chash::key_hash(&key.to_le_bytes());
            let usable = |index| index != 0;
            let from = points.partition_point(|&(point, _)| point < hash);
            let (behind, before) = points.split_at(from);
            let expected = before.iter().chain(behind).map(|&(_, index)| index).find(|&index| usable(index));
            assert_eq!(without_ring(&members, hash, usable), expected);
            match pick(&ring.words, ring.shape, hash, usable) {
                Pick::TooFar => too_far += 1,
                pick => {
                    found += 1;
                    assert_eq!(Some(pick), expected.map(Pick::Peer));
                }
            }
        }
        assert!(too_far > 0 && found > 0);
    }

    #[test]
    fn a_ring_cut_short_is_damaged() {
        let ring = build_of(&[member(0, 1), member(1, 2)]).unwrap();
        let short = &ring.words[..ring.words.len() / 2];
        assert_eq!(pick(short, ring.shape, u32::MAX / 4 * 3, |_| true), Pick::Damaged);
        assert_eq!(pick(&Vec::new(), ring.shape, 0, |_| true), Pick::Damaged);
        let nobody = build_of(&[]).unwrap();
        assert_eq!(owner(&nobody, 0), Pick::Nobody);
        assert_eq!(successor(&nobody.words, nobody.shape, 0), None);
        assert_eq!(without_ring(&[], 0, |_| true), None);
    }
}
