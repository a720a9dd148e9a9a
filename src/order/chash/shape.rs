//! How large a ring is, and where its parts lie.

use super::points::POINTS_PER_WEIGHT;
use crate::error::{Error, Result};
use crate::upstream::MAX_PEERS;

/// Most points of a ring: 16,777,216, a total weight of 104,857, 84 MB.
pub const MAX_RING_POINTS: usize = 1 << 24;

/// Bits that a peer index may need, and so the fewest that [`RingShape::bits`] has to have room for.
const MAX_BITS: u32 = 22;
const _: () = assert!(MAX_PEERS <= 1 << MAX_BITS && (MAX_RING_POINTS / 3).ilog2() <= MAX_BITS);

/// How many points a total weight makes.
///
/// # Errors
///
/// [`Code::Invalid`](crate::error::Code::Invalid) for more than [`MAX_RING_POINTS`].
///
/// ```
/// use dyups::order::chash::ring_points;
///
/// assert_eq!(ring_points(10_000), Ok(1_600_000));
/// assert_eq!(
///     ring_points(200_000).unwrap_err().to_string(),
///     "chash: a total weight of 200000 makes 32000000 ring points: at most 16777216 (a total weight of 104857)"
/// );
/// ```
pub fn ring_points(total_weight: u64) -> Result<usize> {
    let points = u128::from(total_weight) * POINTS_PER_WEIGHT as u128;
    if points <= MAX_RING_POINTS as u128 {
        return Ok(points as usize);
    }
    Err(Error::invalid(format!(
        "chash: a total weight of {total_weight} makes {points} ring points: at most {MAX_RING_POINTS} (a total weight \
         of {})",
        MAX_RING_POINTS / POINTS_PER_WEIGHT
    )))
}

/// The numbers that reading a ring's words needs. The default is the shape of no ring at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RingShape {
    /// N: the number of its points, at most [`MAX_RING_POINTS`]; 0 for a ring without members.
    pub points: u32,
    /// b: top bits of a hash that are its bucket, and bits of a peer index; 1 to 22.
    pub bits: u8,
}

impl RingShape {
    /// The shape for so many points, when no peer index is above `max_index`.
    ///
    /// 2^b is N/6 to N/3; more when the indexes need more bits, as when few of many peers take traffic. Both fit: b goes
    /// up to 22, an index of at most [`MAX_PEERS`] needs 18.
    pub(super) fn new(points: usize, max_index: u32) -> RingShape {
        let for_points = (points / 3).checked_ilog2().unwrap_or(0);
        let for_index = u32::BITS - max_index.leading_zeros();
        RingShape { points: points as u32, bits: for_points.max(for_index).max(1) as u8 }
    }

    /// Whether a ring may have this shape; for a shape that was read from somewhere.
    #[inline]
    pub fn is_sound(self) -> bool {
        self.points as usize <= MAX_RING_POINTS && 1 <= self.bits && u32::from(self.bits) <= MAX_BITS
    }

    /// How many words the ring takes: 2^(b-1) + 1 for the starts, N/2 for the points. Right for a
    /// [sound](RingShape::is_sound) shape; for another it is some number.
    #[inline]
    pub fn words(self) -> usize {
        self.first_point_word() + (self.points as usize).div_ceil(2)
    }

    /// Where the points begin. `bits` may be anything; it is at least 1.
    #[inline]
    pub(super) fn first_point_word(self) -> usize {
        (1 << ((u32::from(self.bits).wrapping_sub(1)) & 31)) + 1
    }

    /// Where the seal is. For a [sound](RingShape::is_sound) shape.
    pub(super) fn seal_half(self) -> usize {
        (1 << self.bits) + 1
    }
}
