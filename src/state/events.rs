//! Events of peers: when a peer was taken out or brought back, by which of the three that can do so, and why. The history beside the
//! region has the last ones.

use crate::shm::clock::epoch_ms;
use crate::shm::history::{Event, History, Who};
use crate::shm::{Cells, Damaged, Memory};
use crate::state::verdict::State;
use crate::upstream::Status;

/// The state of a peer in a word, as `status` shows it. The history has the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    /// It gets requests.
    Up = 0,
    /// Probes have it out.
    Unhealthy = 1,
    /// Failures of requests have it out.
    Unavail = 2,
    /// Its operator has it out.
    Down = 3,
    /// Its operator lets it finish its connections.
    Drain = 4,
    /// It is out until probes have found it up, and none has failed. No event leads here.
    Checking = 5,
}

impl Standing {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Up => Status::Up.name(),
            Standing::Unhealthy => "unhealthy",
            Standing::Unavail => "unavail",
            Standing::Down => Status::Down.name(),
            Standing::Drain => Status::Drain.name(),
            Standing::Checking => "checking",
        }
    }
}

impl From<Status> for Standing {
    fn from(status: Status) -> Self {
        match status {
            Status::Up => Standing::Up,
            Status::Down => Standing::Down,
            Status::Drain | Status::Leaving => Standing::Drain,
        }
    }
}

impl From<State> for Standing {
    fn from(state: State) -> Self {
        match state {
            State::Up => Standing::Up,
            State::Down => Standing::Unhealthy,
        }
    }
}

/// The cause of an event. The history has the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// Results of probes.
    Probes = 1,
    /// Results of requests.
    Requests = 2,
    /// A change of the upstream.
    Operator = 3,
}

/// Enters that the peer with this cell went from one state to another. Nothing is refused where the history has no room.
pub fn remember<M: Memory>(
    history: &History<'_, M>,
    cells: &Cells<'_, M>,
    cell: u32,
    [from, to]: [Standing; 2],
    cause: Cause,
    text: String,
) {
    let event = Event { time: epoch_ms(), from: from as u8, to: to as u8, cause: cause as u8, text };
    if let Ok(who) = cells.who(cell) {
        let _ = history.add_event(who, &event);
    }
}

/// The event that led a peer to this state. A peer that is up has one only if its last event says so. A raised limit
/// brings a peer back without an event.
///
/// # Errors
///
/// [`Damaged`]: the history cannot be read.
pub fn that_led_to<M: Memory>(
    history: &History<'_, M>,
    who: Who,
    standing: Standing,
) -> Result<Option<Event>, Damaged> {
    let leads = |event: &Event| event.to == standing as u8;
    let events = history.events(who)?;
    Ok(match standing {
        Standing::Up => events.into_iter().next_back().filter(leads),
        _ => events.into_iter().rfind(leads),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::history::BYTES;
    use crate::shm::mem::tests::scratch;

    #[test]
    fn the_event_is_the_last_that_led_there_and_a_peer_that_is_up_asks_the_last_one_alone() {
        let (mem, who) = (scratch(BYTES), Who::new(1, 1, 0));
        let history = History::over(&mem);
        let led = |standing| that_led_to(&history, who, standing).expect("readable").map(|event| event.text);
        let turn = |from: Standing, to: Standing, text: &str| {
            let event = Event { time: 1, from: from as u8, to: to as u8, cause: 0, text: text.into() };
            history.add_event(who, &event).expect("inside");
        };
        assert_eq!(led(Standing::Up), None);
        turn(Standing::Up, Standing::Unhealthy, "first");
        turn(Standing::Unhealthy, Standing::Up, "back");
        assert_eq!(led(Standing::Up).as_deref(), Some("back"));
        turn(Standing::Up, Standing::Unhealthy, "again");
        turn(Standing::Up, Standing::Down, "by hand");
        assert_eq!(led(Standing::Unhealthy).as_deref(), Some("again"));
        assert_eq!((led(Standing::Down).as_deref(), led(Standing::Unavail)), (Some("by hand"), None));
        assert_eq!(led(Standing::Up), None);
    }
}
