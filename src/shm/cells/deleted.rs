//! Peers that were deleted while connections were open to them: their names, beside the cells, which go on counting.
//!
//! A fixed number of *entries* lies behind the rows. Only the writer makes one, under the writer lock, between the store that ends
//! the peer and the store that gives its cell back. An entry names the cell and how often that was taken. So it ends by itself: with
//! the last connection, or when another peer has the cell. No process has to clear it away. A new entry takes the place of one that
//! has ended, or else of the oldest.
//!
//! An entry begins with a *stamp*: 0 while the entry is written, and then a number that no other entry has. A reader looks at the
//! stamp before and after. So a writer that dies in the middle leaves an entry that is not shown.
//!
//! Two kinds of connections are counted and not shown. The first are those to a peer whose writer died before it had made the
//! entry. The second is a request that had picked the peer and had not counted itself when the peer was deleted, if no other was
//! connected.

use super::Cells;
use super::words::header;
use crate::shm::memory::{Damaged, Memory};
use crate::shm::packed::{pack, unpack};
use crate::shm::units::WORD;

/// Most entries.
pub const ENTRIES: usize = 256;
/// Words of an entry: eight of them are a page.
pub const ENTRY: usize = 64;
/// Bytes of the longest name of an upstream.
pub const MAX_NAME: usize = 255;
/// Bytes of the longest text of a peer.
pub const MAX_SERVER: usize = 120;

/// Words of an entry.
mod word {
    use super::{MAX_NAME, MAX_SERVER, WORD};

    /// Which entry it is; 0: it is being written, or was never written.
    pub const STAMP: usize = 0;
    /// Cell : 32 | how often that was taken : 16 | bytes of the name : 8 | bytes of the peer's text : 8 (low part first).
    pub const WHO: usize = 1;
    /// How often the cell came back.
    pub const RETURNS: usize = 2;
    /// The name, and behind its last whole word the text.
    pub const NAME: usize = 3;
    pub const SERVER: usize = NAME + MAX_NAME.div_ceil(WORD);
    pub const END: usize = SERVER + MAX_SERVER.div_ceil(WORD);
}

const _: () = assert!(word::END <= ENTRY);

/// A peer that was deleted, and the connections that are still open to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The name of its upstream.
    pub upstream: String,
    /// Its address.
    pub server: String,
    /// Connections that all workers have open to it.
    pub conns: u64,
}

/// A peer that is to be remembered.
#[derive(Clone, Debug)]
pub struct Removed {
    /// Its cell, which is given back next.
    pub cell: u32,
    /// Its address, at most [`MAX_SERVER`] bytes.
    pub server: Vec<u8>,
}

/// An entry as it was read.
struct Entry {
    stamp: u64,
    words: [u64; ENTRY],
}

impl Entry {
    fn cell(&self) -> u32 {
        self.words[word::WHO] as u32
    }

    fn generation(&self) -> u16 {
        (self.words[word::WHO] >> 32) as u16
    }

    fn upstream(&self) -> Option<String> {
        text(&self.words[word::NAME..word::SERVER], (self.words[word::WHO] >> 48) as u8)
    }

    fn server(&self) -> Option<String> {
        text(&self.words[word::SERVER..word::END], (self.words[word::WHO] >> 56) as u8)
    }
}

/// Text of `len` bytes in these words, if it is one: a hostile worker may have written there.
fn text(words: &[u64], len: u8) -> Option<String> {
    if len == 0 || usize::from(len) > words.len() * WORD {
        return None;
    }
    String::from_utf8(unpack(words, len.into())).ok().filter(|text| !text.chars().any(char::is_control))
}

/// A stamp of an entry that is being written.
const WRITING: u64 = 1 << 63;

/// The entries beside these cells.
#[derive(Debug)]
pub struct Ledger<'a, M> {
    cells: Cells<'a, M>,
    mem: &'a M,
}

impl<'a, M: Memory> Ledger<'a, M> {
    /// The entries beside `cells`.
    pub fn of(cells: Cells<'a, M>) -> Self {
        Ledger { cells, mem: cells.mem }
    }

    /// How many entries there ever were.
    fn count(&self) -> Result<u64, Damaged> {
        self.mem.load(header::DELETED)
    }

    fn set_count(&self, count: u64) -> Result<(), Damaged> {
        self.mem.amend(header::DELETED, self.count()?.max(count))
    }

    fn at(&self, slot: usize) -> usize {
        self.cells.plan.deleted_at() + slot * ENTRY
    }

    /// How many entries were ever written: those behind them have no memory.
    fn used(&self) -> Result<usize, Damaged> {
        Ok(self.count()?.min(ENTRIES as u64) as usize)
    }

    /// All peers to which connections are still open, in the order in which they were deleted.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn all(&self) -> Result<Vec<Deleted>, Damaged> {
        let mut entries = Vec::new();
        for slot in 0..self.used()? {
            entries.extend(self.read(slot)?);
        }
        entries.sort_by_key(|entry| entry.stamp);
        let mut all = Vec::new();
        for entry in &entries {
            let conns = self.open(entry)?;
            if let (true, Some(upstream), Some(server)) = (conns != 0, entry.upstream(), entry.server()) {
                all.push(Deleted { upstream, server, conns });
            }
        }
        Ok(all)
    }

    /// A whole entry, if there is one.
    fn read(&self, slot: usize) -> Result<Option<Entry>, Damaged> {
        let at = self.at(slot);
        // As every page that is touched: a hostile worker may have written the number of entries.
        if self.mem.reserve(at, ENTRY).is_err() {
            return Ok(None);
        }
        let stamp = self.mem.load_acquire(at + word::STAMP)?;
        let mut words = [0; ENTRY];
        self.mem.load_all(at, &mut words)?;
        self.mem.fence_loads();
        let is_whole = stamp != 0 && stamp & WRITING == 0 && self.mem.load(at + word::STAMP)? == stamp;
        Ok(is_whole.then_some(Entry { stamp, words }))
    }

    /// The connections that are still open to the peer of an entry.
    fn open(&self, entry: &Entry) -> Result<u64, Damaged> {
        let cell = entry.cell();
        if cell == 0 || cell as usize >= self.cells.count() {
            return Ok(0);
        }
        // Where no worker can count, none has counted.
        let open = self.cells.open(cell).unwrap_or(0);
        // Looked at afterwards: the next peer's writer said so before any worker counted for that peer.
        self.mem.fence_loads();
        let is_its_own = open != 0
            && self.cells.is_free(cell)?
            && self.cells.generation(cell) == Ok(entry.generation())
            && self.cells.returns(cell) == Ok(entry.words[word::RETURNS]);
        Ok(if is_its_own { open } else { 0 })
    }

    /// Remembers deleted peers of one upstream whose cells have connections open. The name has at most [`MAX_NAME`] bytes. Of more
    /// than [`ENTRIES`] peers, the first are remembered. Where there is no memory for an entry, none is: no deletion waits for room.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: one of these peers has no cell, there is no memory for that cell, or a word lies outside of the memory.
    pub fn add(&self, upstream: &[u8], removed: &[Removed]) -> Result<(), Damaged> {
        let (slots, mut stamp) = self.slots()?;
        for (peer, slot) in removed.iter().zip(slots) {
            if self.mem.reserve(self.at(slot), ENTRY).is_err() {
                return Ok(());
            }
            // 0 is no stamp: the numbers of a hostile worker end anywhere.
            stamp = (stamp.wrapping_add(1) & !WRITING).max(1);
            self.write(slot, stamp, upstream, peer)?;
        }
        Ok(())
    }

    /// All places for entries, the best first, and the last stamp. First are those of entries that have ended, then new ones, then the
    /// oldest.
    fn slots(&self) -> Result<(impl Iterator<Item = usize> + use<M>, u64), Damaged> {
        let used = self.used()?;
        let (mut over, mut alive) = (Vec::new(), Vec::new());
        let mut last = 0;
        for slot in 0..used {
            match self.read(slot)? {
                Some(entry) => {
                    last = last.max(entry.stamp);
                    if self.open(&entry)? != 0 { alive.push((entry.stamp, slot)) } else { over.push(slot) }
                }
                None => {
                    last = last.max(self.mem.load(self.at(slot) + word::STAMP)? & !WRITING);
                    over.push(slot);
                }
            }
        }
        alive.sort_unstable();
        let alive = alive.into_iter().map(|(_, slot)| slot);
        Ok((over.into_iter().chain(used..ENTRIES).chain(alive), last))
    }

    fn write(&self, slot: usize, stamp: u64, upstream: &[u8], peer: &Removed) -> Result<(), Damaged> {
        let at = self.at(slot);
        let mut words = [0; word::END];
        let server = pack(&peer.server, &mut words[word::SERVER..]);
        let name = pack(upstream, &mut words[word::NAME..word::SERVER]);
        let generation = u64::from(self.cells.generation(peer.cell)?);
        words[word::WHO] = u64::from(peer.cell) | generation << 32 | name << 48 | server << 56;
        words[word::RETURNS] = self.cells.returns(peer.cell)?;
        // If this writer dies here, the entry keeps its number, which no other may have.
        self.mem.store(at + word::STAMP, stamp | WRITING)?;
        // No store of the entry may come before this one.
        self.mem.fence();
        self.mem.store_all(at + word::WHO, &words[word::WHO..])?;
        self.mem.publish(at + word::STAMP, stamp)?;
        self.set_count(slot as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::cells::{Plan, title};
    use crate::shm::mem::Mem;
    use crate::shm::mem::tests::scratch;
    use crate::shm::units::PAGE;
    use proptest::prelude::*;

    fn made(plan: &Plan) -> Mem {
        let mem = scratch(plan.bytes());
        let cells = Cells::new(&mem, plan);
        cells.write_header(&title(plan, 7, [1, 2])).expect("inside");
        cells.activate(0).expect("inside");
        mem
    }

    /// Takes a cell, opens so many connections and gives it back; the peer is remembered.
    fn leave(cells: Cells<'_, Mem>, server: &str, conns: u32) -> u32 {
        let cell = cells.take(1, 0).expect("sound").expect("free")[0];
        (0..conns).for_each(|_| assert_eq!(cells.count_in(0, cell, true), Ok(true)));
        Ledger::of(cells).add(b"api", &[Removed { cell, server: server.into() }]).expect("inside");
        cells.give_back(&[cell]).expect("inside");
        cell
    }

    fn shown(cells: Cells<'_, Mem>) -> Vec<(String, u64)> {
        let all = Ledger::of(cells).all().expect("sound");
        assert!(all.iter().all(|peer| peer.upstream == "api"), "{all:?}");
        all.into_iter().map(|peer| (peer.server, peer.conns)).collect()
    }

    #[test]
    fn a_peer_is_shown_until_its_last_connection_is_over() {
        let plan = Plan::for_cells(600);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        assert_eq!(shown(cells), []);
        let (one, two) = (leave(cells, "10.0.0.1:80", 2), leave(cells, "unix:/p", 1));
        assert_eq!(shown(cells), [("10.0.0.1:80".into(), 2), ("unix:/p".into(), 1)]);
        cells.count_in(0, one, false).expect("inside");
        assert_eq!(shown(cells), [("10.0.0.1:80".into(), 1), ("unix:/p".into(), 1)]);
        cells.count_in(0, one, false).expect("inside");
        assert_eq!(shown(cells), [("unix:/p".into(), 1)]);
        // The next peer in the cell is another.
        assert_eq!(cells.take(1, 0).expect("sound"), Some(vec![one]));
        cells.count_in(0, one, true).expect("inside");
        assert_eq!(shown(cells), [("unix:/p".into(), 1)]);
        cells.give_back(&[one]).expect("inside");
        assert_eq!(shown(cells), [("unix:/p".into(), 1)], "no entry names these");
        cells.deactivate(0).expect("inside");
        assert_eq!((shown(cells), cells.open(two)), (vec![], Ok(0)), "the worker has ended");
    }

    #[test]
    fn a_peer_is_not_shown_for_one_that_had_its_cell_as_the_same_owner_of_another_round() {
        let plan = Plan::for_cells(2);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        let cell = leave(cells, "10.0.0.1:80", 1);
        assert_eq!((cells.count_in(0, cell, false), shown(cells)), (Ok(true), vec![]));
        let first = cells.generation(cell).expect("a cell");
        let word = cells.health(cell).expect("a cell");
        assert_eq!(cells.set_health(cell, word, u64::MAX << 48), Ok(true));
        assert_eq!(cells.take(1, 0).expect("sound"), None, "it is retired");
        cells.activate(0).expect("free");
        assert_eq!(cells.take(1, 0).expect("sound"), Some(vec![cell]), "no worker lives that lived then");
        assert_eq!(cells.generation(cell), Ok(first));
        cells.count_in(0, cell, true).expect("inside");
        cells.give_back(&[cell]).expect("inside");
        assert_eq!((shown(cells), cells.open(cell)), (vec![], Ok(1)), "no entry names it");
    }

    #[test]
    fn the_longest_names_are_whole() {
        let plan = Plan::for_cells(8);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        let cell = cells.take(1, 0).expect("sound").expect("free")[0];
        cells.count_in(0, cell, true).expect("inside");
        let (upstream, server) = ("ß".repeat(127) + "x", "y".repeat(MAX_SERVER));
        assert_eq!(upstream.len(), MAX_NAME);
        Ledger::of(cells).add(upstream.as_bytes(), &[Removed { cell, server: server.clone().into() }]).expect("inside");
        cells.give_back(&[cell]).expect("inside");
        assert_eq!(Ledger::of(cells).all(), Ok(vec![Deleted { upstream, server, conns: 1 }]));
    }

    #[test]
    fn a_new_one_takes_the_place_of_one_that_is_over_or_else_of_the_oldest() {
        let plan = Plan::for_cells(600);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        let left: Vec<u32> = (0..ENTRIES).map(|i| leave(cells, &i.to_string(), 1)).collect();
        let numbers = |range: std::ops::Range<usize>| range.map(|i| (i.to_string(), 1)).collect::<Vec<_>>();
        assert_eq!(shown(cells), numbers(0..ENTRIES));
        leave(cells, "256", 1);
        assert_eq!(shown(cells), numbers(1..ENTRIES + 1), "the oldest");
        cells.count_in(0, left[100], false).expect("inside");
        leave(cells, "257", 1);
        let mut now = numbers(1..ENTRIES + 2);
        now.remove(99);
        assert_eq!(shown(cells), now, "the one that was over");
        assert_eq!(Ledger::of(cells).count(), Ok(ENTRIES as u64));
        let many: Vec<Removed> = left.iter().map(|&cell| Removed { cell, server: "z".into() }).collect();
        Ledger::of(cells).add(b"api", &[many.clone(), many].concat()).expect("inside");
        assert_eq!(shown(cells).len(), ENTRIES - 1, "and all at once");
    }

    #[test]
    fn peers_that_come_and_go_take_one_place() {
        let plan = Plan::for_cells(600);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        for _ in 0..1000 {
            let cell = leave(cells, "10.0.0.1:80", 1);
            assert_eq!(shown(cells).len(), 1);
            cells.count_in(0, cell, false).expect("inside");
        }
        assert_eq!((shown(cells), Ledger::of(cells).count()), (vec![], Ok(1)));
    }

    #[test]
    fn half_of_an_entry_is_none_and_the_next_takes_its_place_and_another_number() {
        let plan = Plan::for_cells(8);
        let mem = made(&plan);
        let (cells, stamp_at) = (Cells::new(&mem, &plan), plan.deleted_at() + word::STAMP);
        leave(cells, "10.0.0.1:80", 1);
        mem.store(stamp_at, 1 | WRITING).expect("inside");
        assert_eq!(shown(cells), []);
        leave(cells, "10.0.0.2:80", 1);
        assert_eq!((shown(cells), Ledger::of(cells).count()), (vec![("10.0.0.2:80".into(), 1)], Ok(1)));
        assert_eq!(mem.load(stamp_at), Ok(2));
    }

    #[test]
    fn what_is_no_text_is_not_shown() {
        let words = |bytes: &[u8]| {
            let mut words = [0; 15];
            (pack(bytes, &mut words) as u8, words)
        };
        for (bytes, shown) in [
            (&b"unix:/a b"[..], true),
            ("unix:/ö".as_bytes(), true),
            (b"", false),
            (b"a\nb", false),
            (b"a\0", false),
            (b"\xff", false),
            (b"\xc3", false),
            ("\u{85}".as_bytes(), false),
        ] {
            let (len, words) = words(bytes);
            assert_eq!(text(&words, len).is_some(), shown, "{bytes:?}");
        }
        let (_, words) = words(&[b'x'; 120]);
        assert_eq!((text(&words, 120).is_some(), text(&words, 121), text(&words, 255)), (true, None, None));
    }

    #[test]
    fn entries_are_behind_the_rows_and_none_lies_in_two_pages() {
        for size in [256 << 10, 1 << 20, 128 << 20, 4u64 << 30] {
            let plan = Plan::of(size);
            assert!((plan.deleted_at() * WORD).is_multiple_of(PAGE) && (PAGE / WORD).is_multiple_of(ENTRY));
            assert_eq!(plan.deleted_at() + ENTRIES * ENTRY, plan.bytes() / WORD);
            assert!(plan.bytes().is_multiple_of(PAGE), "{plan:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn whatever_was_spoiled_few_texts_are_shown_and_the_next_writer_goes_on(
            used in any::<u64>(),
            spoiled in prop::collection::vec((0usize..40 * ENTRY, prop_oneof![any::<u64>(), Just(u64::MAX), Just(0), 0u64..300]), 0..60),
        ) {
            let plan = Plan::for_cells(100);
            let mem = made(&plan);
            let cells = Cells::new(&mem, &plan);
            for i in 0..20 {
                leave(cells, &format!("10.0.0.{i}:80"), 1);
            }
            mem.store(header::DELETED, used).expect("inside");
            for (at, value) in spoiled {
                mem.store(plan.deleted_at() + at, value).expect("inside");
            }
            let all = Ledger::of(cells).all().expect("an answer");
            prop_assert!(all.len() <= ENTRIES);
            for Deleted { upstream, server, conns } in all {
                prop_assert!(!upstream.is_empty() && upstream.len() <= 256 && server.len() <= MAX_SERVER && conns > 0);
                prop_assert!(!upstream.chars().chain(server.chars()).any(char::is_control));
            }
            leave(cells, "next", 1);
            let next = |peer: &Deleted| peer.server == "next" && peer.conns == 1;
            prop_assert!(Ledger::of(cells).all().expect("an answer").iter().any(next));
        }
    }
}
