//! nginx's smooth weighted round robin, precomputed.
//!
//! nginx (commit 52327e0627f4, "Upstream: smooth weighted round-robin balancing", described there with {5,1,1}) keeps a current
//! weight a peer. Each pick adds every peer's weight to its current weight. It takes the peer with the largest, the first of
//! equals, and takes the sum of all weights off it. The order repeats after sum / gcd picks. So one period of it, indexed by a
//! shared counter, gives every worker nginx's exact order without any state of its own.

/// Longest schedule, in slots of 4 bytes, that weights alone may cause. [`schedule`] tells how a longer one is scaled.
pub const MAX_SCHEDULE: usize = 65_536;

/// One period of nginx's order of picks, as peer indexes.
///
/// `weights` are (peer index, weight) in nginx's order of peers: of peers that are due at once, the first goes first. A
/// peer of weight 0 gets no slot. No peers, no slots: the result is empty.
///
/// # Length, and the error of long ones
///
/// There are n peers. S is their sum of weights divided by the gcd of the weights. The limit L is max([`MAX_SCHEDULE`], 2n).
/// If S <= L, the schedule has S slots and is exact. Otherwise a peer of weight w, whose exact part of L slots is
/// x = w·L/S, gets round(x) slots, and at least one. So
///
/// - The slots of a peer are off by at most half a slot. Where x < 1/2 they are off by less than one, in the peer's favour.
/// - Equal weights get equal slots, and a larger weight never fewer than a smaller one.
/// - The schedule has at least L − n/2 and less than L + n slots, before these are divided by their own gcd.
/// - A share p = w/S comes out as a share p′ with |p′ − p| <= (1 + p·n) / (L − n/2). For ten peers that is below 0.02 % of
///   the traffic. It grows as n nears L/2, where a peer has hardly more than one slot, the least.
///
/// # Cost
///
/// At most slots × distinct weights, not slots × peers. Among peers of one weight the picks go round in list order. They grow
/// alike, so the one picked least often leads, and the first of equals. So a step compares one leader a weight. Where many peers
/// have one weight, whole runs of its picks are copied.
///
/// ```
/// use dyups::order::rr::schedule;
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
    Race::new(&slots, &distinct, &peers).run()
}

/// Turns weights into slots: divided by their gcd, and scaled if the sum is above the limit.
fn fit(slots: &mut [u16]) {
    reduce(slots);
    let limit = MAX_SCHEDULE.max(2 * slots.len()) as u64;
    let sum = sum(slots);
    if sum > limit {
        for slot in slots.iter_mut() {
            // Each is rounded to nearest by itself. To hand out remainders so that the sum is the limit would be closer in sum,
            // but would part peers of equal weight. Shrinks (limit < sum), so it fits u16.
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

/// Picks that are made one by one before a run of them is looked for: at first, and after runs were looked for in vain.
const BLOCK: std::ops::RangeInclusive<usize> = 64..=2048;

/// nginx's loop over one leader a distinct weight.
///
/// The peers have ranks: by weight, those of one weight in list order. A leader is one number: its current weight, below that
/// its place in the list, reversed, and below that its rank. So the largest number is the largest current weight, and of equals
/// the first in the list. The peer that follows a leader stands behind it in every array.
struct Race {
    /// By distinct weight: its leader.
    leaders: Vec<i64>,
    /// By distinct weight: the number that a step adds to its leader.
    steps: Vec<i64>,
    /// By distinct weight: the rank behind its last peer.
    ends: Vec<usize>,
    /// By rank, the number that turns that leader into the next one of its weight when it is picked: the change of place and
    /// rank. Behind the last of the round, the first leads again, which is then picked once more. There the number also has the
    /// sum that nginx takes off at a pick.
    changes: Vec<i64>,
    /// By rank: the peer.
    peers: Vec<u32>,
    /// Bits of a rank, and of a place.
    bits: u32,
    /// Steps until all is as in the beginning.
    period: usize,
}

impl Race {
    /// `slots` and `peers` by place in the list; `distinct` is `slots` sorted, each value once.
    fn new(slots: &[u16], distinct: &[u16], peers: &[u32]) -> Self {
        let bits = usize::BITS - slots.len().leading_zeros();
        let class_of = classes(slots, distinct);
        let firsts = firsts(&class_of, distinct.len());
        let (mut ranked, mut starts) = (vec![0; peers.len()], vec![0; peers.len()]);
        let mut ends = firsts.clone();
        for (place, (&class, &peer)) in class_of.iter().zip(peers).enumerate() {
            let rank = ends[class as usize];
            ends[class as usize] += 1;
            ranked[rank] = peer;
            starts[rank] = (((1 << bits) - 1 - place) << bits | rank) as i64;
        }
        let total = sum(slots) as i64;
        let mut changes: Vec<i64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        changes.push(0);
        for (&first, &end) in firsts.iter().zip(&ends) {
            changes[end - 1] = starts[first] - starts[end - 1] - (total << (2 * bits));
        }
        Race {
            leaders: firsts.iter().map(|&first| starts[first]).collect(),
            steps: distinct.iter().map(|&weight| i64::from(weight) << (2 * bits)).collect(),
            ends,
            changes,
            peers: ranked,
            bits,
            period: total as usize,
        }
    }

    /// One period.
    fn run(mut self) -> Vec<u32> {
        let (mut order, mut block) = (Vec::with_capacity(self.period), *BLOCK.start());
        while order.len() < self.period {
            let count = block.min(self.period - order.len());
            // An upstream mostly has few distinct weights, and a fixed number of leaders stays in registers.
            match self.leaders.len() {
                ..=4 => self.picks_of_few::<4>(count, &mut order),
                5..=8 => self.picks_of_few::<8>(count, &mut order),
                9..=16 => self.picks_of_few::<16>(count, &mut order),
                _ => self.picks_of_many(count, &mut order),
            }
            let found = self.run_of_one(&mut order) > 0;
            block = if found { *BLOCK.start() } else { (2 * block).min(*BLOCK.end()) };
        }
        order
    }

    /// nginx's loop for at most `N` distinct weights, `N` a power of two. A leader is found again by its value, which is its
    /// own, since the rank is in it. A store by index would send all of them through memory, at twice the time.
    fn picks_of_few<const N: usize>(&mut self, count: usize, order: &mut Vec<u32>) {
        let weights = self.leaders.len();
        let mask = (1 << self.bits) - 1;
        // Places beyond the distinct weights never win and never move.
        let (mut leaders, mut steps) = ([i64::MIN; N], [0; N]);
        leaders[..weights].copy_from_slice(&self.leaders);
        steps[..weights].copy_from_slice(&self.steps);
        order.extend((0..count).map(|_| {
            for (leader, step) in leaders.iter_mut().zip(&steps) {
                *leader += step;
            }
            let best = largest(leaders);
            let rank = (best & mask) as usize;
            let next = best + self.changes[rank];
            for leader in &mut leaders {
                *leader = if *leader == best { next } else { *leader };
            }
            self.peers[rank]
        }));
        self.leaders.copy_from_slice(&leaders[..weights]);
    }

    /// nginx's loop for any number of distinct weights.
    fn picks_of_many(&mut self, count: usize, order: &mut Vec<u32>) {
        let mask = (1 << self.bits) - 1;
        order.extend((0..count).map(|_| {
            let (mut best, mut class) = (i64::MIN, 0);
            for (at, (leader, step)) in self.leaders.iter_mut().zip(&self.steps).enumerate() {
                *leader += step;
                if *leader > best {
                    (best, class) = (*leader, at);
                }
            }
            let rank = (best & mask) as usize;
            self.leaders[class] = best + self.changes[rank];
            self.peers[rank]
        }));
    }

    /// Where many peers have one weight, each of them is picked before the first is picked again. So there are long runs, in
    /// which only the leaders grow. Makes the picks that certainly come next from the weight that is due, up to the end of its
    /// round. When the period ends, all rounds end. Answers the number of these picks.
    fn run_of_one(&mut self, order: &mut Vec<u32>) -> usize {
        let due = (0..self.leaders.len()).max_by_key(|&class| self.leaders[class] + self.steps[class]).unwrap_or(0);
        let from = (self.leaders[due] & ((1 << self.bits) - 1)) as usize;
        let run = from..from + self.certain(due, self.ends[due] - from);
        for (leader, step) in self.leaders.iter_mut().zip(&self.steps) {
            *leader += run.len() as i64 * step;
        }
        self.leaders[due] += self.changes[run.clone()].iter().sum::<i64>();
        order.extend_from_slice(&self.peers[run.clone()]);
        run.len()
    }

    /// How many picks in a row, at most `most`, the weight `due` wins, with any places in the list. A weight that is behind it
    /// comes up only if its steps are longer, and not before these have used up its lag.
    fn certain(&self, due: usize, most: usize) -> usize {
        let weight = |leader: i64| leader >> (2 * self.bits);
        let until_reached = self.leaders.iter().zip(&self.steps).enumerate().map(|(class, (&leader, &step))| {
            let (lag, gain) = (weight(self.leaders[due]) - weight(leader), weight(step - self.steps[due]));
            match (lag, gain) {
                _ if class == due => i64::MAX,
                (..=0, _) => 0,
                (_, ..=0) => i64::MAX,
                (lag, gain) => (lag - 1) / gain,
            }
        });
        until_reached.fold(most as i64, i64::min) as usize
    }
}

/// By place: the place of its weight among the distinct ones.
fn classes(slots: &[u16], distinct: &[u16]) -> Vec<u32> {
    let mut class = 0;
    let class_of = |&slot: &u16| {
        // Neighbours are mostly alike.
        if distinct[class] != slot {
            class = distinct.partition_point(|&weight| weight < slot);
        }
        class as u32
    };
    slots.iter().map(class_of).collect()
}

/// By class: how many are in those before it.
fn firsts(class_of: &[u32], classes: usize) -> Vec<usize> {
    let mut firsts = vec![0; classes];
    class_of.iter().for_each(|&class| firsts[class as usize] += 1);
    let mut before = 0;
    for first in &mut firsts {
        before += std::mem::replace(first, before);
    }
    firsts
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
            // Long runs of one weight, and such that a heavy peer cuts short.
            prop::collection::vec(prop_oneof![40 => 1u16..4, 1 => 100u16..900], 200..500),
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
