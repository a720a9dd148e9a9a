//! How often to tick. A worker that takes requests begins probes one by one, since requests would wait for a whole batch. One
//! that does not begins them in batches, since waking up for each would cost as much CPU as the probe.

/// Milliseconds between two ticks of a busy worker, and of another one.
const GAPS: (u64, u64) = (1, 10);
/// Upstreams that a tick looks at in a small part of a millisecond.
const UPSTREAMS: u64 = 1000;
/// Milliseconds that it is measured for how much a worker has to do.
const WINDOW: u64 = 100;
/// The CPU time, of these milliseconds, that makes a worker a busy one. Probes of thousands of peers take less.
const BUSY: u64 = 25;

/// The load of a worker of late.
#[derive(Debug, Default)]
pub struct Tick {
    /// The time of the last look, and the time on a CPU that the worker had spent by then; both in milliseconds.
    last: Option<(u64, u64)>,
    is_busy: bool,
}

impl Tick {
    /// Now and then asks how many milliseconds the worker has spent on a CPU.
    pub fn measure(&mut self, now: u64, spent: impl FnOnce() -> u64) {
        if self.last.is_some_and(|(at, _)| now.saturating_sub(at) < WINDOW) {
            return;
        }
        let spent = spent();
        self.is_busy = self.last.is_some_and(|(at, before)| spent.saturating_sub(before) * WINDOW >= (now - at) * BUSY);
        self.last = Some((now, spent));
    }

    /// Milliseconds until the next tick, at least, with so many upstreams to look at.
    pub fn least(&self, upstreams: usize) -> u64 {
        let gap = if self.is_busy { GAPS.0 } else { GAPS.1 };
        gap.max(upstreams as u64 / UPSTREAMS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_spends_a_quarter_of_its_time_on_a_cpu_ticks_every_millisecond() {
        let mut tick = Tick::default();
        let mut least = |now, spent| {
            tick.measure(now, || spent);
            tick.least(1)
        };
        assert_eq!((least(1000, 700), least(1100, 724), least(1200, 749)), (10, 10, 1));
        // Not asked again before the time has come.
        assert_eq!((least(1299, 1 << 40), least(1400, 749 + 49)), (1, 10));
    }

    #[test]
    fn who_has_very_many_upstreams_ticks_less_often() {
        let tick = Tick { last: None, is_busy: true };
        assert_eq!([1, 1999, 2000, 20_000].map(|upstreams| tick.least(upstreams)), [1, 1, 2, 20]);
        assert_eq!(Tick::default().least(20_000), 20);
    }
}
