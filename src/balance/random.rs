//! nginx's `random` and `random two` (src/http/modules/ngx_http_upstream_random_module.c): a peer by weight; or two of them,
//! and the one with fewer connections for its weight. Of two equal ones it is the first drawn, so that idle peers are picked by
//! weight. nginx takes the second, which is less often a heavy one.
//!
//! A schedule has as many entries of each peer as it has weight, so that any entry of it is a draw by weight.

use super::candidates::Candidates;
use super::load::Load;
use super::miss::Miss;
use crate::random::Random;

/// Draws, as many as nginx makes.
const TRIES: usize = 21;

/// A peer by weight.
///
/// # Errors
///
/// - [`Miss::Changing`]: other workers have become the trials of all peers that were drawn.
/// - [`Miss::Damaged`]: the version or a cell makes no sense.
pub fn one(among: &impl Candidates, random: &mut Random) -> Result<Option<u32>, Miss> {
    for _ in 0..TRIES {
        match draw(among, random)? {
            Some(index) if among.claim(index)? => return Ok(Some(index)),
            // Another worker has just become its trial.
            Some(_) => {}
            None => return Ok(None),
        }
    }
    Err(Miss::Changing)
}

/// Draws a peer that fits: the first draw is nginx's own, and mostly the last.
fn draw(among: &impl Candidates, random: &mut Random) -> Result<Option<u32>, Miss> {
    if among.is_empty() {
        return Ok(None);
    }
    let index = among.scheduled(random.below(among.len()))?;
    if among.fits(index)? { Ok(Some(index)) } else { among.drawn(&mut |total| random.wide_below(total)) }
}

/// The load of a peer that is drawn.
pub(super) fn load(among: &impl Candidates, random: &mut Random) -> Result<Option<Load>, Miss> {
    draw(among, random)?.map(|index| Load::of(among, index)).transpose()
}

/// The better of two by weight. `None`: no two were drawn that can be picked.
///
/// # Errors
///
/// [`Miss::Damaged`]: the version or a cell makes no sense.
pub fn two(among: &impl Candidates, random: &mut Random) -> Result<Option<u32>, Miss> {
    let mut first = None;
    for _ in 0..TRIES {
        let Some(index) = draw(among, random)? else { return Ok(None) };
        if first == Some(index) {
            if among.is_alone()? {
                break;
            }
            continue;
        }
        let Some(other) = first.replace(index) else { continue };
        let better = if Load::of(among, index)?.is_less(Load::of(among, other)?) { index } else { other };
        if among.claim(better)? {
            return Ok(Some(better));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{Fake, Nginx, fakes, is_right, without_losses};
    use super::*;
    use proptest::prelude::*;

    /// The peer to which `random` leads next, at each call.
    fn peek<'a>(fake: &'a Fake, random: &Random) -> impl FnMut() -> u32 + 'a {
        let mut random = random.clone();
        move || fake.scheduled(random.below(fake.len())).expect("below its length")
    }

    proptest! {
        #[test]
        fn one_is_nginx_where_its_first_draw_fits(fake in without_losses(), seed: u64) {
            let random = Random::new(seed);
            let first = peek(&fake, &random)();
            let its = Nginx::of(&fake).random(peek(&fake, &random));
            let mine = one(&fake, &mut random.clone()).expect("sound");
            prop_assert!(is_right(&fake, mine), "{mine:?}");
            prop_assert!(its.is_none() || mine.is_some());
            if fake.members[first as usize].fits.get() {
                prop_assert_eq!(mine, its);
            }
        }

        #[test]
        fn two_is_nginx_but_for_the_order_of_equals(fake in without_losses(), seed: u64) {
            fake.members.iter().for_each(|member| member.fits.set(true));
            let random = Random::new(seed);
            let its = Nginx::of(&fake).random_two(peek(&fake, &random));
            let mine = two(&fake, &mut random.clone()).expect("sound");
            let Some((chosen, [first, second])) = its else {
                prop_assert_eq!(mine, None);
                return Ok(());
            };
            let load = |index| Load::of(&fake, index).expect("inside");
            let equal = !load(first).is_less(load(second)) && !load(second).is_less(load(first));
            prop_assert_eq!((mine, chosen), if equal { (Some(first), second) } else { (Some(chosen), chosen) });
        }

        #[test]
        fn whoever_can_be_taken_is(fake in fakes(), seed: u64) {
            let picked = one(&fake, &mut Random::new(seed)).expect("sound");
            prop_assert!(is_right(&fake, picked), "{picked:?} of {fake:?}");
            if let Some(index) = two(&fake, &mut Random::new(seed)).expect("sound") {
                prop_assert!(is_right(&fake, Some(index)), "{index} of {fake:?}");
            }
        }
    }

    /// How far `seen` is from shares by `weights`: Pearson's chi-squared.
    fn chi_squared(seen: &[u64], weights: &[u16]) -> f64 {
        let (draws, total) =
            (seen.iter().sum::<u64>() as f64, weights.iter().map(|&weight| f64::from(weight)).sum::<f64>());
        let term = |(&seen, &weight): (&u64, &u16)| {
            let expected = draws * f64::from(weight) / total;
            (seen as f64 - expected).powi(2) / expected
        };
        seen.iter().zip(weights).map(term).sum()
    }

    fn drawn(weights: &[u16], seed: u64, mut pick: impl FnMut(&Fake, &mut Random) -> u32) -> Vec<u64> {
        let (fake, mut random) = (Fake::of_weights(weights.to_vec()), Random::new(seed));
        let mut seen = vec![0; weights.len()];
        (0..100_000).for_each(|_| seen[pick(&fake, &mut random) as usize] += 1);
        seen
    }

    #[test]
    fn draws_go_by_weight() {
        let one = |fake: &Fake, random: &mut Random| one(fake, random).expect("sound").expect("all fit");
        // Sometimes no second one comes up beside a very heavy one.
        let two = |fake: &Fake, random: &mut Random| match two(fake, random).expect("sound") {
            Some(index) => index,
            None => one(fake, random),
        };
        // The value that is exceeded once in a thousand times: for 5, 9 and 1 degrees of freedom.
        let cases = [(vec![1, 2, 3, 4, 10, 100], 20.5), (vec![1; 10], 27.9), (vec![3, 1], 10.8)];
        for (weights, bound) in cases {
            for seed in 1..5 {
                let both = [drawn(&weights, seed, one), drawn(&weights, seed, two)];
                assert!(chi_squared(&both[0], &weights) < bound, "{weights:?} {seed}: {both:?}");
                // Where all are as idle, two go by weight as well. Of nginx's, that take the second one, a heavy one has less.
                assert!(chi_squared(&both[1], &weights) < bound, "{weights:?} {seed}: {both:?}");
            }
        }
    }

    #[test]
    fn of_two_the_idle_one_is_taken() {
        let fake = Fake::of_weights([1, 1]).with_open(&[1, 0]);
        let mut random = Random::new(9);
        (0..100).for_each(|_| assert_eq!(two(&fake, &mut random), Ok(Some(1))));
        fake.members[1].fits.set(false);
        assert_eq!(two(&fake, &mut random), Ok(None), "there is one");
        assert_eq!(one(&fake, &mut random), Ok(Some(0)));
    }

    #[test]
    fn of_nobody_there_is_nobody() {
        let fake = Fake::of_weights([]);
        assert_eq!((one(&fake, &mut Random::new(0)), two(&fake, &mut Random::new(0))), (Ok(None), Ok(None)));
    }

    #[test]
    fn numbers_are_below_their_end_and_every_one_comes() {
        let mut random = Random::new(0);
        let mut seen = [0; 7];
        (0..7000).for_each(|_| seen[random.below(7) as usize] += 1);
        assert!(seen.iter().all(|&count| (850..1150).contains(&count)), "{seen:?}");
        assert!((0..1000).all(|_| random.below(1) == 0));
        // Those of 32 bits, too.
        assert!((0..1000).any(|_| random.below(u32::MAX) > 1 << 31));
    }
}
