//! Weighted rendezvous hashing: each key goes to the choice that scores highest for it. A change of weights moves only keys between the
//! choices whose shares change, and a choice that is gone leaves its keys to the others. David G. Thaler and Chinya V. Ravishankar, "Using
//! name-based mappings to increase hit rates" (1998); the scores by weight are those of Jason Resch, "New hashing algorithms for data
//! storage" (2015).

/// The hash of a key, or of the name of a choice: FNV-1a, and then a mixing in which each bit of it counts.
pub fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// The score of a choice for a key, by their hashes. Of several choices, the one with the highest score has the key. 0: never.
pub fn score(key: u64, choice: u64, weight: u32) -> f64 {
    // In (0, 1): the middles of 2^52 parts, which a float has exactly.
    let part = ((mix(key ^ choice.rotate_left(32)) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
    f64::from(weight) / -part.ln()
}

/// The last step of splitmix64: Guy L. Steele Jr., Doug Lea and Christine H. Flood, "Fast splittable pseudorandom number generators"
/// (2014).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn choose(key: u64, choices: &[(u64, u32)]) -> usize {
        let scores = choices.iter().map(|&(choice, weight)| score(key, choice, weight));
        let best = scores.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).expect("a choice");
        best.0
    }

    fn keys() -> impl Iterator<Item = u64> {
        (0..100_000).map(|i| hash(format!("user-{i}").as_bytes()))
    }

    fn shares(choices: &[(u64, u32)]) -> Vec<f64> {
        let mut counts = vec![0u32; choices.len()];
        keys().for_each(|key| counts[choose(key, choices)] += 1);
        counts.iter().map(|&count| f64::from(count) / 1000.0).collect()
    }

    #[test]
    fn of_100_000_keys_each_choice_has_its_share_within_half_a_point() {
        let [blue, green, red] = ["blue", "green", "red"].map(|name| hash(name.as_bytes()));
        for choices in [
            &[(blue, 90), (green, 10)][..],
            &[(blue, 50), (green, 50)],
            &[(blue, 1), (green, 2), (red, 1)],
            &[(blue, 65535), (green, 655), (red, 0)],
        ] {
            let total: u32 = choices.iter().map(|choice| choice.1).sum();
            for (share, choice) in shares(choices).iter().zip(choices) {
                let wanted = 100.0 * f64::from(choice.1) / f64::from(total);
                assert!((share - wanted).abs() < 0.5, "{choices:?}: {share} in place of {wanted}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn a_key_moves_only_to_a_choice_that_gained_or_from_one_that_lost(
            names in prop::collection::vec(any::<u64>(), 2..6),
            weights in prop::collection::vec((1u32..1000, 0u32..1000), 6),
        ) {
            // The first choice alone changes.
            let old: Vec<_> = names.iter().zip(&weights).map(|(&name, weights)| (name, weights.0)).collect();
            let mut new = old.clone();
            new[0].1 = weights[0].1;
            for key in keys().take(2000) {
                let (from, to) = (choose(key, &old), choose(key, &new));
                prop_assert!(from == to || from == 0 && new[0].1 < old[0].1 || to == 0 && new[0].1 > old[0].1);
            }
        }
    }
}
