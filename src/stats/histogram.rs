//! Buckets of times: whole milliseconds below 16, and above that eight buckets an octave. So the middle of a bucket is within 6.3 % of
//! each time in it. Times of 2^20 ms and more share the last bucket.
//!
//! The shape is that of HdrHistogram with three bits of precision (Gil Tene, hdrhistogram.org).

/// Times below this one have a bucket each.
const EXACT: u32 = 16;
/// Buckets of an octave.
const OF_OCTAVE: usize = 8;
/// The first octave of several times a bucket, as a power of two.
const FIRST_OCTAVE: u32 = EXACT.ilog2();
/// Times from this power of two on are in the last bucket.
const LAST_OCTAVE: u32 = 20;
/// The bucket of the longest times.
const LAST: usize = EXACT as usize + (LAST_OCTAVE - FIRST_OCTAVE) as usize * OF_OCTAVE;

/// How many buckets there are.
pub const BUCKETS: usize = LAST + 1;

/// The bucket of a time in milliseconds.
///
/// ```
/// use dyups::stats::histogram::{bucket, last_of};
/// assert_eq!((bucket(7), bucket(16), bucket(17), bucket(18)), (7, 16, 16, 17));
/// assert_eq!(last_of(bucket(17)), Some(17));
/// ```
pub fn bucket(ms: u32) -> usize {
    if ms < EXACT {
        return ms as usize;
    }
    let octave = ms.ilog2();
    if octave >= LAST_OCTAVE {
        return LAST;
    }
    let part = (ms >> (octave - OF_OCTAVE.ilog2())) as usize % OF_OCTAVE;
    EXACT as usize + (octave - FIRST_OCTAVE) as usize * OF_OCTAVE + part
}

/// The least time in a bucket.
pub fn first_of(bucket: usize) -> u32 {
    match bucket.checked_sub(EXACT as usize) {
        None => bucket as u32,
        Some(above) => {
            let octave = FIRST_OCTAVE + (above / OF_OCTAVE) as u32;
            (1 << octave) + ((above % OF_OCTAVE) as u32) * (1 << (octave - OF_OCTAVE.ilog2()))
        }
    }
}

/// The greatest time in a bucket; `None`: the last one has none.
pub fn last_of(bucket: usize) -> Option<u32> {
    (bucket < LAST).then(|| first_of(bucket + 1) - 1)
}

/// The time that a share of all times does not exceed, in milliseconds: the middle of its bucket. `None`: there are no times.
///
/// # Arguments
///
/// - `counts`: the times in each bucket
/// - `share`: 0 to 1, such as 0.99
///
/// # Example
///
/// ```
/// use dyups::stats::histogram::{BUCKETS, bucket, quantile};
/// let mut counts = [0; BUCKETS];
/// (1..=9).for_each(|ms| counts[bucket(ms)] += 1);
/// assert_eq!((quantile(&counts, 0.5), quantile(&counts, 1.0)), (Some(5.0), Some(9.0)));
/// ```
pub fn quantile(counts: &[u64; BUCKETS], share: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    // The nearest rank.
    let rank = ((all as f64 * share).ceil() as u64).clamp(1, all);
    let mut below = 0;
    let found = counts.iter().position(|count| {
        below += count;
        below >= rank
    })?;
    let first = f64::from(first_of(found));
    Some(last_of(found).map_or(first, |last| (first + f64::from(last)) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_one_another_and_each_has_its_times() {
        for at in 0..LAST {
            let (first, last) = (first_of(at), last_of(at).expect("not the last"));
            assert!(first <= last && bucket(first) == at && bucket(last) == at, "{at}: {first} to {last}");
            assert_eq!(first_of(at + 1), last + 1);
        }
        assert_eq!((first_of(LAST), bucket(u32::MAX), last_of(LAST)), (1 << LAST_OCTAVE, LAST, None));
        assert_eq!(BUCKETS, 145);
    }

    /// The time with the nearest rank.
    fn exact(times: &mut [u32], share: f64) -> f64 {
        times.sort_unstable();
        let rank = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len());
        times[rank - 1].into()
    }

    fn is_near(times: &mut [u32]) {
        let mut counts = [0; BUCKETS];
        times.iter().for_each(|&ms| counts[bucket(ms)] += 1);
        for share in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let (exact, found) = (exact(times, share), quantile(&counts, share).expect("some"));
            let most = if exact < 16.0 { 0.0 } else { exact * 0.063 };
            assert!((found - exact).abs() <= most, "{share}: {found} for {exact}");
        }
    }

    proptest! {
        #[test]
        fn percentiles_of_any_times_are_within_6_3_percent_and_exact_below_16(
            mut times in prop::collection::vec(prop_oneof![0u32..20, 0u32..3000, 0u32..1 << 20], 1..500),
        ) {
            is_near(&mut times);
        }
    }

    #[test]
    fn percentiles_of_three_shapes_are_within_6_3_percent() {
        let mut even: Vec<u32> = (0..10_000).collect();
        // Most are fast and few very slow; and two humps, as of a cache.
        let mut tail: Vec<u32> = (1..=10_000u32).map(|nth| 500_000 / nth).collect();
        let mut humps: Vec<u32> =
            (0..10_000u32).map(|nth| if nth % 10 == 0 { 900 + nth % 97 } else { nth % 5 }).collect();
        is_near(&mut even);
        is_near(&mut tail);
        is_near(&mut humps);
    }
}
