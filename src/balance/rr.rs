//! nginx's smooth weighted round robin, precomputed.
//!
//! nginx (commit 52327e0627f4, "Upstream: smooth weighted round-robin balancing", described there with {5,1,1}) keeps
//! a current weight a peer. Each pick adds every peer's weight to its current weight, takes the peer with the largest,
//! the first of equals, and takes the sum of all weights off it. The order repeats after sum / gcd picks, so one period
//! of it, indexed by a shared counter, gives every worker nginx's exact order without any state of its own.

/// Longest schedule, in slots of 4 bytes, that weights alone may cause. See [`schedule`] for what happens above it.
pub const MAX_SCHEDULE: usize = 65_536;

/// One period of nginx's order of picks, as peer indexes.
///
/// `weights` are (peer index, weight) in nginx's order of peers: of peers that are due at once, the first goes first. A
/// peer of weight 0 gets no slot. No peers, no slots: the result is empty.
///
/// # Length, and the error of long ones
///
/// With n peers, S their sum of weights divided by the gcd of the weights, and a limit L = max([`MAX_SCHEDULE`], 2n):
/// if S <= L, the schedule has S slots and is exact. Otherwise a peer of weight w, whose exact part of L slots is
/// x = w·L/S, gets round(x) slots, and at least one. So
///
/// - the slots of a peer are off by at most half a slot, or, where x < 1/2, by less than one, in the peer's favour;
/// - equal weights get equal slots, and a larger weight never fewer than a smaller one;
/// - the schedule has at least L − n/2 and less than L + n slots, before these are divided by their own gcd;
/// - a share p = w/S comes out as a share p′ with |p′ − p| <= (1 + p·n) / (L − n/2). For ten peers that is below 0.02 %
///   of the traffic; it grows as n nears L/2, where a peer has hardly more than the one slot that it cannot go below.
///
/// # Cost
///
/// Slots × distinct weights, not slots × peers. Among peers of one weight the picks go round in list order (they grow
/// alike, so the one picked least often leads, and of those the first), so a step compares one leader a weight.
///
/// ```
/// use dyups::balance::rr::schedule;
///
/// let (a, b, c) = (0, 1, 2);
/// assert_eq!(schedule(&[(a, 5), (b, 1), (c, 1)]), [a, a, b, a, c, a, a]);
/// assert_eq!(schedule(&[(a, 300), (b, 300)]), [a, b]);
/// assert!(schedule(&[]).is_empty());
/// ```
pub fn schedule(weights: &[(u32, u16)]) -> Vec<u32> {
    let (peers, mut slots): (Vec<u32>, Vec<u16>) = weights.iter().copied().filter(|&(_, weight)| weight > 0).unzip();
    fit(&mut slots);
    let mut distinct = slots.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() <= 1 {
        return peers;
    }
    Race::new(&slots, &distinct).run(&peers)
}

/// Turns weights into slots: divided by their gcd, and scaled if the sum is above the limit.
fn fit(slots: &mut [u16]) {
    reduce(slots);
    let limit = MAX_SCHEDULE.max(2 * slots.len()) as u64;
    let sum = sum(slots);
    if sum > limit {
        for slot in slots.iter_mut() {
            // Rounded to nearest, each by itself: handing out remainders so that the sum is the limit would be closer
            // in sum, but would part peers of equal weight. Shrinks (limit < sum), so it fits u16.
            *slot = (((2 * u64::from(*slot) * limit + sum) / (2 * sum)) as u16).max(1);
        }
        reduce(slots);
    }
}

fn sum(slots: &[u16]) -> u64 {
    slots.iter().map(|&slot| u64::from(slot)).sum()
}

/// Divides by the greatest common divisor. No slot may be 0.
fn reduce(slots: &mut [u16]) {
    let mut divisor = 0;
    for &slot in slots.iter() {
        divisor = gcd(slot, divisor);
        if divisor == 1 {
            return;
        }
    }
    slots.iter_mut().for_each(|slot| *slot /= divisor);
}

fn gcd(mut a: u16, mut b: u16) -> u16 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// nginx's loop over one leader a distinct weight.
///
/// A leader is one number: its current weight above its place in the list, the place reversed, so that the largest
/// number is the largest current weight and of equals the first in the list.
struct Race {
    /// The leaders, by distinct weight.
    leaders: Vec<i64>,
    /// What a step adds to a leader: its weight.
    steps: Vec<i64>,
    /// By place in the list: what follows when that peer is picked.
    picked: Vec<Picked>,
    /// Bits of a leader that hold its reversed place.
    place_bits: u32,
    /// Steps until all is as in the beginning.
    period: usize,
}

/// The peer at some place was picked: the leader of its weight is now another one.
#[derive(Clone, Copy, Default)]
struct Picked {
    /// Which leader.
    class: u32,
    /// What turns the old leader into the new one: the change of place, and, when the round of this weight is
    /// complete and the new leader is one that was picked once more, the sum that nginx takes off at a pick.
    change: i64,
}

impl Race {
    /// `distinct` is `slots` sorted, each value once.
    fn new(slots: &[u16], distinct: &[u16]) -> Self {
        let place_bits = usize::BITS - slots.len().leading_zeros();
        let total = sum(slots) as i64;
        // The last place seen of each weight while walking the list backwards: the one that follows.
        let mut next: Vec<Option<usize>> = vec![None; distinct.len()];
        let mut last = vec![0; distinct.len()];
        let mut picked = vec![Picked::default(); slots.len()];
        let mut class = 0;
        for (place, slot) in slots.iter().enumerate().rev() {
            // Neighbours are mostly alike.
            if distinct[class] != *slot {
                class = distinct.partition_point(|weight| weight < slot);
            }
            match next[class] {
                Some(follower) => picked[place].change = place as i64 - follower as i64,
                None => last[class] = place,
            }
            picked[place].class = class as u32;
            next[class] = Some(place);
        }
        let first: Vec<usize> = next.into_iter().flatten().collect();
        for (&last, &first) in last.iter().zip(&first) {
            picked[last].change = (last as i64 - first as i64) - (total << place_bits);
        }
        let mask = (1 << place_bits) - 1;
        Race {
            leaders: first.iter().map(|&place| mask - place as i64).collect(),
            steps: distinct.iter().map(|&weight| i64::from(weight) << place_bits).collect(),
            picked,
            place_bits,
            period: total as usize,
        }
    }

    /// One period, in terms of `peers` (by place in the list).
    fn run(self, peers: &[u32]) -> Vec<u32> {
        // An upstream mostly has few distinct weights, and a fixed number of leaders stays in registers.
        match self.leaders.len() {
            ..=4 => self.run_few::<4>(peers),
            5..=8 => self.run_few::<8>(peers),
            9..=16 => self.run_few::<16>(peers),
            _ => self.run_many(peers),
        }
    }

    /// For at most `N` distinct weights, `N` a power of two. A leader is found again by its value, which is its own
    /// (the place is in it): a store by index would send all of them through memory, at twice the time.
    fn run_few<const N: usize>(self, peers: &[u32]) -> Vec<u32> {
        let mask = (1 << self.place_bits) - 1;
        // What is beyond the distinct weights never wins and never moves.
        let (mut leaders, mut steps) = ([i64::MIN; N], [0; N]);
        leaders[..self.leaders.len()].copy_from_slice(&self.leaders);
        steps[..self.steps.len()].copy_from_slice(&self.steps);
        let mut order = Vec::with_capacity(self.period);
        for _ in 0..self.period {
            for (leader, step) in leaders.iter_mut().zip(&steps) {
                *leader += step;
            }
            let best = largest(leaders);
            let place = (mask - (best & mask)) as usize;
            let next = best + self.picked[place].change;
            for leader in &mut leaders {
                *leader = if *leader == best { next } else { *leader };
            }
            order.push(peers[place]);
        }
        order
    }

    /// For any number of distinct weights.
    fn run_many(mut self, peers: &[u32]) -> Vec<u32> {
        let mask = (1 << self.place_bits) - 1;
        let mut order = Vec::with_capacity(self.period);
        for _ in 0..self.period {
            let mut best = i64::MIN;
            for (leader, step) in self.leaders.iter_mut().zip(&self.steps) {
                *leader += step;
                best = best.max(*leader);
            }
            let place = (mask - (best & mask)) as usize;
            let Picked { class, change } = self.picked[place];
            self.leaders[class as usize] = best + change;
            order.push(peers[place]);
        }
        order
    }
}

/// The maximum in log2(N) dependent steps instead of N. `N` is a power of two.
fn largest<const N: usize>(mut values: [i64; N]) -> i64 {
    let mut half = N / 2;
    while half > 0 {
        for at in 0..half {
            values[at] = values[at].max(values[at + half]);
        }
        half /= 2;
    }
    values[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// nginx's loop, word for word (ngx_http_upstream_get_peer without failures).
    fn nginx(weights: &[(u32, u16)], picks: usize) -> Vec<u32> {
        let total: i64 = weights.iter().map(|&(_, weight)| i64::from(weight)).sum();
        let mut current = vec![0; weights.len()];
        let mut pick = || {
            let mut best: Option<usize> = None;
            for (at, &(_, weight)) in weights.iter().enumerate() {
                current[at] += i64::from(weight);
                if best.is_none_or(|best| current[at] > current[best]) {
                    best = Some(at);
                }
            }
            let best = best.unwrap();
            current[best] -= total;
            weights[best].0
        };
        (0..picks).map(|_| pick()).collect()
    }

    fn indexed(weights: Vec<u16>) -> Vec<(u32, u16)> {
        // Indexes that are not places, as when peers are down.
        weights.into_iter().enumerate().map(|(at, weight)| (3 * at as u32 + 7, weight)).collect()
    }

    fn slots_of(order: &[u32], weights: &[(u32, u16)]) -> Vec<usize> {
        let mut slots = vec![0; weights.len()];
        order.iter().for_each(|index| slots[(*index as usize - 7) / 3] += 1);
        slots
    }

    proptest! {
        #[test]
        fn is_nginx(weights in prop_oneof![
            prop::collection::vec(1u16..6, 1..60),
            prop::collection::vec(1u16..400, 1..12),
            prop::collection::vec(prop_oneof![Just(6u16), Just(9), Just(300)], 1..40),
        ]) {
            let weights = indexed(weights);
            let order = schedule(&weights);
            // Two periods: the schedule is one, and it does repeat.
            let twice = nginx(&weights, 2 * order.len());
            prop_assert_eq!(&twice[..order.len()], &order[..]);
            prop_assert_eq!(&twice[order.len()..], &order[..]);
            let divisor = weights.iter().fold(0, |divisor, &(_, weight)| gcd(weight, divisor));
            let sum: usize = weights.iter().map(|&(_, weight)| usize::from(weight)).sum();
            prop_assert_eq!(order.len(), sum / usize::from(divisor));
        }

        #[test]
        fn a_scaled_slot_is_off_by_half_a_slot(weights in prop::collection::vec(1u16.., 2..300)) {
            let mut reduced = weights.clone();
            reduce(&mut reduced);
            let sum = sum(&reduced) as f64;
            prop_assume!(sum > MAX_SCHEDULE as f64);
            let mut fitted = weights;
            fit(&mut fitted);
            // The slots may have been divided by a gcd of their own: any multiple of them may be the rounded ones.
            let times = (1..=MAX_SCHEDULE).find(|times| {
                reduced.iter().zip(&fitted).all(|(&weight, &slot)| {
                    let (exact, slot) = (f64::from(weight) * MAX_SCHEDULE as f64 / sum, f64::from(slot) * *times as f64);
                    (slot - exact).abs() <= 0.5 || (exact < 0.5 && slot == 1.0)
                })
            });
            prop_assert!(times.is_some());
        }
    }

    proptest! {
        // Long ones, slow in a debug build.
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn a_scaled_schedule_is_nginx_of_the_slots(weights in prop::collection::vec(1u16.., 2..9)) {
            let mut slots = weights.clone();
            fit(&mut slots);
            let order = schedule(&indexed(weights));
            prop_assert_eq!(&nginx(&indexed(slots), order.len())[..], &order[..]);
        }

        #[test]
        fn the_stated_error_holds(weights in prop_oneof![
            prop::collection::vec(1u16.., 2..300),
            prop::collection::vec(prop_oneof![9 => 1u16..3, 1 => 60_000u16..], 2..2_000),
            prop::collection::vec(prop_oneof![9 => 1u16..3, 1 => 1u16..], 20_000..40_000),
        ]) {
            let weights = indexed(weights);
            let divisor = weights.iter().fold(0, |divisor, &(_, weight)| gcd(weight, divisor));
            let sum = weights.iter().map(|&(_, weight)| f64::from(weight / divisor)).sum::<f64>();
            let n = weights.len() as f64;
            let limit = f64::max(MAX_SCHEDULE as f64, 2.0 * n);

            let mut fitted: Vec<u16> = weights.iter().map(|&(_, weight)| weight).collect();
            fit(&mut fitted);
            let length = fitted.iter().map(|&slot| f64::from(slot)).sum::<f64>();
            prop_assert!(length < limit + n, "{} slots", length);
            for (&(_, weight), &slot) in weights.iter().zip(&fitted) {
                let share = f64::from(weight / divisor) / sum;
                let got = f64::from(slot) / length;
                let bound = if sum <= limit { 1e-12 } else { (1.0 + share * n) / (limit - n / 2.0) };
                prop_assert!((got - share).abs() <= bound, "{} -> {}, off by more than {}", share, got, bound);
            }
        }
    }

    #[test]
    fn the_order_that_nginx_documents() {
        assert_eq!(schedule(&[(0, 5), (1, 1), (2, 1)]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(schedule(&[(9, 1)]), [9]);
        assert_eq!(schedule(&[(4, 65_535)]), [4]);
    }

    #[test]
    fn equal_weights_go_in_list_order() {
        assert_eq!(schedule(&[(2, 7), (0, 7), (1, 7)]), [2, 0, 1]);
    }

    #[test]
    fn weight_zero_gets_no_slot() {
        assert_eq!(schedule(&[(0, 0), (1, 2), (2, 0), (3, 1)]), [1, 3, 1]);
        assert!(schedule(&[(0, 0)]).is_empty());
    }

    #[test]
    fn every_peer_has_a_slot_beside_the_heaviest() {
        let mut weights = vec![1; 40_000];
        weights[17] = 65_535;
        let weights = indexed(weights);
        let slots = slots_of(&schedule(&weights), &weights);
        assert!(slots.iter().all(|&slots| slots >= 1));
        assert!(slots[17] > 40_000);
    }

    #[test]
    fn the_limit_itself_is_exact() {
        assert_eq!(schedule(&[(0, 65_535), (1, 1)]).len(), MAX_SCHEDULE);
        assert_eq!(schedule(&[(0, 65_534), (1, 3)]).len(), MAX_SCHEDULE);
    }
}
