//! The work of a process beside a stopped one, and its cost.

use super::support::memory;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Default)]
pub struct Work {
    pub done: u64,
    /// How often it was told that another process is writing.
    pub busy: u64,
    /// The longest that one call took.
    pub slowest: Duration,
    /// Most granules that were in use after a change.
    pub most_used: u64,
    /// Its private memory in KiB at the end.
    pub private: u64,
    /// The last message of those that sent it away.
    pub message: String,
}

impl Work {
    /// Calls `step` a thousand times a second for so many milliseconds, and measures it.
    pub fn of(millis: u64, mut step: impl FnMut(u64, &mut Work)) -> Work {
        let (mut work, begun, end) = (Work::default(), Instant::now(), Duration::from_millis(millis));
        for round in 0.. {
            let due = Duration::from_millis(round);
            if due >= end || begun.elapsed() >= end {
                break;
            }
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            let called = Instant::now();
            step(round, &mut work);
            work.slowest = work.slowest.max(called.elapsed());
        }
        work.private = memory::private(std::process::id());
        work
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Work { done, busy, slowest, most_used, private, message } = self;
        write!(f, "{done} {busy} {} {most_used} {private} {message}", slowest.as_micros())
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(line: &str) -> Result<Work, String> {
        let fields: Vec<&str> = line.splitn(6, ' ').collect();
        let [done, busy, slowest, most_used, private, message] = fields[..] else { return Err(line.into()) };
        let number = |field: &str| field.parse::<u64>().map_err(|error| format!("{field}: {error}"));
        Ok(Work {
            done: number(done)?,
            busy: number(busy)?,
            slowest: Duration::from_micros(number(slowest)?),
            most_used: number(most_used)?,
            private: number(private)?,
            message: message.to_owned(),
        })
    }
}
