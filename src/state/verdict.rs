//! The result of a peer's probes: whether it is up, and how many results in a row contradict that. One word that all workers
//! share.
//!
//! A peer that is up goes down after `fall` failures in a row, one that is down comes up after `rise` successes in a row. A
//! result that agrees with the state ends the row.

use crate::shm::cells::GENERATION_SHIFT;
use crate::upstream::Check;

/// Up or down, as probes have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// May be picked.
    Up,
    /// May not.
    Down,
}

impl State {
    /// `"up"` or `"down"`.
    pub fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Down => "down",
        }
    }

    /// The kind of the probes that led there.
    pub fn results(self) -> &'static str {
        match self {
            State::Up => "good",
            State::Down => "failed",
        }
    }
}

/// A peer went from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The old state.
    pub from: State,
    /// The new state.
    pub to: State,
    /// After how many results in a row.
    pub after: u8,
}

impl Transition {
    /// The cause, in words: `3 failed probes: refused`.
    pub fn because(self, why: &str) -> String {
        let s = if self.after == 1 { "" } else { "s" };
        format!("{} {} probe{s}: {why}", self.after, self.to.results())
    }
}

const STREAK_SHIFT: u32 = 32;
const DOWN: u64 = 1 << 40;
const JUDGED: u64 = 1 << 41;

/// A word: results since the peer's cell was taken, which wrap : 32 | results in a row that contradict the state : 8 | down : 1 |
/// it was up, or a probe has failed : 1 | not used, 0 : 6 | how often the cell was taken : 16 (low part first).
///
/// Every result makes another word. So a worker that compares and swaps loses no result that another worker stored meanwhile.
///
/// ```
/// use dyups::state::verdict::{Verdict, Transition, State};
/// let (once, change) = Verdict::begin(1, false).after(false, 2, 2);
/// assert_eq!((once.is_down(), change), (false, None));
/// let (twice, change) = once.after(false, 2, 2);
/// assert_eq!((twice.is_down(), change), (true, Some(Transition { from: State::Up, to: State::Down, after: 2 })));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict(pub u64);

impl Verdict {
    /// A peer that was never probed, in a cell that was taken so often. `default_down`: it is down until `rise` successes, else up
    /// until `fall` failures.
    pub fn begin(generation: u16, default_down: bool) -> Verdict {
        Verdict(u64::from(generation) << GENERATION_SHIFT | if default_down { DOWN } else { 0 })
    }

    /// How often the cell was taken.
    pub fn generation(self) -> u16 {
        (self.0 >> GENERATION_SHIFT) as u16
    }

    /// Up or down.
    pub fn state(self) -> State {
        if self.is_down() { State::Down } else { State::Up }
    }

    /// Whether probes have taken the peer out.
    #[inline(always)]
    pub fn is_down(self) -> bool {
        self.0 & DOWN != 0
    }

    /// Whether it was ever up, or a probe of it has failed.
    pub fn is_judged(self) -> bool {
        self.0 & JUDGED != 0
    }

    /// Results in a row that contradict the state.
    pub fn streak(self) -> u8 {
        (self.0 >> STREAK_SHIFT) as u8
    }

    /// Results since the cell was taken. They begin again after 4294967295.
    pub fn results(self) -> u32 {
        self.0 as u32
    }

    /// Whether it is up, and the last result said nothing else.
    pub fn is_steady(self) -> bool {
        !self.is_down() && self.streak() == 0
    }

    /// Milliseconds until the next probe of a peer that fares like this.
    pub fn interval(self, check: &Check) -> u32 {
        if self.is_steady() { check.interval } else { check.interval_down.unwrap_or(check.interval) }
    }

    /// After a probe that ended well or not. A `rise` or `fall` of 0 is 1.
    pub fn after(self, ok: bool, rise: u8, fall: u8) -> (Verdict, Option<Transition>) {
        let down = self.is_down();
        // A peer that has not failed yet, and is on its way up, is not judged.
        let judged = self.is_judged() || !(ok && down);
        if ok != down {
            return (self.with(down, 0, judged), None);
        }
        let streak = self.streak().saturating_add(1);
        if streak < if down { rise } else { fall } {
            return (self.with(down, streak, judged), None);
        }
        let next = self.with(!down, 0, true);
        (next, Some(Transition { from: self.state(), to: next.state(), after: streak }))
    }

    fn with(self, down: bool, streak: u8, judged: bool) -> Verdict {
        let generation = self.0 >> GENERATION_SHIFT << GENERATION_SHIFT;
        let results = u64::from(self.results().wrapping_add(1));
        let down = if down { DOWN } else { 0 };
        let judged = if judged { JUDGED } else { 0 };
        Verdict(generation | judged | down | u64::from(streak) << STREAK_SHIFT | results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The state of a peer by all its results: it remembers everything and counts anew each time.
    struct Model {
        down: bool,
        since: Vec<bool>,
    }

    impl Model {
        fn after(&mut self, ok: bool, rise: u8, fall: u8) -> Option<Transition> {
            self.since.push(ok);
            // A success speaks against down, and a failure against up.
            let row = self.since.iter().rev().take_while(|&&ok| ok == self.down).count();
            let enough = usize::from(if self.down { rise } else { fall }.max(1));
            if row < enough {
                return None;
            }
            let state = |down| if down { State::Down } else { State::Up };
            let change = Transition { from: state(self.down), to: state(!self.down), after: row as u8 };
            self.down = !self.down;
            self.since.clear();
            Some(change)
        }
    }

    fn run(mut verdict: Verdict, results: &str, rise: u8, fall: u8) -> String {
        let mut shown = String::new();
        for result in results.chars() {
            verdict = verdict.after(result == '+', rise, fall).0;
            shown.push(if verdict.is_down() { 'd' } else { 'u' });
        }
        shown
    }

    #[test]
    fn failures_in_a_row_take_it_down_and_successes_bring_it_back() {
        let up = Verdict::begin(1, false);
        assert_eq!(run(up, "+--+---++-+++-", 2, 3), "uuuuuudduuuuuu");
        assert_eq!(run(up, "-+-+", 1, 1), "dudu");
        assert_eq!(run(up, "-+-+", 0, 0), "dudu");
    }

    #[test]
    fn a_peer_that_was_never_probed_is_as_the_operator_says() {
        let (up, down) = (Verdict::begin(1, false), Verdict::begin(1, true));
        assert_eq!((up.is_down(), up.is_judged(), up.is_steady()), (false, false, true));
        assert_eq!((down.is_down(), down.is_judged(), down.is_steady()), (true, false, false));
        assert_eq!((run(up, "--+---", 2, 3), run(down, "-+-++-", 2, 3)), ("uuuuud".to_string(), "dddduu".to_string()));
        assert!(up.after(true, 2, 3).0.is_judged() && down.after(false, 2, 3).0.is_judged());
    }

    #[test]
    fn limits_may_change_under_a_row() {
        let mut verdict = Verdict::begin(1, false);
        (0..5).for_each(|_| verdict = verdict.after(false, 2, 200).0);
        assert_eq!((verdict.streak(), verdict.is_steady()), (5, false));
        let change = verdict.after(false, 2, 3).1;
        assert_eq!(change, Some(Transition { from: State::Up, to: State::Down, after: 6 }));
    }

    #[test]
    fn the_longest_row_ends_too() {
        let mut verdict = Verdict::begin(u16::MAX, true);
        let changed = (0..255).filter(|_| {
            let (next, change) = verdict.after(true, 255, 1);
            verdict = next;
            change.is_some()
        });
        assert_eq!(changed.collect::<Vec<_>>(), [254]);
        assert_eq!((verdict.results(), verdict.generation(), verdict.is_down()), (255, u16::MAX, false));
    }

    #[test]
    fn the_results_wrap_and_touch_nothing_else() {
        let last = Verdict(Verdict::begin(7, true).0 | JUDGED | u64::from(u32::MAX));
        let (next, _) = last.after(false, 2, 3);
        assert_eq!((next.results(), next.generation(), next.is_down(), next.streak()), (0, 7, true, 0));
        assert!(next.is_judged());
    }

    #[test]
    fn a_peer_that_is_down_or_changing_has_an_interval_of_its_own() {
        let check = Check { interval_down: Some(500), ..Check::default() };
        let up = Verdict::begin(1, false);
        let changing = up.after(false, 2, 3).0;
        assert_eq!([up, changing, Verdict::begin(1, true)].map(|verdict| verdict.interval(&check)), [3000, 500, 500]);
        assert_eq!(changing.interval(&Check::default()), 3000);
    }

    proptest! {
        #[test]
        fn it_is_as_the_model_has_it(
            generation: u16, down: bool, rise: u8, fall in 0u8..6,
            results in prop::collection::vec(prop::bool::weighted(0.4), 0..200),
        ) {
            let rise = rise % 6;
            let (mut verdict, mut model) = (Verdict::begin(generation, down), Model { down, since: Vec::new() });
            let mut was_up = !down;
            for (i, &ok) in results.iter().enumerate() {
                let (next, change) = verdict.after(ok, rise, fall);
                prop_assert_eq!(change, model.after(ok, rise, fall));
                prop_assert_eq!(next.is_down(), model.down);
                prop_assert_eq!((next.generation(), next.results() as usize), (generation, i + 1));
                prop_assert!(next != verdict);
                was_up |= !model.down;
                prop_assert_eq!(next.is_judged(), was_up || results[..=i].contains(&false));
                verdict = next;
            }
        }

        #[test]
        fn any_word_has_a_next_one(word: u64, ok: bool, rise: u8, fall: u8) {
            let verdict = Verdict(word);
            let (next, change) = verdict.after(ok, rise, fall);
            prop_assert_eq!(next.generation(), verdict.generation());
            prop_assert_eq!(change.is_some(), next.is_down() != verdict.is_down());
            prop_assert!(next != verdict && (next.is_judged() || ok && next.is_down()));
        }
    }
}
