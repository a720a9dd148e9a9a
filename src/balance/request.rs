//! The holdings of a request while it is balanced: the connection that is counted for it, and the peers that it has tried.
//!
//! A request is known by the address of nginx's request. No other request has that address until nginx's own cleanup of it has
//! run. The cleanup ends the entry here, whichever way the request took. So nothing depends on phases that are skipped or
//! contexts that are lost.
//!
//! nginx may be over with the upstream long before: it sends the rest to a slow client, or the request was a subrequest. It
//! calls no code then, but `Watch` shows it. The worker looks ten times a second, and before it refuses a request since all
//! peers are full.

use super::attempt::{Attempt, Counters};
use super::candidates::mixed;
use super::miss::Miss;
use super::outcome::Outcome;
use super::pick::{Ask, Handle, Picked, Tried};
use crate::shm::versioned::TRIES;
use crate::shm::{Damaged, Mem};
use crate::state::budget::{Allowance, Budget, Left};
use crate::stats::ended::Ended;
use crate::stats::place::Places;
use crate::stats::section::REFUSED_RETRIES;
use crate::stats::tally::{Tally, Try};
use crate::table::{Record, Table};
use crate::upstream::Method;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

/// Why a peer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// nginx begins with an upstream: for the first time, or after a redirect inside of nginx.
    First,
    /// The last try failed, and its peer may have had work with it.
    Failed,
    /// The last try failed before there was a connection: no peer had any work with it.
    Unreached,
    /// The last try went over a connection that was kept, and that was dead. This says nothing of the peer.
    Dead,
    /// The last try failed by an answer, which nginx has thrown away: the client would have had that.
    Answered,
    /// The last peer is well, and has answered that another peer is to be asked.
    Declined,
}

/// How often a request may try, and the budget of all of them.
#[derive(Clone, Copy, Debug)]
pub struct Tries {
    /// Most tries of a request; 0: as many as there are peers.
    pub most: u32,
    /// The budget of the upstream.
    pub allowance: Allowance,
}

/// The request for a peer.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a, W> {
    /// Address of nginx's request.
    pub request: usize,
    /// As in [`Ask`].
    pub key: Option<&'a [u8]>,
    /// As in [`Ask`].
    pub method: Option<Method>,
    /// Why the peer is wanted.
    pub why: Why,
    /// How often the request may try.
    pub tries: Tries,
    /// Whether nginx adds a try after one over a kept connection that was dead. If not, it counts that try like any other.
    pub adds_tries: bool,
    /// The number of this try among those that nginx has of the request, if that is known.
    pub number: Option<u32>,
    /// Shows when nginx is over with the upstream. It counts where nginx begins with an upstream, or the request is not held
    /// yet.
    pub watch: W,
}

/// A peer for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The index of the peer.
    pub index: u32,
    /// nginx is to be told that the request may try once more if this fails.
    pub again: bool,
    /// The budget of retries has an effect: a retry is beyond it, or there will be none because of it.
    pub spent: bool,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no peer.
    Miss(Miss),
    /// Too many retries already.
    Budget,
    /// As many tries as it may have.
    Tries,
}

impl From<Miss> for Refused {
    fn from(miss: Miss) -> Self {
        Refused::Miss(miss)
    }
}

impl From<Damaged> for Refused {
    fn from(Damaged: Damaged) -> Self {
        Refused::Miss(Miss::Damaged)
    }
}

/// One request.
#[derive(Debug, Default)]
struct Held<W> {
    /// Shows when nginx is over with the upstream of `trying`.
    watch: W,
    /// The peer of the try that is under way.
    trying: Option<Attempt>,
    tries: u32,
    /// The place of the upstream, once there was a try.
    record: Record,
    /// The number of the change that made that upstream.
    created: u64,
    /// Its last try was over a connection that was dead; so until it has another one.
    was_dead: bool,
    /// It may try once more, and nginx knows.
    again: bool,
    /// nginx was told of another try.
    told: bool,
    /// Its tries over dead connections.
    dead: u32,
    /// From the second try on.
    tried: Option<Box<Tried>>,
}

/// An address is as good as a hash once its low bits, which are alike, have met the others.
#[derive(Debug, Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_usize(byte.into()));
    }

    fn write_usize(&mut self, value: usize) {
        self.0 = (self.0 ^ value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

/// So many requests are looked through at any time. More are looked through for at most a tenth of the time.
const FEW: usize = 256;
const REST: u32 = 9;

/// All requests of a worker that hold something. `W` shows when nginx is over with an upstream.
#[derive(Debug, Default)]
pub struct Requests<W> {
    held: HashMap<usize, Held<W>, BuildHasherDefault<AddressHasher>>,
    /// Until when many of them are not looked through again.
    rest: Option<Instant>,
    /// Their tries that have ended, and are not in the statistics yet.
    tally: Tally,
}

impl<W: Copy + Default> Requests<W> {
    /// Ends the try that is under way, and picks a peer for the next one. `last` answers how that try has ended.
    /// `slot` is that of this worker, if it has one. Without a slot, nothing is counted.
    ///
    /// # Errors
    ///
    /// - [`Refused::Budget`]: the last try failed, and the budget allows no retry.
    /// - [`Refused::Tries`]: nginx tries once more, though the request had no try left.
    /// - [`Refused::Miss`] with [`Miss::AllFull`]: also where other requests have just taken the last places of all
    ///   peers.
    /// - [`Refused::Miss`] with [`Miss::Changing`]: also where 16 picked peers were deleted before they were counted.
    /// - [`Refused::Miss`] with any other: as [`Handle::pick`].
    pub fn next(
        &mut self,
        table: &Table,
        slot: Option<u32>,
        handle: &mut Handle,
        wanted: &Wanted<'_, W>,
        last: impl FnOnce(&Attempt) -> Ended,
        out: &mut Picked,
    ) -> Result<Given, Refused> {
        let Requests { held, tally, .. } = self;
        let held = held.entry(wanted.request).or_insert_with(|| Held { watch: wanted.watch, ..Held::default() });
        let counters = Counters::of(table);
        let unasked = wanted.why != Why::First && held.trying.is_some() && !held.again;
        let was_dead = wanted.why != Why::First && held.was_dead(unasked, wanted);
        held.was_dead = was_dead;
        let allowance = wanted.tries.allowance;
        let mut spent = false;
        if let Some(trying) = held.trying.take() {
            held.settle(&counters, tally, &trying, wanted.why, was_dead, last)?;
            let is_answer = matches!(wanted.why, Why::Answered | Why::Declined);
            if is_answer && held.budget(&counters).left(allowance)? != Left::Some {
                // It goes on nevertheless: nginx has thrown the answer away. The next ones get theirs.
                held.budget(&counters).overdraw()?;
                spent = true;
            }
        }
        if wanted.why == Why::First {
            *held = Held { watch: wanted.watch, ..Held::default() };
        }
        if unasked && !was_dead {
            return Err(Refused::Tries);
        }
        let is_retry = held.tries != 0 && !was_dead;
        // Asked before the pick: it may make this request the one trial of a peer. Not where the client would have had an answer,
        // had this request not been told that it may try again.
        if is_retry && wanted.why == Why::Failed && held.budget(&counters).left(allowance)? != Left::Some {
            held.count_refusal(&counters);
            return Err(Refused::Budget);
        }
        let (index, mut trying) = held.pick(table, &counters, slot, handle, wanted, out)?;
        (trying.number, trying.retry) = (wanted.number, wanted.why != Why::First);
        handle.gave(index);
        (held.trying, held.was_dead) = (Some(trying), false);
        (held.record, held.created) = (trying.account.record, trying.account.created);
        let budget = held.budget(&counters);
        if held.tries == 0 {
            budget.request()?;
        } else if is_retry && wanted.why != Why::Unreached {
            budget.retry()?;
        }
        held.tries += u32::from(!was_dead);
        held.dead += u32::from(was_dead);
        let left = held.more(&budget, &wanted.tries, trying.account.serving)?;
        let again = held.tell(wanted.adds_tries, was_dead);
        Ok(Given { index, again, spent: spent || left == Left::Overdrawn })
    }

    /// Ends the tries that nginx is over with. Before a request is refused too, as `urgently` says: then many requests are looked
    /// through for a tenth of the time only. Whether one has ended.
    pub fn sweep(
        &mut self,
        table: &Table,
        urgently: bool,
        is_over: impl Fn(W) -> bool,
        last: impl Fn(usize, &Attempt) -> Ended,
    ) -> bool {
        let counters = Counters::of(table);
        let begun = (self.held.len() > FEW).then(Instant::now);
        if urgently && begun.is_some_and(|begun| self.rest.is_some_and(|rest| begun < rest)) {
            return false;
        }
        let mut ended = false;
        for (&request, held) in &mut self.held {
            if let Some(trying) = held.trying.take_if(|_| is_over(held.watch)) {
                ended = true;
                let how = last(request, &trying);
                count(&counters, &mut self.tally, &trying, how);
                // The next pick finds the damage.
                let _ = counters.end(&trying, Outcome::from(&how));
            }
        }
        self.rest = begun.map(|begun| Instant::now() + begun.elapsed() * REST);
        ended
    }

    /// Ends the request. `last` answers how its last try has ended.
    pub fn end(&mut self, table: &Table, request: usize, last: impl FnOnce(&Attempt) -> Ended) {
        if let Some(Held { trying: Some(trying), .. }) = self.held.remove(&request) {
            let (counters, how) = (Counters::of(table), last(&trying));
            count(&counters, &mut self.tally, &trying, how);
            // The next pick finds the damage.
            let _ = counters.end(&trying, Outcome::from(&how));
        }
    }

    /// Adds the tries that have ended to the statistics, for about a millisecond. Call it ten times a second. If this `is_last`, each
    /// try is added as soon as it ends from now on.
    pub fn add_statistics(&mut self, table: &Table, is_last: bool) {
        if let Some(places) = Places::of(table.region()) {
            self.tally.flush(&places);
            if is_last {
                self.tally.wait_no_more(&places);
            }
        }
    }

    /// Whether nginx will report the end of this request.
    pub fn holds(&self, request: usize) -> bool {
        self.held.contains_key(&request)
    }

    /// The place of the upstream that this request has tried last.
    pub fn last_upstream(&self, request: usize) -> Option<Record> {
        self.held.get(&request).map(|held| held.record)
    }

    /// How many requests hold something.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// Has a try that has ended counted, if its peer is counted at all.
fn count(counters: &Counters<'_, Mem>, tally: &mut Tally, trying: &Attempt, mut ended: Ended) {
    let account = &trying.account;
    // nginx sets it later where the client has gone.
    let lasted = || u32::try_from(counters.now_ms.saturating_sub(trying.began_ms)).unwrap_or(u32::MAX);
    ended.response_ms.get_or_insert_with(lasted);
    ended.retry = trying.retry;
    if let Some(places) = counters.places.as_ref().filter(|_| account.cell != 0) {
        let (cell, generation) = (account.cell, account.health.generation());
        tally.add(Try { cell, generation, record: account.record, created: account.created, ended }, places);
    }
}

/// Dead connections that a request may meet where nginx counts their tries as others. Elsewhere nginx itself adds a try for each of
/// them.
const MOST_DEAD: u32 = 32;

/// Most turns that a worker waits before it comes back to a peer: 3 µs, as long as a few picks take.
const MOST_TURNS: u64 = 64;

/// Waits for a moment that differs from worker to worker: two that leave a peer to each other must not come back in step.
fn step_aside(slot: Option<u32>, met: usize) {
    let turns = mixed(slot.unwrap_or(u32::MAX).into(), met as u64, MOST_TURNS);
    (0..turns).for_each(|_| std::hint::spin_loop());
}

/// How often a request comes back to peers that it and others have left to each other.
const MEETINGS: usize = 4;

impl<W: Copy> Held<W> {
    /// Whether its last try went over a connection that was kept and is dead. nginx came back, `unasked` or not.
    fn was_dead(&self, unasked: bool, wanted: &Wanted<'_, W>) -> bool {
        // nginx has added a try that was not allowed, and it does so for this one reason. If the last try was the first one,
        // its connection was dead. Of several tries, any may be the one.
        let is_added = wanted.adds_tries && unasked && !self.told && self.tries == 1 && wanted.why == Why::Failed;
        self.was_dead || wanted.why == Why::Dead || is_added
    }

    /// Ends its last try.
    fn settle(
        &mut self,
        counters: &Counters<'_, Mem>,
        tally: &mut Tally,
        trying: &Attempt,
        why: Why,
        was_dead: bool,
        last: impl FnOnce(&Attempt) -> Ended,
    ) -> Result<(), Damaged> {
        let how = if why == Why::First || counters.places.is_some() { last(trying) } else { Ended::default() };
        count(counters, tally, trying, how);
        let last = match why {
            Why::First => Outcome::from(&how),
            _ if was_dead => Outcome::Unknown,
            Why::Failed | Why::Unreached | Why::Dead | Why::Answered => Outcome::Failure,
            Why::Declined => Outcome::Success,
        };
        counters.end(trying, last)?;
        if was_dead {
            counters.give_back_trial(trying)?;
        } else if why != Why::First {
            self.tried.get_or_insert_default().push(trying.account.ident);
        }
        Ok(())
    }

    /// Finds out whether the request may try once more if this try fails, among so many peers that take traffic. Answers the
    /// rest of the budget, if that matters.
    fn more(&mut self, budget: &Budget<'_, Mem>, tries: &Tries, serving: u32) -> Result<Left, Damaged> {
        let most = if tries.most == 0 { u32::MAX } else { tries.most };
        let more = self.tries < most.min(serving);
        let left = if more { budget.left(tries.allowance)? } else { Left::Some };
        self.again = more && left != Left::Overdrawn;
        Ok(left)
    }

    /// Whether nginx is to be told of another try.
    fn tell(&mut self, adds_tries: bool, was_dead: bool) -> bool {
        // nginx has one already where it was told of one and has added one.
        let has = was_dead && self.told && adds_tries;
        self.told = self.again || has || !adds_tries && self.dead < MOST_DEAD;
        self.told && !has
    }

    /// Counts that its budget refuses it a retry.
    fn count_refusal(&self, counters: &Counters<'_, Mem>) {
        if let Some(places) = &counters.places
            && let Ok(Some(section)) = places.of_upstream(self.record, self.created)
        {
            // A spoiled file of statistics costs statistics.
            let _: Result<(), Damaged> = places.sections.add(section, REFUSED_RETRIES, 1);
        }
    }

    /// The budget of the upstream that was picked from last.
    fn budget<'a>(&self, counters: &Counters<'a, Mem>) -> Budget<'a, Mem> {
        self.record.budget(counters.mem, counters.now_ms)
    }

    /// Picks a peer and counts the connection. With a `max_conns`, others may have done so at the same time. Each of them looks
    /// again once it is counted, and picks another peer if there are too many, so that there never are. Where there is no other
    /// peer, it comes back a few times, since the other request may have gone as well.
    fn pick(
        &mut self,
        table: &Table,
        counters: &Counters<'_, Mem>,
        slot: Option<u32>,
        handle: &mut Handle,
        wanted: &Wanted<'_, W>,
        out: &mut Picked,
    ) -> Result<(u32, Attempt), Refused> {
        let mut crowded: Option<Tried> = None;
        let (mut late, mut met) = (0, 0);
        loop {
            let mut tried = crowded.clone().or_else(|| self.tried.as_deref().cloned());
            let ask = Ask { key: wanted.key, method: wanted.method, tried: tried.as_mut(), counts: true };
            let index = match handle.pick(table, ask, true, out) {
                Ok(index) => index,
                Err(Miss::AllTried | Miss::AllFull) if crowded.is_some() && met < MEETINGS => {
                    met += 1;
                    step_aside(slot, met);
                    crowded = None;
                    continue;
                }
                Err(Miss::AllTried) if crowded.is_some() => return Err(Refused::Miss(Miss::AllFull)),
                Err(miss) => return Err(Refused::Miss(miss)),
            };
            let Some(trying) = counters.begin(handle.account(), slot)? else {
                late += 1;
                if late == TRIES {
                    return Err(Refused::Miss(Miss::Changing));
                }
                continue;
            };
            if !counters.is_crowded(&trying)? {
                return Ok((index, trying));
            }
            counters.end(&trying, Outcome::Unknown)?;
            counters.give_back_trial(&trying)?;
            crowded = tried.or_else(|| {
                let mut first = Tried::default();
                first.push(trying.account.ident);
                Some(first)
            });
        }
    }
}
