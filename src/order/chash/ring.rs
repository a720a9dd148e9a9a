//! The sorted points, packed into 64-bit words for shared memory.
//!
//! With N points and b bits ([`RingShape`]), the words hold 32-bit halves, the low half first:
//!
//! ```text
//! starts   2^b + 1 halves    starts[k]: how many points have top b hash bits below k; starts[2^b] is N
//! seal     1 half            checksum of all other words
//! points   N halves          high 32 - b bits: the rest of the hash; low b bits: peer index
//!          0 or 1 padding    sorted by (hash, peer index)
//! ```
//!
//! So the top bits of a hash are its bucket and are kept once, for 3 to 6 points. A ring takes about 5 bytes a point in
//! place of 8, and a search touches two or three cache lines.

use super::points::Base;
use super::search::{Words, half};
use super::shape::{RingShape, ring_points};
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::upstream::{Address, HashId, MAX_PEERS};

/// A ring that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// How to read the words.
    pub shape: RingShape,
    /// The points; [`RingShape::words`] of them.
    pub words: Vec<u64>,
}

/// The shape of the ring that [`build`] makes of members with these indexes and weights: how large it will be.
///
/// # Errors
///
/// As [`build`].
pub fn shape_of(members: impl Iterator<Item = (u32, u16)>) -> Result<RingShape> {
    let (weight, max_index) =
        members.fold((0, 0), |(sum, max), (index, weight)| (sum + u64::from(weight), index.max(max)));
    let points = ring_points(weight)?;
    if max_index as usize >= MAX_PEERS {
        return Err(Error::invalid(format!("chash: peer index {max_index}: at most {}", MAX_PEERS - 1)));
    }
    Ok(RingShape::new(points, max_index))
}

impl Ring {
    /// With its seal, which is 0 in `words`.
    pub(super) fn sealed(shape: RingShape, mut words: Vec<u64>) -> Ring {
        if let Some(seal) = seal(&words, shape) {
            set_half(&mut words, shape.seal_half(), seal);
        }
        Ring { shape, words }
    }
}

/// The right seal of a ring. `None`: the words are not those of a ring of this shape.
pub fn seal<W: Words + ?Sized>(words: &W, shape: RingShape) -> Option<u32> {
    let points_at = shape.first_point_word();
    let copy = |first: usize| move |from: usize, out: &mut [u64]| words.copy(first + from, out).ok_or(());
    let starts = Checksum::default().and_copied(points_at - 1, copy(0)).ok()?;
    let all = starts.and(&[shape.points.into()]).and_copied(shape.words() - points_at, copy(points_at)).ok()?;
    Some(all.value())
}

/// Whether the words are those that the ring was made of.
pub fn is_sealed<W: Words + ?Sized>(words: &W, shape: RingShape) -> bool {
    let half = |at| half(words, at);
    shape.is_sound() && half(1 << shape.bits) == Some(shape.points) && half(shape.seal_half()) == seal(words, shape)
}

/// Builds the ring of `members`: (peer index, address, weight), in any order; weight 0 has no points.
///
/// Of points with one hash the one of the smallest index comes first, as when nginx has the peers in the order of their
/// indexes. Takes N·8 bytes beside the result while it runs.
///
/// # Errors
///
/// [`Code::Invalid`](crate::error::Code::Invalid): more than [`MAX_RING_POINTS`](super::MAX_RING_POINTS) points, or an index that is not below
/// [`MAX_PEERS`].
pub fn build(members: &[(u32, &Address, u16)], hash_id: HashId) -> Result<Ring> {
    let members: Vec<Member> = members
        .iter()
        .map(|&(index, address, weight)| Member { index, base: Base::of(address, hash_id), weight })
        .collect();
    build_of(&members)
}

/// A peer as the ring sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) index: u32,
    pub(super) base: Base,
    pub(super) weight: u16,
}

pub(super) fn build_of(members: &[Member]) -> Result<Ring> {
    let shape = shape_of(members.iter().map(|member| (member.index, member.weight)))?;
    let mut builder = Builder::new(shape);
    let (points, ends) = scatter(members, shape.points as usize, builder.part_bits);
    let mut from = 0;
    for (part, &end) in ends.iter().enumerate() {
        builder.add(part, from, &points[from..end as usize]);
        from = end as usize;
    }
    Ok(builder.finish())
}

/// Bits of a hash that tell points apart in a first pass. They are so few that every part has its cache line at hand. They are
/// so many that a part, 50 KB of a ring of 10,000 peers, is then sorted within the cache.
const PART_BITS: u32 = 8;

/// All points, as hash and index in one number, in parts by their top `part_bits` bits; and where each part ends.
///
/// Making the points twice, once to count them, is a tenth of the time of a ring, and saves their memory.
fn scatter(members: &[Member], count: usize, part_bits: u32) -> (Vec<u64>, Vec<u32>) {
    let part = |point: u32| (u64::from(point) >> (u32::BITS - part_bits)) as usize;
    let mut places = vec![0u32; 1 << part_bits];
    for member in members {
        member.base.points(member.weight).for_each(|point| places[part(point)] += 1);
    }
    starts_of(&mut places);
    let mut points = vec![0; count];
    for member in members {
        member.base.points(member.weight).for_each(|point| {
            let place = &mut places[part(point)];
            points[*place as usize] = u64::from(point) << 32 | u64::from(member.index);
            *place += 1;
        });
    }
    (points, places)
}

/// Turns counts into where each begins when all lie behind each other; answers the largest count.
fn starts_of(counts: &mut [u32]) -> u32 {
    let (mut at, mut largest) = (0, 0);
    for count in counts {
        largest = largest.max(*count);
        at += std::mem::replace(count, at);
    }
    largest
}

/// Bits by which buckets are finer for sorting than in the ring. Then most have one point at most, and fewer comparisons are
/// left, all of them mispredicted branches. A ring of 10,000 peers takes 17 ms instead of 21.
const FINER_BITS: u32 = 2;

/// Sorts part after part, and packs the sorted points.
struct Builder {
    shape: RingShape,
    words: Vec<u64>,
    part_bits: u32,
    /// The part at hand: where the next point of each of its buckets goes, and the sorted points.
    places: Vec<u32>,
    sorted: Vec<u64>,
}

impl Builder {
    fn new(shape: RingShape) -> Self {
        let part_bits = PART_BITS.min(u32::from(shape.bits));
        let places = vec![0; 1 << (u32::from(shape.bits) + FINER_BITS - part_bits)];
        Builder { shape, words: vec![0; shape.words()], part_bits, places, sorted: Vec::new() }
    }

    /// The `points` of a part, of which the first is the `from`th of the ring.
    fn add(&mut self, part: usize, from: usize, points: &[u64]) {
        let largest = self.spread(points, part * (self.places.len() >> FINER_BITS), from);
        if largest <= MOST_TO_INSERT {
            insertion_sort(&mut self.sorted);
        } else {
            // Chance does not make such a bucket; many peers of one CRC do.
            self.sorted.sort_unstable();
        }
        let first_half = 2 * self.shape.first_point_word() + from;
        for (at, &point) in self.sorted.iter().enumerate() {
            let hash = (point >> 32) as u32;
            set_half(&mut self.words, first_half + at, hash << self.shape.bits | point as u32);
        }
    }

    /// Puts the points of a part into `sorted`, bucket by bucket, and says where each bucket begins. Answers the size
    /// of the largest.
    fn spread(&mut self, points: &[u64], first_bucket: usize, from: usize) -> u32 {
        let (bits, mask) = (u32::from(self.shape.bits) + FINER_BITS, self.places.len() - 1);
        let bucket = |point: u64| (point >> (u64::BITS - bits)) as usize & mask;
        self.places.fill(0);
        points.iter().for_each(|&point| self.places[bucket(point)] += 1);
        let largest = starts_of(&mut self.places);
        for (at, &place) in self.places.iter().step_by(1 << FINER_BITS).enumerate() {
            set_half(&mut self.words, first_bucket + at, from as u32 + place);
        }
        self.sorted.resize(points.len(), 0);
        for &point in points {
            let place = &mut self.places[bucket(point)];
            self.sorted[*place as usize] = point;
            *place += 1;
        }
        largest
    }

    fn finish(mut self) -> Ring {
        set_half(&mut self.words, 1 << self.shape.bits, self.shape.points);
        Ring::sealed(self.shape, self.words)
    }
}

/// Largest bucket that insertion sort gets: it takes the square of that many steps.
const MOST_TO_INSERT: u32 = 32;

/// Sorts points that are nearly sorted: each is at most a bucket's size from its place.
fn insertion_sort(points: &mut [u64]) {
    for end in 1..points.len() {
        let point = points[end];
        let mut at = end;
        while at > 0 && points[at - 1] > point {
            points[at] = points[at - 1];
            at -= 1;
        }
        points[at] = point;
    }
}

/// Sets a half that is 0.
pub(super) fn set_half(words: &mut [u64], half: usize, value: u32) {
    words[half / 2] |= u64::from(value) << (32 * (half % 2));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::chash::MAX_RING_POINTS;
    use proptest::prelude::*;

    #[test]
    fn a_seal_is_broken_by_any_word() {
        for members in [of_one_base(1), of_one_base(4)] {
            let ring = build_of(&members).unwrap();
            assert!(is_sealed(&ring.words, ring.shape));
            for at in 0..ring.words.len() {
                let mut spoilt = ring.clone();
                spoilt.words[at] ^= 1 << (at % 64);
                assert!(!is_sealed(&spoilt.words, ring.shape), "word {at}");
            }
            for shape in
                [RingShape { points: ring.shape.points - 1, ..ring.shape }, RingShape { bits: 255, ..ring.shape }]
            {
                assert!(!is_sealed(&ring.words, shape));
            }
        }
    }

    /// A bucket that is longer than [`MOST_TO_INSERT`], and points that differ in the peer alone.
    fn of_one_base(count: u32) -> Vec<Member> {
        let member = |index| Member { index, base: Base::nginx(b"10.0.0.1"), weight: 1 };
        (0..count).rev().map(member).collect()
    }

    fn half(ring: &Ring, half: usize) -> u32 {
        (ring.words[half / 2] >> (32 * (half % 2))) as u32
    }

    /// Reads the points back as (hash, index), from the layout that the head of this file describes.
    fn unpacked(ring: &Ring) -> Vec<(u32, u32)> {
        let bits = u32::from(ring.shape.bits);
        let first_point = (1 << bits) + 2;
        let mut points = Vec::new();
        for bucket in 0..1 << bits {
            for at in half(ring, bucket)..half(ring, bucket + 1) {
                let point = half(ring, first_point + at as usize);
                points.push(((bucket as u32) << (32 - bits) | point >> bits, point & ((1 << bits) - 1)));
            }
        }
        points
    }

    fn sorted(members: &[Member]) -> Vec<(u32, u32)> {
        let of = |member: &Member| {
            let index = member.index;
            member.base.points(member.weight).map(move |point| (point, index)).collect::<Vec<_>>()
        };
        let mut points: Vec<_> = members.iter().flat_map(of).collect();
        points.sort_unstable();
        points
    }

    fn check(members: &[Member]) {
        let ring = build_of(members).unwrap();
        let points = sorted(members);
        assert!(ring.shape.is_sound());
        assert_eq!(ring.shape.points as usize, points.len());
        assert_eq!(ring.shape.words(), ring.words.len());
        assert_eq!(half(&ring, 0), 0);
        assert_eq!(half(&ring, 1 << ring.shape.bits), ring.shape.points);
        assert!(is_sealed(&ring.words, ring.shape));
        assert!(unpacked(&ring) == points);
    }

    proptest! {
        #[test]
        fn holds_all_points_sorted(
            weights in prop::collection::vec((0u32..200, 0u16..4), 0..40), far in 0u32..3,
        ) {
            let mut index = 0;
            let members: Vec<Member> = weights.iter().map(|&(gap, weight)| {
                index += 1 + gap * far * 10;
                Member { index, base: Base::host_port(&index.to_le_bytes()), weight }
            }).collect();
            check(&members);
        }
    }

    #[test]
    fn peers_of_one_crc_are_sorted_by_index() {
        check(&of_one_base(100));
    }

    #[test]
    fn the_largest_index_fits() {
        let mut members = of_one_base(1);
        members[0].index = MAX_PEERS as u32 - 1;
        check(&members);
        members[0].index += 1;
        assert_eq!(build_of(&members).unwrap_err().to_string(), "chash: peer index 262144: at most 262143");
    }

    #[test]
    fn a_ring_of_nobody() {
        for members in [vec![], vec![Member { weight: 0, ..of_one_base(1)[0] }]] {
            check(&members);
        }
    }

    #[test]
    fn takes_about_five_bytes_a_point() {
        for peers in [1, 3, 10, 100, 1_000, 10_000, 100_000] {
            let shape = RingShape::new(160 * peers, peers as u32 - 1);
            let bytes = 8.0 * shape.words() as f64 / shape.points as f64;
            assert!((4.0..5.5).contains(&bytes), "{peers}: {bytes}");
        }
        assert_eq!(RingShape::new(MAX_RING_POINTS, 0).bits, 22);
    }

    #[test]
    fn too_large_a_ring_is_refused_before_it_takes_memory() {
        let members: Vec<Member> =
            (0..2).map(|index| Member { weight: u16::MAX, index, ..of_one_base(1)[0] }).collect();
        assert_eq!(build_of(&members).unwrap_err(), ring_points(131_070).unwrap_err());
        assert!(ring_points(104_857).is_ok() && ring_points(104_858).is_err() && ring_points(u64::MAX).is_err());
    }

    #[test]
    fn a_shape_of_nonsense_is_not_sound() {
        for (points, bits) in [(160, 0), (160, 23), (160, 255), (MAX_RING_POINTS as u32 + 1, 5), (u32::MAX, 0)] {
            let shape = RingShape { points, bits };
            assert!(!shape.is_sound());
            // Some number, no overflow.
            shape.words();
        }
    }
}
