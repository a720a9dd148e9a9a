//! The peers that a pick passes over, among the numbers that lead to peers.

use super::usable::Lot;

/// Peers that a pick passes over, by the numbers that lead to them.
#[derive(Debug)]
pub struct Passed {
    places: [(u64, u64); Passed::MOST],
    len: usize,
    /// Their weight.
    pub weight: u64,
}

impl Passed {
    /// All that a request may have tried, and a few.
    const MOST: usize = 72;

    /// None yet.
    pub fn new() -> Passed {
        Passed { places: [(0, 0); Passed::MOST], len: 0, weight: 0 }
    }

    /// Whether there is room for no more.
    pub fn is_full(&self) -> bool {
        self.len == Passed::MOST
    }

    /// Adds one, if it is not there.
    pub fn add(&mut self, place: Lot) {
        let at = self.places[..self.len].partition_point(|&(from, _)| from < place.from);
        let is_there = self.places[..self.len].get(at).is_some_and(|&(from, _)| from == place.from);
        if is_there || self.is_full() {
            return;
        }
        self.places.copy_within(at..self.len, at + 1);
        self.places[at] = (place.from, place.weight);
        self.len += 1;
        self.weight += place.weight;
    }

    /// The number that is `number` when those of the passed ones are left out.
    pub fn skip(&self, mut number: u64) -> u64 {
        for &(from, weight) in &self.places[..self.len] {
            if number < from {
                break;
            }
            number += weight;
        }
        number
    }
}

impl Default for Passed {
    fn default() -> Self {
        Passed::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_skip_those_that_were_passed(weights in prop::collection::vec(1u64..5, 1..40), passed in prop::collection::vec(any::<prop::sample::Index>(), 0..30)) {
            let starts: Vec<u64> = weights.iter().scan(0, |sum, &weight| { let from = *sum; *sum += weight; Some(from) }).collect();
            let mut skips = Passed::new();
            let mut out = vec![false; weights.len()];
            for index in passed {
                let at = index.index(weights.len());
                out[at] = true;
                skips.add(Lot { rank: 0, from: starts[at], weight: weights[at] });
            }
            let numbers = |at: usize| starts[at]..starts[at] + weights[at];
            let left: Vec<u64> = (0..weights.len()).filter(|&at| !out[at]).flat_map(numbers).collect();
            let total: u64 = weights.iter().sum();
            prop_assert_eq!(left.len() as u64, total - skips.weight);
            prop_assert_eq!((0..left.len() as u64).map(|number| skips.skip(number)).collect::<Vec<_>>(), left);
        }
    }
}
