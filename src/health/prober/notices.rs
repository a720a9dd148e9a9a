//! Notices of the probes, until the caller reads them.

use crate::state::verdict::Transition;
use std::collections::VecDeque;
use std::fmt;

/// The most events that wait to be read: more than one probe can cause. A caller that does not read loses the oldest.
const MOST: usize = 1 << 16;

/// An event for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A peer has come up or gone down.
    Peer(PeerEvent),
    /// A setting cannot work as the operator has it.
    Warning(String),
}

/// A peer has come up or gone down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEvent {
    /// Its upstream.
    pub upstream: String,
    /// Its address, as written.
    pub server: String,
    /// The states before and after, and the number of results in a row that led there.
    pub change: Transition,
    /// The result of the last probe.
    pub why: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Warning(text) => f.write_str(text),
            Notice::Peer(PeerEvent { upstream, server, change, why }) => {
                let (from, to, because) = (change.from.name(), change.to.name(), change.because(why));
                write!(f, "upstream {upstream}: peer {server} went from {from} to {to} after {because}")
            }
        }
    }
}

/// Notices in the order in which they came.
#[derive(Debug, Default)]
pub struct Notices(VecDeque<Notice>);

impl Notices {
    /// Adds a notice.
    pub fn add(&mut self, event: Notice) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }

    /// Takes the oldest notice.
    pub fn next(&mut self) -> Option<Notice> {
        self.0.pop_front()
    }
}
