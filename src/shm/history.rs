//! The history beside a region: the last changes of upstreams, and the last events of each peer. Operators read
//! it. No other part depends on it, and a lost file costs no table.
//!
//! Any process writes, at any time, without a lock. An entry begins with a *seal*: its number, and a checksum over all of it. A writer
//! takes a number by one addition, stores a seal that fits nothing, the words, and the seal. Where two writers meet in one entry, or
//! one dies in it, the seal does not fit, and readers pass the entry over.
//!
//! The file is sparse. A bit says which part of it was ever written, and readers touch no other: a look at an untouched page takes
//! memory too.

use super::memory::{Damaged, Memory};
use super::packed;
use super::units::{PAGE, TITLE_WORDS, WORD};
use super::versioned::TRIES;
use crate::checksum::Checksum;

/// First word of the file.
const MAGIC: u64 = u64::from_le_bytes(*b"dyups\0hi");
/// Layout number of this file alone. A file with another number is made anew.
const LAYOUT: u64 = 1;

/// The words that tell whose history this is: of the region with this inode, in this boot.
pub fn title(region: u64, boot: [u64; 2]) -> [u64; TITLE_WORDS] {
    [MAGIC, LAYOUT, BYTES as u64, region, boot[0], boot[1]]
}

/// Words of the header.
mod header {
    /// [`super::title`].
    pub const TITLE: usize = 0;
    /// How many changes there ever were.
    pub const CHANGES: usize = 8;
    /// One bit for each set of peers: it was written.
    pub const SETS: usize = 16;
    /// Words of the header.
    pub const WORDS: usize = super::PAGE / super::WORD;
}

/// Changes in the ring.
pub const CHANGES: usize = 4096;
/// Events of a peer.
pub const EVENTS: usize = 16;
/// Peers of a set. The peer with the oldest last event makes room for a new one.
const WAYS: usize = 8;
/// Sets of peers.
const SETS: usize = 480;

/// Words of a change.
mod change {
    // Its first word is the seal: checksum : 32 | number : 32 (low half first).

    /// Milliseconds since the epoch.
    pub const TIME: usize = 1;
    /// The versions before and after.
    pub const BEFORE: usize = 2;
    pub const AFTER: usize = 3;
    /// Bytes of the three texts, a byte each.
    pub const LENS: usize = 4;
    pub const NAME: usize = 5;
    pub const BY: usize = NAME + 32;
    pub const SUMMARY: usize = BY + 8;
    pub const END: usize = SUMMARY + 16;
    /// Words from one to the next.
    pub const STEP: usize = 64;
}

/// Words of an event.
mod event {
    /// As of a change.
    pub const SEAL: usize = 0;
    /// Milliseconds since the epoch.
    pub const TIME: usize = 1;
    /// From : 8 | to : 8 | cause : 8 | bytes of the text : 8 (low part first).
    pub const WHAT: usize = 2;
    pub const TEXT: usize = 3;
    /// Words from one to the next.
    pub const STEP: usize = TEXT + 8;
}

/// Words of a peer.
mod peer {
    use super::{EVENTS, event};

    /// Its cell : 32 | how often that was taken : 16 | how often that came back : 16 (low part first). 0: no peer.
    pub const WHO: usize = 0;
    /// How many events it ever had, or that another one had before it.
    pub const EVENTS_EVER: usize = 1;
    pub const FIRST: usize = 2;
    pub const WORDS: usize = FIRST + EVENTS * event::STEP;
}

const SETS_AT: usize = header::WORDS + CHANGES * change::STEP;
const SET: usize = WAYS * peer::WORDS;

/// Bytes of the file: less than 8 MiB.
pub const BYTES: usize = ((SETS_AT + SETS * SET) * WORD).next_multiple_of(PAGE);
const _: () = assert!(BYTES <= 8 << 20);

/// A change of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Milliseconds since the epoch.
    pub time: u64,
    /// The upstream.
    pub name: String,
    /// The origin of the change, 64 bytes of it.
    pub by: String,
    /// The versions before and after; 0: there was none, or there is none any more.
    pub versions: [u64; 2],
    /// Its effect in words, 128 bytes of it.
    pub summary: String,
}

/// An event of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds since the epoch.
    pub time: u64,
    /// Numbers of the states before and after.
    pub from: u8,
    /// See [`Event::from`].
    pub to: u8,
    /// Number of the cause.
    pub cause: u8,
    /// The cause in words, 64 bytes of it.
    pub text: String,
}

impl Event {
    fn of(words: &[u64; event::STEP]) -> Event {
        let part = |nth: u32| (words[event::WHAT] >> (8 * nth)) as u8;
        let text = text(&words[event::TEXT..], part(3));
        Event { time: words[event::TIME], from: part(0), to: part(1), cause: part(2), text }
    }
}

/// A peer, told from all others that its cell ever has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who(u64);

impl Who {
    /// As one word.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The peer with this cell, which was taken and came back so often.
    pub fn new(cell: u32, generation: u16, returns: u64) -> Who {
        Who(u64::from(cell) | u64::from(generation) << 32 | returns << 48)
    }
}

/// The history in a memory.
#[derive(Debug)]
pub struct History<'a, M> {
    mem: &'a M,
}

impl<'a, M: Memory> History<'a, M> {
    /// The history in `mem`.
    pub fn over(mem: &'a M) -> Self {
        History { mem }
    }

    /// Writes the header of a new file, in which all else is 0.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the title does not fit into the memory.
    pub fn write_header(&self, title: &[u64]) -> Result<(), Damaged> {
        self.mem.store_all(header::TITLE, title)
    }

    /// Adds a change. Where there is no memory for it, it is lost.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn add_change(&self, new: &Change) -> Result<(), Damaged> {
        let number = self.mem.add(header::CHANGES, 1)?;
        let mut words = [0; change::END];
        words[change::TIME] = new.time;
        (words[change::BEFORE], words[change::AFTER]) = (new.versions[0], new.versions[1]);
        let name = pack(&new.name, &mut words[change::NAME..change::BY]);
        let by = pack(&new.by, &mut words[change::BY..change::SUMMARY]);
        let summary = pack(&new.summary, &mut words[change::SUMMARY..]);
        words[change::LENS] = name | by << 8 | summary << 16;
        self.write(header::WORDS + number as usize % CHANGES * change::STEP, 0, number, &mut words)
    }

    /// The last changes, the oldest first.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn changes(&self) -> Result<Vec<Change>, Damaged> {
        let count = self.mem.load(header::CHANGES)?;
        let mut all = Vec::new();
        for number in count.saturating_sub(CHANGES as u64)..count {
            let mut words = [0; change::END];
            if !self.read(header::WORDS + number as usize % CHANGES * change::STEP, 0, Some(number), &mut words)? {
                continue;
            }
            let len = |nth: u32| (words[change::LENS] >> (8 * nth)) as u8;
            all.push(Change {
                time: words[change::TIME],
                name: text(&words[change::NAME..change::BY], len(0)),
                by: text(&words[change::BY..change::SUMMARY], len(1)),
                versions: [words[change::BEFORE], words[change::AFTER]],
                summary: text(&words[change::SUMMARY..], len(2)),
            });
        }
        Ok(all)
    }

    /// Adds an event of a peer. Where there is no memory for it, it is lost.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn add_event(&self, who: Who, new: &Event) -> Result<(), Damaged> {
        let set = set_of(who);
        if self.mem.reserve(SETS_AT + set * SET, SET).is_err() {
            return Ok(());
        }
        self.say_written(set)?;
        let Some(at) = self.place_of(who, set)? else { return Ok(()) };
        let number = self.mem.add(at + peer::EVENTS_EVER, 1)?;
        let mut words = [0; event::STEP];
        words[event::TIME] = new.time;
        let len = pack(&new.text, &mut words[event::TEXT..]);
        words[event::WHAT] = u64::from(new.from) | u64::from(new.to) << 8 | u64::from(new.cause) << 16 | len << 24;
        self.write(at + peer::FIRST + number as usize % EVENTS * event::STEP, who.0, number, &mut words)
    }

    /// The last events of a peer, the oldest first.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn events(&self, who: Who) -> Result<Vec<Event>, Damaged> {
        Ok(self.entries(who)?.iter().map(Event::of).collect())
    }

    fn entries(&self, who: Who) -> Result<Vec<[u64; event::STEP]>, Damaged> {
        let set = set_of(who);
        let is_written = self.mem.load(header::SETS + set / 64)? >> (set % 64) & 1 == 1;
        if !is_written || self.mem.reserve(SETS_AT + set * SET, SET).is_err() {
            return Ok(Vec::new());
        }
        for at in places(set) {
            if self.mem.load_acquire(at + peer::WHO)? == who.0 {
                return self.entries_at(at, who);
            }
        }
        Ok(Vec::new())
    }

    /// The events of a peer in this place, the oldest first.
    fn entries_at(&self, at: usize, who: Who) -> Result<Vec<[u64; event::STEP]>, Damaged> {
        let mut all = Vec::new();
        for nth in 0..EVENTS {
            let mut words = [0; event::STEP];
            if self.read(at + peer::FIRST + nth * event::STEP, who.0, None, &mut words)? {
                all.push(words);
            }
        }
        all.sort_by_key(|words| words[event::SEAL] >> 32);
        Ok(all)
    }

    /// The place of a peer in its set. A peer without one takes a free one now, or that of the peer with the oldest last event.
    /// `None`: another process has just taken that.
    fn place_of(&self, who: Who, set: usize) -> Result<Option<usize>, Damaged> {
        let mut best: Option<(u64, usize, u64)> = None;
        for at in places(set) {
            let other = self.mem.load_acquire(at + peer::WHO)?;
            if other == who.0 {
                best = Some((0, at, other));
                break;
            }
            let last = match other {
                0 => 0,
                _ => self.entries_at(at, Who(other))?.last().map_or(0, |words| words[event::TIME]),
            };
            if best.is_none_or(|(least, ..)| last < least) {
                best = Some((last, at, other));
            }
        }
        let Some((_, at, other)) = best else { return Ok(None) };
        // The events of the other peer are no events of this one: their seals are over the peer too.
        Ok(self.mem.replace(at + peer::WHO, other, who.0)?.then_some(at))
    }

    fn say_written(&self, set: usize) -> Result<(), Damaged> {
        let (at, bit) = (header::SETS + set / 64, 1 << (set % 64));
        // A try is in vain where another process sets a bit of the same word.
        for _ in 0..TRIES {
            let old = self.mem.load(at)?;
            if self.mem.replace(at, old, old | bit)? {
                break;
            }
        }
        Ok(())
    }

    /// Writes an entry of this number; `whose` is its peer, or 0. Its seal is its first word.
    fn write(&self, at: usize, whose: u64, number: u64, words: &mut [u64]) -> Result<(), Damaged> {
        if self.mem.reserve(at, words.len()).is_err() {
            return Ok(());
        }
        let number = number as u32;
        words[0] = seal(whose, number, &words[1..]);
        self.mem.store(at, !words[0])?;
        // No store of the entry may come before this one.
        self.mem.fence();
        self.mem.store_all(at + 1, &words[1..])?;
        self.mem.publish(at, words[0])
    }

    /// Reads an entry; whether it is whole, and has this number.
    fn read(&self, at: usize, whose: u64, number: Option<u64>, words: &mut [u64]) -> Result<bool, Damaged> {
        if self.mem.reserve(at, words.len()).is_err() {
            return Ok(false);
        }
        self.mem.load_all(at, words)?;
        let own = (words[0] >> 32) as u32;
        let is_it = number.is_none_or(|number| number as u32 == own);
        Ok(is_it && words[0] == seal(whose, own, &words[1..]) && words[1] != 0)
    }
}

fn set_of(Who(who): Who) -> usize {
    // By the cell alone, so that the next peer with it finds the place of the last one.
    who as u32 as usize % SETS
}

fn places(set: usize) -> impl Iterator<Item = usize> {
    (0..WAYS).map(move |way| SETS_AT + set * SET + way * peer::WORDS)
}

fn seal(whose: u64, number: u32, words: &[u64]) -> u64 {
    let mut all = [0; change::END + 1];
    (all[0], all[1]) = (whose, number.into());
    all[2..][..words.len()].copy_from_slice(words);
    u64::from(Checksum::of(&all[..2 + words.len()])) | u64::from(number) << 32
}

/// As much of a text as there is room for, whole characters; how many bytes that are.
fn pack(text: &str, words: &mut [u64]) -> u64 {
    let most = (words.len() * WORD).min(u8::MAX.into());
    let end = (0..=text.len().min(most)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    packed::pack(&text.as_bytes()[..end], words)
}

/// A text of so many bytes. A hostile worker may have written it.
fn text(words: &[u64], len: u8) -> String {
    String::from_utf8_lossy(&packed::unpack(words, len.into())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::mem::Mem;
    use crate::shm::mem::tests::scratch;
    use proptest::prelude::*;

    fn change(number: u64) -> Change {
        Change {
            time: 1 + number,
            name: format!("upstream {number}"),
            by: "Lua (\"deploy\")".into(),
            versions: [number, number + 1],
            summary: format!("{number} -> 3 peers"),
        }
    }

    fn event(time: u64) -> Event {
        Event { time, from: 0, to: 1, cause: 1, text: format!("refused {time}") }
    }

    #[test]
    fn the_last_changes_are_there_in_their_order() {
        let mem = scratch(BYTES);
        let history = History::over(&mem);
        assert_eq!(history.changes(), Ok(vec![]));
        (0..5000).for_each(|number| history.add_change(&change(number)).expect("inside"));
        assert_eq!(history.changes(), Ok((5000 - CHANGES as u64..5000).map(change).collect()));
    }

    #[test]
    fn the_last_events_of_a_peer_are_there_and_no_other_s() {
        let mem = scratch(BYTES);
        let history = History::over(&mem);
        let (one, next) = (Who::new(7, 1, 0), Who::new(7, 2, 0));
        (1..=40).for_each(|time| history.add_event(one, &event(time)).expect("inside"));
        assert_eq!(history.events(one), Ok((25..=40).map(event).collect()));
        assert_eq!(history.events(next), Ok(vec![]));
        // Peers with the same set, of which the one with the oldest last event makes room.
        for nth in 0..WAYS as u64 {
            let who = Who::new(7 + (SETS as u32) * (nth as u32 + 1), 1, 0);
            history.add_event(who, &event(100 + nth)).expect("inside");
            assert_eq!(history.events(who), Ok(vec![event(100 + nth)]));
        }
        assert_eq!(history.events(one), Ok(vec![]));
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_half_an_entry_is_none() {
        let mem = scratch(BYTES);
        let history = History::over(&mem);
        let long = Change { name: "x".repeat(255), by: "ö".repeat(99), summary: "-".repeat(999), ..change(1) };
        history.add_change(&long).expect("inside");
        let cut = Change { by: "ö".repeat(32), summary: "-".repeat(128), ..long };
        assert_eq!(history.changes(), Ok(vec![cut]));
        mem.store(header::WORDS + change::SUMMARY, 7).expect("inside");
        assert_eq!(history.changes(), Ok(vec![]));
    }

    #[test]
    fn a_look_at_peers_without_events_touches_nothing() {
        let mem = scratch(PAGE);
        // Any touch behind the first page would be outside.
        let history = History::over(&mem);
        assert!((1..9999).all(|cell| history.events(Who::new(cell, 1, 0)) == Ok(vec![])));
        assert_eq!(history.changes(), Ok(vec![]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn whatever_was_spoiled_there_is_an_answer_and_the_next_entry_is_there(
            spoiled in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..50),
            header in prop::collection::vec((0..header::SETS + 8, any::<u64>()), 0..9),
        ) {
            let mem = scratch(BYTES);
            let history = History::over(&mem);
            (0..20).for_each(|number| history.add_change(&change(number)).expect("inside"));
            (1..20).for_each(|cell| history.add_event(Who::new(cell, 1, 0), &event(9)).expect("inside"));
            spoiled.iter().for_each(|(at, value)| mem.store(at.index(BYTES / WORD), *value).expect("inside"));
            header.iter().for_each(|&(at, value)| mem.store(at, value).expect("inside"));
            prop_assert!(history.changes().expect("an answer").len() <= CHANGES);
            prop_assert!((1..20).all(|cell| history.events(Who::new(cell, 1, 0)).is_ok_and(|events| events.len() <= EVENTS)));
            history.add_event(Who::new(3, 1, 0), &event(77)).expect("inside");
            prop_assert!(history.events(Who::new(3, 1, 0)).expect("an answer").contains(&event(77)));
        }
    }

    #[test]
    fn processes_that_write_at_once_lose_nothing_but_what_they_wrote_over() {
        let mem: &Mem = &scratch(BYTES);
        std::thread::scope(|scope| {
            for thread in 0..2 {
                scope.spawn(move || {
                    let history = History::over(mem);
                    (0..3000).for_each(|nth| history.add_change(&change(thread * 10_000 + nth)).expect("inside"));
                });
            }
        });
        let all = History::over(mem).changes().expect("readable");
        assert!(all.len() == CHANGES && all.iter().all(|entry| *entry == change(entry.versions[0])));
    }
}
