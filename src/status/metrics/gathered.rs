//! The numbers of a page, as small as the page needs them.

use crate::state::budget::Remembered;
use crate::state::events::Standing;
use crate::stats::histogram::{BUCKETS, last_of};
use crate::stats::section::*;
use crate::stats::totals::{Times, Totals};

/// The limits of histograms, in milliseconds: edges of the buckets in which times are counted, so each count is exact.
pub const LIMITS: [u32; 12] = [7, 15, 31, 63, 127, 255, 511, 1023, 2047, 4095, 16_383, 65_535];

/// Words of totals that have a sample each.
pub const WORDS: [usize; 14] = [
    REQUESTS,
    RETRIES,
    REFUSED_RETRIES,
    FAILED,
    TIMEOUTS,
    REFUSED,
    SENT,
    RECEIVED,
    CONNECTS,
    KEPT,
    UNAVAIL,
    UNHEALTHY,
    PROBES_GOOD,
    PROBES_FAILED,
];

/// One upstream, as it is at one moment.
#[derive(Debug)]
pub struct Gathered {
    pub name: String,
    pub numbers: Numbers,
    /// What its budget of retries remembers.
    pub budget: Remembered,
    pub peers: Vec<Peer>,
    /// Those of all peers, one behind the other: one text is given back faster than one for each peer.
    pub servers: String,
}

impl Gathered {
    /// The server of the peer with this index.
    pub fn server(&self, index: usize) -> &str {
        let begin = index.checked_sub(1).map_or(0, |before| self.peers[before].server_end);
        &self.servers[begin..self.peers[index].server_end]
    }
}

/// A peer of it.
#[derive(Debug)]
pub struct Peer {
    /// Where its server ends in that text.
    pub server_end: usize,
    pub state: Standing,
    pub conns: u64,
    pub weight: u16,
    /// The percentage of it that the peer has, while it is in its slow start.
    pub throttle: Option<u8>,
    /// None where it has had no traffic.
    pub numbers: Option<Box<Numbers>>,
}

/// The numbers of an upstream, or of a peer.
#[derive(Debug)]
pub struct Numbers {
    words: [u64; WORDS.len()],
    pub codes: Box<[(String, u64)]>,
    /// Of header times and response times, where they are asked for.
    pub histograms: Option<Box<[Histogram; 2]>>,
}

/// How many times were up to each of [`LIMITS`].
#[derive(Debug)]
pub struct Histogram {
    pub below: [u64; LIMITS.len()],
    pub times: Times,
}

impl Numbers {
    /// Those of totals.
    pub fn of(totals: &Totals, histograms: bool) -> Numbers {
        let both = || Box::new([totals.header_times(), totals.response_times()].map(Histogram::of));
        Numbers {
            words: WORDS.map(|word| totals.word(word)),
            codes: totals.codes().into(),
            histograms: histograms.then(both),
        }
    }

    /// A word of [`WORDS`].
    pub fn word(&self, word: usize) -> u64 {
        WORDS.iter().position(|&known| known == word).map_or(0, |at| self.words[at])
    }
}

impl Histogram {
    fn of((times, counts): (Times, [u64; BUCKETS])) -> Histogram {
        let up_to = |limit| {
            let within = counts.iter().enumerate().filter(|(at, _)| last_of(*at).is_some_and(|last| last <= limit));
            within.map(|(_, count)| count).sum()
        };
        Histogram { below: LIMITS.map(up_to), times }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_an_edge_of_the_buckets() {
        assert!(LIMITS.iter().all(|&limit| (0..BUCKETS).any(|at| last_of(at) == Some(limit))));
    }
}
