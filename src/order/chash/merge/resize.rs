//! The same points under another number of bits: rare, it comes with every doubling.

use crate::order::chash::ring::set_half;
use crate::order::chash::search::{Words, half};
use crate::order::chash::shape::RingShape;

/// The ring in `old` with `bits` for bucket and index; no index may need more. `None`: it is no ring.
pub(super) fn resize<W: Words + ?Sized>(old: &W, from: RingShape, bits: u8) -> Option<(Vec<u64>, RingShape)> {
    let to = RingShape { bits, ..from };
    let (mut words, mut counts) = (vec![0; to.words()], vec![0u32; 1 << bits]);
    let (from_point, to_point) = (2 * from.first_point_word(), 2 * to.first_point_word());
    let (from_mask, to_mask) = ((1 << from.bits) - 1, (1 << bits) - 1);
    let mut start = 0;
    for bucket in 0..1 << from.bits {
        let end = half(old, bucket as usize + 1)?;
        if end < start || end > from.points {
            return None;
        }
        for at in start as usize..end as usize {
            let point = half(old, from_point + at)?;
            let hash = bucket << (u32::BITS - u32::from(from.bits)) | point >> from.bits;
            counts[(hash >> (u32::BITS - u32::from(bits))) as usize] += 1;
            set_half(&mut words, to_point + at, hash << bits | point & from_mask & to_mask);
        }
        start = end;
    }
    let mut before = 0;
    for (bucket, count) in counts.iter().enumerate() {
        set_half(&mut words, bucket, before);
        before += count;
    }
    set_half(&mut words, counts.len(), before);
    (before == from.points).then_some((words, to))
}
