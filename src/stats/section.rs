//! The words of a section: the totals of one peer, or of one upstream. Each only grows, but for those that say so.

use super::histogram::BUCKETS;
use crate::shm::sections::{SIDE_BY_SIDE, UNIT};

/// Tries that have ended.
pub const REQUESTS: usize = 0;
/// Of these: the peer did not answer.
pub const FAILED: usize = 1;
/// Of these: by time.
pub const TIMEOUTS: usize = 2;
/// Of these: there was no connection, and not by time.
pub const REFUSED: usize = 3;
/// Bytes sent and received.
pub const SENT: usize = 4;
/// See [`SENT`].
pub const RECEIVED: usize = 5;
/// When the peer was last picked for a try that has ended by now, in milliseconds since the epoch. The greatest.
pub const SELECTED: usize = 6;
/// Milliseconds until headers, in all, and the longest.
pub const HEADER_SUM: usize = 7;
/// See [`HEADER_SUM`].
pub const HEADER_MAX: usize = 8;
/// The same until the ends of responses.
pub const RESPONSE_SUM: usize = 9;
/// See [`RESPONSE_SUM`].
pub const RESPONSE_MAX: usize = 10;
/// New connections, and milliseconds until they were made, in all, and the longest.
pub const CONNECTS: usize = 11;
/// See [`CONNECTS`].
pub const CONNECT_SUM: usize = 12;
/// See [`CONNECTS`].
pub const CONNECT_MAX: usize = 13;
/// Tries over connections that nginx had kept.
pub const KEPT: usize = 14;
/// How often failed requests took the peer out.
pub const UNAVAIL: usize = 15;
/// How often probes took it out.
pub const UNHEALTHY: usize = 16;
/// Since when it is out, in milliseconds since the epoch; 0: it is not. It goes up and down.
pub const DOWN_SINCE: usize = 17;
/// Milliseconds for which it was out, without those since [`DOWN_SINCE`].
pub const DOWNTIME: usize = 18;
/// Probes that succeeded.
pub const PROBES_GOOD: usize = 19;
/// Probes that failed.
pub const PROBES_FAILED: usize = 20;
/// Of the section of an upstream: the number of the change that made it. It is stored once.
pub const CREATED: usize = 21;
/// Tries after another one of the same request.
pub const RETRIES: usize = 22;
/// Of the section of an upstream: retries that its budget refused.
pub const REFUSED_RETRIES: usize = 23;
/// First of the answers by class: 1xx to 5xx, and others. Those whose status has a word of its own are not among them.
pub const CLASSES: usize = 32;
/// How many classes there are.
pub const CLASS_COUNT: usize = 6;
/// First of the answers by status: status : 16 | answers : 48 (high part first). 0: no status has this word yet.
pub const CODES: usize = 40;
/// How many statuses have words of their own.
pub const CODE_COUNT: usize = 16;
/// First bucket of times until headers.
pub const HEADER_TIMES: usize = 56;
/// First bucket of times until the ends of responses.
pub const RESPONSE_TIMES: usize = HEADER_TIMES + BUCKETS;
/// Words in all.
pub const END: usize = RESPONSE_TIMES + BUCKETS;
const _: () = assert!(END <= UNIT && span::END <= SIDE_BY_SIDE * UNIT);

/// Words that hold the greatest number, and no sum.
pub const GREATEST: [usize; 4] = [SELECTED, HEADER_MAX, RESPONSE_MAX, CONNECT_MAX];

/// Bits of the answers in a word of [`CODES`].
pub const CODE_SHIFT: u32 = 48;

/// The class of a status, as an index from [`CLASSES`] on.
pub fn class(status: u16) -> usize {
    match status {
        100..=599 => status as usize / 100 - 1,
        _ => CLASS_COUNT - 1,
    }
}

/// What an upstream has behind its totals: its last 60 seconds, and its last 60 minutes.
pub mod span {
    /// First word of the first second.
    pub const FIRST: usize = super::END.next_multiple_of(8);
    /// Seconds, and minutes.
    pub const COUNT: usize = 60;
    /// Words of one.
    pub const WORDS: usize = 8;

    /// Which second or minute since the epoch this is.
    pub const STAMP: usize = 0;
    /// As the totals.
    pub const REQUESTS: usize = 1;
    /// As the totals.
    pub const FAILED: usize = 2;
    /// Answers 1xx and 2xx : 32 | 3xx : 32 (low part first).
    pub const UP_TO_3XX: usize = 3;
    /// Answers 4xx : 32 | 5xx and others : 32 (low part first).
    pub const FROM_4XX: usize = 4;
    /// As the totals.
    pub const HEADER_SUM: usize = 5;
    /// As the totals.
    pub const RESPONSE_SUM: usize = 6;
    /// Headers, and responses that have ended : 32 each (low part first).
    pub const TIMES: usize = 7;

    /// Words in all.
    pub const END: usize = FIRST + 2 * COUNT * WORDS;
}
