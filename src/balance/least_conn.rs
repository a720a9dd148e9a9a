//! nginx's `least_conn`: the peer with the fewest open connections for its weight; among equals, whose turn it is by round robin
//! (src/http/modules/ngx_http_upstream_least_conn_module.c).
//!
//! nginx counts the open connections of one worker, or with `zone` those of all. Here it is always all. Among equals nginx runs
//! a smooth round robin over just these. As long as all of the group are equal, so does this, in the order of its schedule.
//! Where only a part is equal, the peer that has waited longest for its weight has its turn. That is round robin too, though
//! for different weights not in nginx's order.
//!
//! A look at every peer takes time in proportion to the peers. Above [`EXACT`] usable ones, two are drawn by weight and the better
//! one is taken: "the power of two choices" (Mitzenmacher, 2001). Its longest queue is longer by a term of log log n.
//!
//! Of 1,000 equal peers with 10,000 connections open, the busiest has 1.20 times the mean, and 1.30 times when each connection
//! has been replaced twice. With exactly the least: 1.00 and 1.00. By chance alone: 2.20 and 2.30. Of 200 peers: 1.04 and 1.06,
//! against 1.34 and 1.52 by chance (`cargo test --profile quick --lib two_choices -- --nocapture`).

use super::candidates::Candidates;
use super::load::Load;
use super::miss::Miss;
use super::random;
use crate::random::Random;

/// Peers up to which every one is looked at: all peers of an upstream, or the usable ones among more.
pub const EXACT: u32 = 128;

/// Picks for turn `count` of the round robin.
///
/// # Errors
///
/// - [`Miss::Changing`]: other workers have become the trials of too many peers meanwhile.
/// - [`Miss::Damaged`]: the version or a cell makes no sense.
pub fn pick(among: &impl Candidates, count: u64, random: &mut Random) -> Result<Option<u32>, Miss> {
    if draws(among)? {
        return match random::two(among, random)? {
            // No two are usable, or one of them outweighs all others.
            None => random::one(among, random),
            some => Ok(some),
        };
    }
    for _ in 0..TRIES {
        let Some(least) = least(among, count)? else {
            // A peer may have come back, and not be among the usable ones yet.
            return if among.peers() > EXACT { random::one(among, random) } else { Ok(None) };
        };
        let index = least.in_turn(among, count)?;
        if among.claim(index)? {
            among.took(index, count)?;
            return Ok(Some(index));
        }
    }
    among.take_in_turn(count)
}

/// Whether there are too many usable peers for a look at each.
fn draws(among: &impl Candidates) -> Result<bool, Miss> {
    Ok(among.peers() > EXACT && !(1..=EXACT).contains(&among.usable()?))
}

/// The load of the peer that a pick would take.
pub(super) fn load(among: &impl Candidates, random: &mut Random) -> Result<Option<Load>, Miss> {
    if draws(among)? { random::load(among, random) } else { Ok(least(among, 0)?.map(|least| least.load)) }
}

/// How often another worker's connections may change the least load while this pick looks.
const TRIES: usize = 3;

/// The least load of any that fits.
#[derive(Clone, Copy)]
struct Least {
    load: Load,
    /// The peer among these that has waited longest for its weight.
    next: u32,
    waited: u64,
    /// All members of the group have it.
    all: bool,
}

impl Least {
    /// Whose turn it is.
    fn in_turn(&self, among: &impl Candidates, count: u64) -> Result<u32, Miss> {
        let turn = if self.all { among.turn_of_all(count)? } else { None };
        Ok(turn.unwrap_or(self.next))
    }
}

fn least(among: &impl Candidates, count: u64) -> Result<Option<Least>, Miss> {
    let is_large = among.peers() > EXACT;
    // Only of a few peers, and where all of them fit, is it known that all have the least load.
    let (mut least, mut all): (Option<Least>, bool) = (None, !is_large);
    let mut look = |index| {
        if among.weight(index)? == 0 || !among.takes_traffic(index)? {
            return Ok(());
        }
        if !among.fits(index)? {
            all = false;
            return Ok(());
        }
        let load = Load::of(among, index)?;
        if least.is_some_and(|least| least.load.is_less(load)) {
            all = false;
            return Ok(());
        }
        let waited = among.waited(index, count)?.saturating_mul(load.weight);
        match &least {
            Some(least) if !load.is_less(least.load) && waited <= least.waited => {}
            other => {
                all &= other.is_none_or(|other| !load.is_less(other.load));
                least = Some(Least { load, next: index, waited, all: true });
            }
        }
        Ok(())
    };
    match is_large {
        true => among.each_usable(&mut look)?,
        false => (0..among.peers()).try_for_each(look)?,
    }
    Ok(least.map(|least| Least { all, ..least }))
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{Fake, Nginx, fakes, is_right, without_losses};
    use super::*;
    use proptest::prelude::*;

    fn picked(fake: &Fake, count: u64) -> u32 {
        pick(fake, count, &mut Random::new(count)).expect("sound").expect("somebody fits")
    }

    /// The peers that fit and have the fewest connections for their weight.
    fn leasts(fake: &Fake) -> Vec<u32> {
        let fits = || (0..).zip(&fake.members).filter(|(_, member)| member.fits.get());
        let load = |index: u32| Load::of(fake, index).expect("inside");
        fits()
            .filter(|&(index, _)| fits().all(|(other, _)| !load(other).is_less(load(index))))
            .map(|(index, _)| index)
            .collect()
    }

    proptest! {
        #[test]
        fn is_nginx_as_long_as_all_are_equal(
            weights in prop::collection::vec(prop_oneof![3 => Just(1u16), 1 => 1u16..9], 1..12), load in 0u64..3
        ) {
            // Requests that are over before the next one comes, beside the same number of long ones for each unit of weight.
            let open: Vec<u64> = weights.iter().map(|&weight| load * u64::from(weight)).collect();
            let fake = Fake::of_weights(weights).with_open(&open);
            let mut nginx = Nginx::of(&fake);
            for count in 0..200 {
                prop_assert_eq!(Some(picked(&fake, count)), nginx.least_conn());
            }
        }

        #[test]
        fn is_nginx_where_one_has_the_least(fake in without_losses(), steps in prop::collection::vec(any::<u64>(), 1..100)) {
            let mut nginx = Nginx::of(&fake);
            let mut open = Vec::new();
            for (count, step) in (0..).zip(steps) {
                nginx.update(&fake);
                let (mine, its, leasts) = (pick(&fake, count, &mut Random::new(1)).expect("sound"), nginx.least_conn(), leasts(&fake));
                prop_assert_eq!(mine.is_none(), its.is_none());
                let (Some(mine), Some(its)) = (mine, its) else { break };
                prop_assert!(leasts.contains(&mine) && leasts.contains(&its), "{} {} {:?}", mine, its, leasts);
                prop_assert!(leasts.len() > 1 || mine == its);
                // Both see the connection of nginx's pick.
                fake.opens(its);
                open.push(its);
                for _ in 0..(step % 3).min(open.len() as u64) {
                    fake.closes(open.swap_remove(step as usize % open.len()));
                }
            }
        }

        #[test]
        fn whoever_can_be_taken_is(fake in fakes(), count: u64) {
            let picked = pick(&fake, count, &mut Random::new(count)).expect("sound");
            prop_assert!(is_right(&fake, picked), "{picked:?} of {fake:?}");
        }
    }

    #[test]
    fn a_part_of_the_group_takes_turns_as_in_nginx() {
        // The first has a connection that stays.
        let fake = Fake::of_weights([1, 1, 1]).with_open(&[1, 0, 0]);
        let mut nginx = Nginx::of(&fake);
        assert_eq!([(); 6].map(|()| nginx.least_conn().expect("somebody")), [1, 2, 1, 2, 1, 2]);
        assert_eq!([1, 2, 3, 4, 5, 6].map(|count| picked(&fake, count)), [1, 2, 1, 2, 1, 2]);
        // For different weights in another order.
        let fake = Fake::of_weights([1, 3, 1]).with_open(&[1, 0, 0]);
        let went: Vec<u32> = (1..41).map(|count| picked(&fake, count)).collect();
        assert_eq!(went.iter().filter(|&&index| index == 1).count(), 30, "{went:?}");
        assert!(went[4..].windows(4).all(|four| four.contains(&2)), "{went:?}");
    }

    #[test]
    fn nobody_starves_beside_peers_that_are_busy_in_turn() {
        // Each request ends when the next one has begun.
        let fake = Fake::of_weights([1; 3]);
        let (mut before, mut went) = (None, [0; 3]);
        for count in 0..300 {
            let index = picked(&fake, count);
            fake.opens(index);
            went[index as usize] += 1;
            if let Some(before) = before.replace(index) {
                fake.closes(before);
            }
        }
        assert!(went.iter().all(|&count| (99..=101).contains(&count)), "{went:?}");
    }

    #[test]
    fn where_few_of_many_are_usable_an_idle_one_among_them_is_never_passed_over() {
        let fake = Fake::of_weights(vec![1; 1000]);
        let usable = [7, 300, 301, 555, 999];
        (0..1000).filter(|index| !usable.contains(index)).for_each(|index| fake.members[index].fits.set(false));
        usable.iter().filter(|&&index| index != 301).for_each(|&index| fake.opens(index as u32));
        assert!((0..100).all(|count| picked(&fake, count) == 301));
    }

    #[test]
    fn weights_that_make_a_long_schedule_are_no_reason_to_look_at_two_only() {
        let fake = Fake::of_weights([1000, 999, 1]).with_open(&[2000, 1998, 1]);
        assert!((0..100).all(|count| picked(&fake, count) == 2));
        let fake = Fake::of_weights([65_535, 1, 1]).with_open(&[65_535, 0, 0]);
        assert_eq!(picked(&fake, 0), 1);
    }

    #[test]
    fn a_claim_that_is_lost_leads_to_the_next_least() {
        let mut fake = Fake::of_weights([1, 1, 1, 1]).with_open(&[0, 1, 1, 2]);
        fake.members[0].is_lost = true;
        assert_eq!(picked(&fake, 0), 1);
        assert_eq!(*fake.claimed.borrow(), [0, 1]);
        fake.members.iter_mut().for_each(|member| member.is_lost = true);
        assert_eq!(pick(&fake, 0, &mut Random::new(1)), Ok(None));
    }

    #[test]
    fn huge_numbers_compare_and_do_not_overflow() {
        let fake = Fake::of_weights([u16::MAX, 1]).with_open(&[u64::MAX, u64::MAX]);
        assert_eq!(pick(&fake, 0, &mut Random::new(1)).map(|picked| picked.is_some()), Ok(true));
    }

    /// The most connections of a peer, as a multiple of the mean: once with 10,000 connections open, and once after 20,000
    /// more. Each of these replaces one that closes.
    fn imbalance(peers: usize, pick: impl Fn(&Fake, u64) -> u32) -> [f64; 2] {
        const OPEN: u64 = 10_000;
        let fake = Fake::of_weights(vec![1; peers]);
        let mut random = Random::new(7);
        let mut open: Vec<u32> = Vec::new();
        let mut serve = |count| {
            if open.len() as u64 == OPEN {
                fake.closes(open.swap_remove(random.below(OPEN as u32) as usize));
            }
            let index = pick(&fake, count);
            fake.opens(index);
            open.push(index);
        };
        let most = || fake.members.iter().map(|member| member.open.get()).max().expect("there are some");
        let mean = OPEN as f64 / peers as f64;
        [0..OPEN, OPEN..3 * OPEN].map(|counts| {
            counts.for_each(&mut serve);
            most() as f64 / mean
        })
    }

    #[test]
    fn two_choices_are_nearly_as_good_as_the_least() {
        let random = std::cell::RefCell::new(Random::new(42));
        let exactly = |fake: &Fake, count| {
            let index = least(fake, count).expect("sound").expect("all fit").in_turn(fake, count).expect("sound");
            fake.took(index, count).expect("inside");
            index
        };
        let sampled =
            |fake: &Fake, count| pick(fake, count, &mut random.borrow_mut()).expect("sound").expect("all fit");
        let one = |fake: &Fake, _| random::one(fake, &mut random.borrow_mut()).expect("sound").expect("all fit");
        for peers in [200, 1000] {
            let [exact, two, one] = [imbalance(peers, exactly), imbalance(peers, sampled), imbalance(peers, one)];
            println!(
                "{peers} peers, 10,000 open, max/mean (filled, after 20,000 more): exact {exact:.2?}, two {two:.2?}, random {one:.2?}"
            );
            assert!(exact[0] == 1.0 && exact[1] < 1.2, "{exact:?}");
            assert!(two[0] < 1.5 && two[1] < 1.6, "{two:?}");
        }
    }
}
