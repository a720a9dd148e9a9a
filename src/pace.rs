//! How far a long work goes on before it lets nginx serve other requests.

use std::time::{Duration, Instant};

/// The longest slice, of the 5 ms for which a worker may be held. The rest is for the caller, which sends the slice.
const LONGEST: Duration = Duration::from_millis(2);
/// The clock is read once in so many steps.
const STEPS_A_LOOK: u32 = 16;

/// The length of one slice: so many steps, and two milliseconds at most. A step is the work on one peer, or as much.
///
/// ```
/// use dyups::pace::Pace;
/// let mut pace = Pace::of(2);
/// assert!(pace.step() && pace.step() && !pace.step());
/// assert!((0..1_000_000).all(|_| Pace::of(0).step()), "the whole");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    left: u32,
    looks: u32,
    until: Option<Instant>,
}

impl Pace {
    /// A slice of `peers` steps. 0: the whole work, however long that takes.
    pub fn of(peers: u32) -> Pace {
        match peers {
            0 => Pace::unlimited(),
            _ => Pace { left: peers, looks: STEPS_A_LOOK, until: Some(Instant::now() + LONGEST) },
        }
    }

    /// The whole work.
    pub fn unlimited() -> Pace {
        Pace { left: 0, looks: 0, until: None }
    }

    /// Takes so many more steps of those that are left: the last one was more work than others.
    pub fn spend(&mut self, steps: u32) {
        self.left = self.left.saturating_sub(steps);
    }

    /// Takes a step; `false`: the slice is over, and there is none left. A slice has one step at least.
    pub fn step(&mut self) -> bool {
        let Some(until) = self.until else { return true };
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.looks -= 1;
        if self.looks == 0 {
            self.looks = STEPS_A_LOOK;
            if Instant::now() >= until {
                self.left = 0;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_over_in_time_however_many_steps_it_may_have() {
        let (begun, mut steps) = (Instant::now(), 0);
        let mut pace = Pace::of(u32::MAX);
        while pace.step() {
            steps += 1;
        }
        assert!(begun.elapsed() >= LONGEST && steps >= STEPS_A_LOOK);
    }
}
