//! Why a pick finds no peer.

use crate::shm::Damaged;
use crate::shm::versioned::Unread;

/// Why there is no peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No upstream has this name.
    NotFound,
    /// It has no peer that configuration lets pick.
    NoPeer,
    /// All that can be picked have been tried.
    AllTried,
    /// All that can be picked have as many connections open as they may.
    AllFull,
    /// chash would take too long without a ring, and there is none.
    NoRing,
    /// The table changed under the reader too often.
    Changing,
    /// The region does not make sense.
    Damaged,
}

impl From<Damaged> for Miss {
    fn from(Damaged: Damaged) -> Self {
        Miss::Damaged
    }
}

impl From<Unread> for Miss {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Changing => Miss::Changing,
            Unread::Damaged => Miss::Damaged,
        }
    }
}
