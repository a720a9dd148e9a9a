//! The peers among which a method chooses: one group of one version of an upstream.

use super::miss::Miss;

/// The members of a group, in the order of nginx's round robin, and whether each may be picked now.
///
/// # Errors
///
/// - [`Miss::Damaged`]: the version or a cell makes no sense.
/// - [`Miss::Changing`], of [`Candidates::take_in_turn`] alone: other workers have become the trials of 64 peers, one after
///   the other.
pub trait Candidates {
    /// Entries of the schedule: one a unit of weight, as far as it is exact. 0: the group is empty.
    fn len(&self) -> u32;

    /// Whether the group is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The peer at `position` of the schedule, below [`Candidates::len`].
    fn scheduled(&self, position: u32) -> Result<u32, Miss>;

    /// The member whose turn it is at turn `count`, where all of them fit. `None`: the group is empty.
    fn turn_of_all(&self, count: u64) -> Result<Option<u32>, Miss> {
        match u64::from(self.len()) {
            0 => Ok(None),
            len => self.scheduled((count % len) as u32).map(Some),
        }
    }

    /// How many peers the upstream has, of all groups: every index is below it.
    fn peers(&self) -> u32;

    /// The weight of a peer if it is a member of the group, whether or not it takes traffic; else 0.
    fn weight(&self, index: u32) -> Result<u16, Miss>;

    /// Whether a peer takes traffic, was not tried, is well, and is not full.
    fn fits(&self, index: u32) -> Result<bool, Miss>;

    /// Whether a peer of the group takes traffic, as far as configuration goes.
    fn takes_traffic(&self, index: u32) -> Result<bool, Miss>;

    /// For how many turns `least_conn` has not taken a peer, at turn `count`.
    fn waited(&self, index: u32, count: u64) -> Result<u64, Miss>;

    /// `least_conn` takes a peer at turn `count`.
    fn took(&self, index: u32, count: u64) -> Result<(), Miss>;

    /// Takes a peer that fits. False: another worker has just become its one trial.
    fn claim(&self, index: u32) -> Result<bool, Miss>;

    /// How many connections all workers have open to a peer.
    fn open(&self, index: u32) -> Result<u64, Miss>;

    /// Takes the peer if it fits.
    fn take(&self, index: u32) -> Result<bool, Miss> {
        Ok(self.fits(index)? && self.claim(index)?)
    }

    /// The weight of all members, whether or not they take traffic.
    fn weight_of_all(&self) -> Result<u64, Miss>;

    /// The member that unit `unit` of all these weights belongs to.
    fn peer_of_unit(&self, unit: u64) -> Result<Option<u32>, Miss>;

    /// How many members may be usable, as far as is known without a look at each.
    fn usable(&self) -> Result<u32, Miss>;

    /// Has `look` see each of these.
    fn each_usable(&self, look: &mut dyn FnMut(u32) -> Result<(), Miss>) -> Result<(), Miss>;

    /// Whether at most one member is known to be usable.
    fn is_alone(&self) -> Result<bool, Miss>;

    /// The peer whose turn it is at turn `count` of the round robin over those that fit; `None`: none does.
    fn in_turn(&self, count: u64) -> Result<Option<u32>, Miss>;

    /// A peer that fits, by weight: that of the number which `draw` answers, below the one that it gets. `None`: none fits.
    fn drawn(&self, draw: &mut dyn FnMut(u64) -> u64) -> Result<Option<u32>, Miss>;

    /// Takes the peer whose turn it is; where another worker has just become its trial, any other.
    fn take_in_turn(&self, count: u64) -> Result<Option<u32>, Miss> {
        let mut index = self.in_turn(count)?;
        for lost in 0..MOST_LOST {
            let Some(at) = index else { return Ok(None) };
            if self.claim(at)? {
                return Ok(Some(at));
            }
            index = self.drawn(&mut |total| mixed(count, lost, total))?;
        }
        Err(Miss::Changing)
    }
}

/// Trials that other workers may become first, one after the other, before a pick gives up.
const MOST_LOST: u64 = 64;

/// A number below `total` that has no pattern, from two: splitmix64, Guy Steele and others, "Fast splittable pseudorandom number
/// generators" (2014).
pub fn mixed(count: u64, salt: u64, total: u64) -> u64 {
    let mut mixed = count.wrapping_add((salt + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((u128::from(mixed ^ mixed >> 31) * u128::from(total)) >> 64) as u64
}

/// A group that does as it is told, and nginx's own algorithms.
#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::order::rr;
    use crate::order::turns;
    use proptest::prelude::*;
    use std::cell::{Cell, RefCell};

    /// A peer of a group.
    #[derive(Clone, Debug)]
    pub struct Member {
        pub weight: u16,
        pub open: Cell<u64>,
        pub fits: Cell<bool>,
        /// The turn at which it was taken.
        pub taken: Cell<u64>,
        /// Another worker becomes its trial when it is claimed: then it fits no more.
        pub is_lost: bool,
    }

    /// A group of such.
    #[derive(Clone, Debug)]
    pub struct Fake {
        pub members: Vec<Member>,
        schedule: Vec<u32>,
        /// The claimed peers, in this order.
        pub claimed: RefCell<Vec<u32>>,
    }

    impl Fake {
        pub fn new(members: Vec<Member>) -> Fake {
            let weights: Vec<(u32, u16)> = (0..).zip(members.iter().map(|member| member.weight)).collect();
            Fake { members, schedule: rr::schedule(&weights), claimed: RefCell::default() }
        }

        /// Peers that are well, with these weights.
        pub fn of_weights(weights: impl IntoIterator<Item = u16>) -> Fake {
            let [open, taken] = [(); 2].map(|()| Cell::new(0));
            let member = |weight| Member {
                weight,
                open: open.clone(),
                fits: Cell::new(true),
                taken: taken.clone(),
                is_lost: false,
            };
            Fake::new(weights.into_iter().map(member).collect())
        }

        pub fn with_open(self, open: &[u64]) -> Fake {
            self.members.iter().zip(open).for_each(|(member, &open)| member.open.set(open));
            self
        }

        pub fn opens(&self, index: u32) {
            let open = &self.members[index as usize].open;
            open.set(open.get() + 1);
        }

        pub fn closes(&self, index: u32) {
            let open = &self.members[index as usize].open;
            open.set(open.get() - 1);
        }

        fn of_unit(&self, mut unit: u64, counts: impl Fn(&Member) -> bool) -> Option<u32> {
            let weight = |member: &Member| if counts(member) { u64::from(member.weight) } else { 0 };
            for (index, member) in (0..).zip(&self.members) {
                match unit.checked_sub(weight(member)) {
                    Some(rest) => unit = rest,
                    None => return Some(index),
                }
            }
            None
        }

        fn member(&self, index: u32) -> Result<&Member, Miss> {
            self.members.get(index as usize).ok_or(Miss::Damaged)
        }
    }

    impl Candidates for Fake {
        fn len(&self) -> u32 {
            self.schedule.len() as u32
        }

        fn scheduled(&self, position: u32) -> Result<u32, Miss> {
            self.schedule.get(position as usize).copied().ok_or(Miss::Damaged)
        }

        fn peers(&self) -> u32 {
            self.members.len() as u32
        }

        fn weight(&self, index: u32) -> Result<u16, Miss> {
            Ok(self.member(index)?.weight)
        }

        fn fits(&self, index: u32) -> Result<bool, Miss> {
            Ok(self.member(index)?.fits.get())
        }

        fn takes_traffic(&self, index: u32) -> Result<bool, Miss> {
            Ok(self.member(index)?.weight > 0)
        }

        fn waited(&self, index: u32, count: u64) -> Result<u64, Miss> {
            Ok(count.wrapping_sub(self.member(index)?.taken.get()))
        }

        fn took(&self, index: u32, count: u64) -> Result<(), Miss> {
            self.member(index)?.taken.set(count);
            Ok(())
        }

        fn claim(&self, index: u32) -> Result<bool, Miss> {
            let member = self.member(index)?;
            self.claimed.borrow_mut().push(index);
            if member.is_lost {
                member.fits.set(false);
            }
            Ok(member.fits.get())
        }

        fn open(&self, index: u32) -> Result<u64, Miss> {
            Ok(self.member(index)?.open.get())
        }

        fn weight_of_all(&self) -> Result<u64, Miss> {
            Ok(self.members.iter().map(|member| u64::from(member.weight)).sum())
        }

        fn peer_of_unit(&self, unit: u64) -> Result<Option<u32>, Miss> {
            Ok(self.of_unit(unit, |_| true))
        }

        fn usable(&self) -> Result<u32, Miss> {
            Ok(self.members.iter().filter(|member| member.fits.get()).count() as u32)
        }

        fn each_usable(&self, look: &mut dyn FnMut(u32) -> Result<(), Miss>) -> Result<(), Miss> {
            let fit = (0..).zip(&self.members).filter(|(_, member)| member.fits.get());
            fit.map(|(index, _)| index).try_for_each(look)
        }

        fn is_alone(&self) -> Result<bool, Miss> {
            Ok(self.usable()? <= 1)
        }

        fn in_turn(&self, count: u64) -> Result<Option<u32>, Miss> {
            if self.members.iter().all(|member| member.fits.get()) && !self.is_empty() {
                return self.scheduled((count % u64::from(self.len())) as u32).map(Some);
            }
            self.drawn(&mut |total| turns::turn(count, total, turns::step(total)))
        }

        fn drawn(&self, draw: &mut dyn FnMut(u64) -> u64) -> Result<Option<u32>, Miss> {
            let fit = || self.members.iter().filter(|member| member.fits.get());
            let total: u64 = fit().map(|member| u64::from(member.weight)).sum();
            Ok(if total == 0 { None } else { self.of_unit(draw(total), |member| member.fits.get()) })
        }
    }

    /// `ngx_http_upstream_rr_peer_t`, as far as it matters while nothing fails: `effective_weight` is `weight`.
    struct Peer {
        weight: i64,
        current_weight: i64,
        conns: i64,
        /// `tried`, `down`, or by `max_fails` or `max_conns`.
        is_passed_over: bool,
    }

    /// `ngx_http_upstream_rr_peers_t`.
    pub struct Nginx {
        peers: Vec<Peer>,
        total_weight: i64,
    }

    /// Failed looks that `ip_hash` and `random` take in their stride: `++tries > 20`.
    const NGINX_TRIES: usize = 20;

    impl Nginx {
        /// The same as `fake` says now.
        pub fn of(fake: &Fake) -> Nginx {
            let peer = |member: &Member| Peer {
                weight: member.weight.into(),
                current_weight: 0,
                conns: member.open.get() as i64,
                is_passed_over: !member.fits.get(),
            };
            let peers: Vec<Peer> = fake.members.iter().map(peer).collect();
            Nginx { total_weight: peers.iter().map(|peer| peer.weight).sum(), peers }
        }

        /// Takes over the connections of all peers.
        pub fn update(&mut self, fake: &Fake) {
            for (peer, member) in self.peers.iter_mut().zip(&fake.members) {
                (peer.conns, peer.is_passed_over) = (member.open.get() as i64, !member.fits.get());
            }
        }

        /// `ngx_http_upstream_get_peer`.
        pub fn round_robin(&mut self) -> Option<u32> {
            let (mut best, mut total) = (None, 0);
            for i in 0..self.peers.len() {
                if self.peers[i].is_passed_over {
                    continue;
                }
                self.peers[i].current_weight += self.peers[i].weight;
                total += self.peers[i].weight;
                if best.is_none_or(|best: usize| self.peers[i].current_weight > self.peers[best].current_weight) {
                    best = Some(i);
                }
            }
            self.peers[best?].current_weight -= total;
            best.map(|best| best as u32)
        }

        /// `ngx_http_upstream_get_least_conn_peer`, but that its caller counts the connection.
        pub fn least_conn(&mut self) -> Option<u32> {
            let (mut best, mut many, mut total): (Option<usize>, bool, i64) = (None, false, 0);
            for (i, peer) in self.peers.iter().enumerate() {
                if peer.is_passed_over {
                    continue;
                }
                match best.map(|best| &self.peers[best]) {
                    Some(best) if peer.conns * best.weight == best.conns * peer.weight => many = true,
                    Some(best) if peer.conns * best.weight > best.conns * peer.weight => {}
                    _ => (best, many) = (Some(i), false),
                }
            }
            let mut best = best?;
            if many {
                let first = best;
                for i in first..self.peers.len() {
                    let (conns, weight) = (self.peers[best].conns, self.peers[best].weight);
                    let peer = &mut self.peers[i];
                    if peer.is_passed_over || peer.conns * weight != conns * peer.weight {
                        continue;
                    }
                    peer.current_weight += peer.weight;
                    total += peer.weight;
                    if self.peers[i].current_weight > self.peers[best].current_weight {
                        best = i;
                    }
                }
            }
            self.peers[best].current_weight -= total;
            Some(best as u32)
        }

        /// `ngx_http_upstream_get_ip_hash_peer` without its leap to round robin, which is `None` here.
        pub fn ip_hash(&self, addr: &[u8]) -> Option<u32> {
            let (mut hash, mut tries) = (89, 0);
            loop {
                for &byte in addr {
                    hash = (hash * 113 + u64::from(byte)) % 6271;
                }
                let (mut w, mut p) = (hash as i64 % self.total_weight, 0);
                while w >= self.peers[p].weight {
                    w -= self.peers[p].weight;
                    p += 1;
                }
                if !self.peers[p].is_passed_over {
                    return Some(p as u32);
                }
                tries += 1;
                if tries > NGINX_TRIES {
                    return None;
                }
            }
        }

        /// `ngx_http_upstream_get_random_peer`, with `peek` for `ngx_http_upstream_peek_random_peer`; `None` as above.
        pub fn random(&self, mut peek: impl FnMut() -> u32) -> Option<u32> {
            (0..=NGINX_TRIES).map(|_| peek()).find(|&i| !self.peers[i as usize].is_passed_over)
        }

        /// `ngx_http_upstream_get_random2_peer`; and the two it chose among.
        pub fn random_two(&self, mut peek: impl FnMut() -> u32) -> Option<(u32, [u32; 2])> {
            let (mut prev, mut tries) = (None, 0);
            loop {
                let i = peek();
                if prev != Some(i) && !self.peers[i as usize].is_passed_over {
                    if let Some(p) = prev {
                        let (peer, prev) = (&self.peers[i as usize], &self.peers[p as usize]);
                        let chosen = if peer.conns * prev.weight > prev.conns * peer.weight { p } else { i };
                        return Some((chosen, [p, i]));
                    }
                    prev = Some(i);
                }
                tries += 1;
                if tries > NGINX_TRIES {
                    return None;
                }
            }
        }
    }

    /// Groups of some size and any state.
    pub fn fakes() -> impl Strategy<Value = Fake> {
        let weight = prop_oneof![3 => Just(1u16), 2 => 1u16..6, 1 => Just(100u16)];
        let member = (weight, 0u64..4, prop::bool::weighted(0.7), prop::bool::weighted(0.1)).prop_map(
            |(weight, open, fits, is_lost)| Member {
                weight,
                open: Cell::new(open),
                fits: Cell::new(fits),
                taken: Cell::new(0),
                is_lost,
            },
        );
        prop::collection::vec(member, 1..12).prop_map(Fake::new)
    }

    /// The same, and no claim is lost.
    pub fn without_losses() -> impl Strategy<Value = Fake> {
        fakes().prop_map(|mut fake| {
            fake.members.iter_mut().for_each(|member| member.is_lost = false);
            fake
        })
    }

    /// That `picked` is right by any method: a peer, and the last one that was claimed. It is none only where all are lost or
    /// unfit.
    pub fn is_right(fake: &Fake, picked: Option<u32>) -> bool {
        match picked {
            Some(index) => {
                let member = &fake.members[index as usize];
                member.fits.get() && !member.is_lost && fake.claimed.borrow().last() == Some(&index)
            }
            None => fake.members.iter().all(|member| !member.fits.get()),
        }
    }

    proptest! {
        #[test]
        fn in_turn_whoever_can_be_taken_is(fake in fakes(), count: u64) {
            let picked = fake.take_in_turn(count).expect("sound");
            prop_assert!(is_right(&fake, picked), "{picked:?} of {fake:?}");
        }
    }

    #[test]
    fn mixed_numbers_are_below_their_total_and_spread() {
        let mut seen = [0; 7];
        (0..7000).for_each(|count| seen[mixed(count, count % 3, 7) as usize] += 1);
        assert!(seen.iter().all(|&count| (850..1150).contains(&count)), "{seen:?}");
    }

    #[test]
    fn the_turns_of_those_that_are_out_are_shared_out_among_the_others() {
        for (weights, out, shares) in [
            ([1, 1, 1, 1], vec![1], [40, 0, 40, 40]),
            ([1, 1, 1, 1], vec![1, 2], [60, 0, 0, 60]),
            ([1, 1, 1, 1], vec![0, 2], [0, 60, 0, 60]),
            ([2, 1, 1, 1], vec![3], [60, 30, 30, 0]),
        ] {
            let fake = Fake::of_weights(weights);
            out.iter().for_each(|&index: &usize| fake.members[index].fits.set(false));
            (0..120).for_each(|count| assert!(fake.take_in_turn(count).expect("sound").is_some()));
            let taken = |index| fake.claimed.borrow().iter().filter(|&&claimed| claimed == index).count();
            assert_eq!([0, 1, 2, 3].map(taken), shares, "{weights:?} without {out:?}");
        }
    }

    #[test]
    fn a_run_that_is_longer_than_the_walk_hides_nobody() {
        let fake = Fake::of_weights([1; 1000]);
        fake.members.iter().for_each(|member| member.fits.set(false));
        fake.members[777].fits.set(true);
        assert_eq!((fake.take_in_turn(0), fake.take_in_turn(776)), (Ok(Some(777)), Ok(Some(777))));
        assert_eq!(Fake::of_weights([]).take_in_turn(7), Ok(None));
    }
}
