//! The turns of the round robin among peers of any set. `W` is the weight of the set, and turn `c` goes to its number `c * s mod W`.

/// The step from turn to turn of the round robin, among the numbers below `total`. It is near the golden part of it, so that
/// any few turns in a row are spread evenly. It has no common divisor, so that each number has a turn.
pub fn step(total: u64) -> u64 {
    let golden = ((u128::from(total) * 0x9e37_79b9_7f4a_7c15) >> 64) as u64;
    (golden.max(1)..).find(|&step| gcd(step, total) == 1).unwrap_or(1)
}

/// The number of turn `count`; `total` is not 0.
pub fn turn(count: u64, total: u64, step: u64) -> u64 {
    let (count, step) = (count % total, step % total);
    match count.checked_mul(step) {
        Some(product) => product % total,
        None => (u128::from(count) * u128::from(step) % u128::from(total)) as u64,
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_number_has_one_turn_in_a_cycle(total in 1u64..2000, from: u64) {
            let step = step(total);
            let mut seen = vec![false; total as usize];
            let from = from % (1 << 50);
            (from..from + total).for_each(|count| seen[turn(count, total, step) as usize] = true);
            prop_assert!(seen.iter().all(|&seen| seen));
        }
    }

    #[test]
    fn turns_of_a_very_heavy_set_do_not_overflow() {
        let total = 100_000 * 65_535;
        let step = step(total);
        let wanted = u128::from(u64::MAX % total) * u128::from(step) % u128::from(total);
        assert_eq!(u128::from(turn(u64::MAX, total, step)), wanted);
    }
}
