//! How a try ended, in nginx's numbers.

/// The status that nginx gives a try that timed out.
const TIMED_OUT: u16 = 504;

/// The end of a try. All times count from its beginning, in milliseconds; `None`: it did not get so far.
///
/// ```
/// use dyups::stats::ended::Ended;
/// let refused = Ended { status: 502, ..Ended::default() };
/// assert!(refused.has_failed() && refused.was_refused() && !refused.has_timed_out());
/// let answered = Ended { status: 502, connect_ms: Some(0), header_ms: Some(3), ..Ended::default() };
/// assert!(answered.was_answered() && !answered.has_failed());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// That of the answer, or the one that nginx put in its place; 0: it ended for the client's sake before there was one.
    pub status: u16,
    /// Until there was a connection.
    pub connect_ms: Option<u32>,
    /// Until the header of the answer was there.
    pub header_ms: Option<u32>,
    /// Until its end.
    pub response_ms: Option<u32>,
    /// The connection was one that nginx had kept.
    pub kept: bool,
    /// Another try of the same request came before it.
    pub retry: bool,
    /// Bytes sent to the peer.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
}

impl Ended {
    /// The peer answered.
    pub fn was_answered(&self) -> bool {
        self.header_ms.is_some()
    }

    /// The peer did not answer, and that was not the client's doing.
    pub fn has_failed(&self) -> bool {
        !self.was_answered() && self.status != 0
    }

    /// It failed since it took too long.
    pub fn has_timed_out(&self) -> bool {
        self.has_failed() && self.status == TIMED_OUT
    }

    /// It failed before there was a connection, and not by time: the peer refused, or could not be reached.
    pub fn was_refused(&self) -> bool {
        self.has_failed() && self.connect_ms.is_none() && self.status != TIMED_OUT
    }
}
