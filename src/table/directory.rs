//! From a name to its record: chained buckets that readers walk while a writer changes them.
//!
//! A record has a fixed place and type for as long as the region lives. Its stamp alone says whether there is an upstream in
//! it: a record is linked with an empty stamp, and emptied before it is unlinked. So one store makes an upstream visible and
//! one store ends it, wherever a reader stands.
//!
//! A record that was unlinked and linked again elsewhere could lead a reader into a foreign chain. It notices. Beside the hash
//! stands how often the record was linked, an odd number while that is done. A reader of a link looks at this word before and
//! after. So it knows in which chain the link was, however long it slept in between, or it starts over.

use super::record::{Record, stamp_at, word};
use super::snapshot::{Kind, View};
use crate::error::Code;
use crate::shm::layout::{Geometry, state};
use crate::shm::versioned::{self, TRIES, Unread};
use crate::shm::{Damaged, Mem, Memory, Region, Stamp};

/// The hash that chooses a name's bucket.
pub fn hash(name: &[u8]) -> u32 {
    crc32fast::hash(name)
}

/// The directory of a region.
#[derive(Debug)]
pub struct Directory<'a, M = Mem> {
    mem: &'a M,
    geometry: &'a Geometry,
}

/// One walk along a bucket. It lives for a moment, and a box would be an allocation in the path of requests.
#[expect(clippy::large_enum_variant)]
enum Walk {
    Found(u32, View),
    Absent,
    /// A record on the way changed during the walk.
    Disturbed,
    /// More steps than there are records: a reader that was sent back to the start often, or a knot in the chain.
    Endless,
}

/// The result of a repair for a record: it stays, or it was unlinked from its own bucket, or from another one.
const KEPT: u8 = 1;
const PASSED_IN_PLACE: u8 = 2;
const PASSED_ELSEWHERE: u8 = 4;

impl<'a> Directory<'a> {
    /// The directory of `region`.
    #[inline(always)]
    pub fn new(region: &'a Region) -> Self {
        Directory::over(region.mem(), region.geometry())
    }
}

impl<'a, M: Memory> Directory<'a, M> {
    /// The directory in `mem`.
    #[inline(always)]
    pub fn over(mem: &'a M, geometry: &'a Geometry) -> Self {
        Directory { mem, geometry }
    }

    /// The memory in which it lies.
    pub fn mem(&self) -> &'a M {
        self.mem
    }

    /// Where everything lies in that memory.
    pub fn geometry(&self) -> &'a Geometry {
        self.geometry
    }

    /// The place of the upstream with this number.
    #[inline(always)]
    pub fn record(&self, number: u32) -> Record {
        Record::numbered(self.geometry, number)
    }

    /// The record and the snapshot of the upstream called `name`, tombstones included.
    ///
    /// # Errors
    ///
    /// [`Unread::Changing`]: changes met each of [`TRIES`] walks.
    /// [`Unread::Damaged`]: a link, the chain or the snapshot does not make sense.
    #[inline(always)]
    pub fn find(&self, name: &[u8]) -> Result<Option<(u32, View)>, Unread> {
        self.find_of(Kind::UPSTREAM, name)
    }

    /// The same of another kind, which has names of its own.
    ///
    /// # Errors
    ///
    /// As [`Directory::find`].
    pub fn find_of(&self, kind: Kind, name: &[u8]) -> Result<Option<(u32, View)>, Unread> {
        let mut endless = false;
        for _ in 0..TRIES {
            match self.walk(kind, name).map_err(|Damaged| Unread::Damaged)? {
                Walk::Found(record, view) => return Ok(Some((record, view))),
                Walk::Absent => return Ok(None),
                Walk::Disturbed => {}
                // Once may be bad luck.
                Walk::Endless if endless => return Err(Unread::Damaged),
                Walk::Endless => endless = true,
            }
        }
        Err(Unread::Changing)
    }

    fn walk(&self, kind: Kind, name: &[u8]) -> Result<Walk, Damaged> {
        let hash = hash(name);
        let mut link = self.mem.load_acquire(self.bucket(hash))?;
        for _ in 0..=self.geometry.records {
            let Some(record) = self.linked(link)? else { return Ok(Walk::Absent) };
            let at = self.geometry.record(record);
            let linked = self.mem.load_acquire(at + word::HASH)?;
            link = self.mem.load_acquire(at + word::NEXT)?;
            let its_hash = linked as u32;
            let foreign = self.bucket(its_hash) != self.bucket(hash);
            if foreign || linked >> 32 & 1 == 1 || self.mem.load(at + word::HASH)? != linked {
                return Ok(Walk::Disturbed);
            }
            if its_hash == hash {
                match self.named(record, kind, name) {
                    Ok(Some(view)) => return Ok(Walk::Found(record, view)),
                    Ok(None) => {}
                    Err(Unread::Changing) => return Ok(Walk::Disturbed),
                    Err(Unread::Damaged) => return Err(Damaged),
                }
            }
        }
        Ok(Walk::Endless)
    }

    /// The snapshot of `record` if it is that of `name`.
    fn named(&self, record: u32, kind: Kind, name: &[u8]) -> Result<Option<View>, Unread> {
        let place = stamp_at(self.geometry, record);
        let read = |stamp: Stamp| {
            if stamp.block() == 0 {
                return Ok(None);
            }
            let view = View::read(self.mem, self.geometry, place, stamp)?;
            if view.record != record {
                return Err(Damaged);
            }
            Ok((view.kind == kind && view.is_named(self.mem, name)?).then_some(view))
        };
        versioned::read(self.mem, place, read).map(|(view, _)| view)
    }

    fn bucket(&self, hash: u32) -> usize {
        self.geometry.buckets_at + (hash as usize & (self.geometry.buckets - 1))
    }

    /// Number of the records that were ever linked, as the region says. There may be no memory for others.
    pub fn used_records(&self) -> Result<u32, Damaged> {
        let used = match state::records_end_in(self.geometry.shape) {
            Some(at) => self.mem.load(at)?.min(self.geometry.records as u64),
            None => self.geometry.records as u64,
        };
        Ok(used as u32)
    }

    /// Whether there is memory for a record. Asked before the record is touched where only a word of the region says that it was used:
    /// a hostile worker may have written that.
    fn has_memory(&self, record: u32) -> bool {
        self.mem.reserve(self.geometry.record(record), self.geometry.shape.record).is_ok()
    }

    fn linked(&self, link: u64) -> Result<Option<u32>, Damaged> {
        match link.checked_sub(1) {
            None => Ok(None),
            Some(record) if record < self.geometry.records as u64 => Ok(Some(record as u32)),
            Some(_) => Err(Damaged),
        }
    }

    /// Calls `each` with a consistent copy of every upstream, tombstones included.
    ///
    /// All blocks together fit into the heap, and changes meanwhile make it twice that at most. Records that claim more share
    /// blocks that are not theirs. That is damage, and without a bound a spoiled region would have us copy for ever.
    ///
    /// # Errors
    ///
    /// [`Unread::Changing`]: changes met each of [`TRIES`] reads of one upstream.
    /// [`Unread::Damaged`]: an upstream does not make sense, or all together claim more words than that.
    pub fn each<T>(&self, read: impl Fn(&View) -> Result<T, Damaged>, each: impl FnMut(T)) -> Result<(), Unread> {
        self.each_of(Kind::UPSTREAM, read, each)
    }

    /// The same of another kind.
    ///
    /// # Errors
    ///
    /// As [`Directory::each`].
    pub fn each_of<T>(
        &self,
        kind: Kind,
        read: impl Fn(&View) -> Result<T, Damaged>,
        mut each: impl FnMut(T),
    ) -> Result<(), Unread> {
        let read = of_kind(kind, read);
        let mut left = 2 * self.mem.words();
        for record in 0..self.used_records()? {
            if let Some(value) = self.look_at_any(record, &mut left, &read)?.flatten() {
                each(value);
            }
        }
        Ok(())
    }

    /// The same of all kinds, for a table that no process changes meanwhile. Passes over names that do not make sense, and
    /// answers their number.
    pub fn each_sound<T>(&self, read: impl Fn(&View) -> Result<T, Damaged>, mut each: impl FnMut(T)) -> u64 {
        let (mut left, mut lost) = (2 * self.mem.words(), 0);
        for record in 0..self.used_records().unwrap_or(0) {
            match self.look_at_any(record, &mut left, &read) {
                Ok(value) => value.into_iter().for_each(&mut each),
                Err(_) => lost += 1,
            }
        }
        lost
    }

    /// The result of `read` on the upstream in `record`, if there is one. It is one of many: its words are taken from those
    /// that are `left`, see [`Directory::each`].
    ///
    /// # Errors
    ///
    /// [`Unread::Changing`]: changes met each of [`TRIES`] reads.
    /// [`Unread::Damaged`]: the upstream does not make sense, or claims more words than are `left`.
    pub fn look_within<T>(
        &self,
        record: u32,
        left: &mut usize,
        read: impl Fn(&View) -> Result<T, Damaged>,
    ) -> Result<Option<T>, Unread> {
        self.look_of(Kind::UPSTREAM, record, left, read)
    }

    /// The same of another kind.
    ///
    /// # Errors
    ///
    /// As [`Directory::look_within`].
    pub fn look_of<T>(
        &self,
        kind: Kind,
        record: u32,
        left: &mut usize,
        read: impl Fn(&View) -> Result<T, Damaged>,
    ) -> Result<Option<T>, Unread> {
        Ok(self.look_at_any(record, left, of_kind(kind, read))?.flatten())
    }

    /// The same of any kind.
    fn look_at_any<T>(
        &self,
        record: u32,
        left: &mut usize,
        read: impl Fn(&View) -> Result<T, Damaged>,
    ) -> Result<Option<T>, Unread> {
        if !self.has_memory(record) {
            return Ok(None);
        }
        let place = stamp_at(self.geometry, record);
        let copy = |stamp: Stamp| {
            if stamp.block() == 0 {
                return Ok(None);
            }
            let view = View::read(self.mem, self.geometry, place, stamp)?;
            if view.record != record || view.words > *left {
                return Err(Damaged);
            }
            read(&view).map(|value| Some((value, view.words)))
        };
        let (copied, _) = versioned::read(self.mem, place, copy)?;
        Ok(copied.map(|(value, words)| {
            *left -= words;
            value
        }))
    }

    /// The records that are taken.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn taken(&self) -> Result<Vec<u32>, Damaged> {
        let mut taken = Vec::new();
        for index in 0..self.geometry.records.div_ceil(64) {
            let mut bits = self.mem.load(self.geometry.record_bits_at + index)?;
            while bits != 0 {
                let record = index as u32 * 64 + bits.trailing_zeros();
                taken.extend(((record as usize) < self.geometry.records).then_some(record));
                bits &= bits - 1;
            }
        }
        Ok(taken)
    }

    /// The result of `read` on the upstream in `record`, if there is one.
    ///
    /// # Errors
    ///
    /// [`Unread::Changing`]: changes met each of [`TRIES`] reads.
    /// [`Unread::Damaged`]: the upstream does not make sense.
    pub fn look<T>(&self, record: u32, read: impl Fn(&View) -> Result<T, Damaged>) -> Result<Option<T>, Unread> {
        self.look_within(record, &mut usize::MAX.clone(), read)
    }

    /// Calls `each` with each of these records, also with those after one that makes no sense. An upstream that changes too
    /// often to be read is left for another time.
    ///
    /// # Errors
    ///
    /// The first of `each`.
    pub fn visit(
        &self,
        records: impl IntoIterator<Item = u32>,
        mut each: impl FnMut(u32) -> crate::error::Result<()>,
    ) -> crate::error::Result<()> {
        let mut done = Ok(());
        for record in records {
            done = done.and(unless_changing(each(record)));
        }
        done
    }

    /// A number that is another one after any change: it is made of all stamps, which count the changes of their records.
    /// `None` where there was none yet.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn digest(&self) -> Result<Option<u64>, Damaged> {
        let (mut digest, mut all) = (0u64, 0);
        for record in (0..self.used_records()?).filter(|&record| self.has_memory(record)) {
            let stamp = self.stamp(record)?.0;
            all |= stamp;
            // Records that nothing has happened to make no difference, however many there are.
            if stamp != 0 {
                digest = (digest ^ stamp).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ u64::from(record);
            }
        }
        Ok((all != 0).then_some(digest))
    }
}

/// The result of `read` on a version of this kind; `None`: it is of another one.
fn of_kind<T>(kind: Kind, read: impl Fn(&View) -> Result<T, Damaged>) -> impl Fn(&View) -> Result<Option<T>, Damaged> {
    move |view| if view.kind == kind { read(view).map(Some) } else { Ok(None) }
}

/// Takes an upstream that changes too often to be read for done: there is another time.
///
/// # Errors
///
/// That of `done`, unless it is [`Code::Changing`].
pub fn unless_changing(done: crate::error::Result<()>) -> crate::error::Result<()> {
    match done {
        Err(error) if error.code == Code::Changing => Ok(()),
        done => done,
    }
}

/// The writer's steps on the directory. Each step leaves it whole; the caller holds the writer lock.
impl<M: Memory> Directory<'_, M> {
    /// A record that is free, `None` when all are taken.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn free_record(&self) -> Result<Option<u32>, Damaged> {
        let lowest = (self.mem.load(state::LOWEST_RECORD)? as usize).min(self.geometry.records);
        for index in lowest / 64..self.geometry.records.div_ceil(64) {
            let bits = self.mem.load(self.geometry.record_bits_at + index)?;
            let record = index * 64 + bits.trailing_ones() as usize;
            if bits != u64::MAX && record < self.geometry.records {
                return Ok(Some(record as u32));
            }
        }
        Ok(None)
    }

    /// Takes `record`, empties it, and links it into the bucket of `name`. Readers see no upstream in it yet. The caller has
    /// reserved its memory.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn link(&self, record: u32, name: &[u8]) -> Result<(), Damaged> {
        let at = self.geometry.record(record);
        self.use_record(record)?;
        self.set_taken(record, true)?;
        self.mem.store(state::LOWEST_RECORD, u64::from(record) + 1)?;
        self.mem.store(state::RECORDS, self.mem.load(state::RECORDS)?.saturating_add(1))?;
        let hash = hash(name);
        self.record(record).clear(self.mem)?;
        // Odd, after any earlier number.
        let linking = (self.mem.load(at + word::HASH)? >> 32).wrapping_add(1) | 1;
        self.mem.publish(at + word::HASH, u64::from(hash) | linking << 32)?;
        self.mem.publish(at + word::NEXT, self.mem.load(self.bucket(hash))?)?;
        self.mem.publish(at + word::HASH, u64::from(hash) | linking.wrapping_add(1) << 32)?;
        self.mem.publish(self.bucket(hash), u64::from(record) + 1)
    }

    /// Says that a record is used from now on, before it is linked. The region may have said that it never was, while a version is in it.
    /// Then a word is spoiled, and no upstream has that version.
    fn use_record(&self, record: u32) -> Result<(), Damaged> {
        let end = self.mem.load(state::RECORDS_END)?;
        if u64::from(record) < end {
            return Ok(());
        }
        let stamp = self.stamp(record)?;
        if stamp.block() != 0 {
            self.publish(record, stamp.next(0).unwrap_or_default())?;
        }
        self.mem.store(state::RECORDS_END, u64::from(record) + 1)
    }

    /// Takes `record`, whose stamp is empty, out of its bucket and gives it back.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the record is not in its bucket, a link leads to no record, or a word lies outside of the memory.
    pub fn unlink(&self, record: u32) -> Result<(), Damaged> {
        let at = self.geometry.record(record);
        let mut place = self.bucket(self.mem.load(at + word::HASH)? as u32);
        for _ in 0..=self.geometry.records {
            let next = self.linked(self.mem.load(place)?)?.ok_or(Damaged)?;
            if next == record {
                self.mem.publish(place, self.mem.load(at + word::NEXT)?)?;
                self.set_taken(record, false)?;
                let lowest = self.mem.load(state::LOWEST_RECORD)?.min(u64::from(record));
                self.mem.store(state::LOWEST_RECORD, lowest)?;
                return self.mem.store(state::RECORDS, self.mem.load(state::RECORDS)?.saturating_sub(1));
            }
            place = self.geometry.record(next) + word::NEXT;
        }
        Err(Damaged)
    }

    /// The current stamp of `record`.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word of the stamp lies outside of the memory.
    pub fn stamp(&self, record: u32) -> Result<Stamp, Damaged> {
        self.record(record).stamp(self.mem)
    }

    /// Whether `stamp` is still that of `record`, after its block was read.
    ///
    /// # Errors
    ///
    /// As [`Directory::stamp`].
    pub fn stamp_holds(&self, record: u32, stamp: Stamp) -> Result<bool, Damaged> {
        self.record(record).holds(self.mem, stamp)
    }

    /// The one store by which a change happens. The block of the old stamp may be freed afterwards.
    ///
    /// # Errors
    ///
    /// As [`Directory::stamp`].
    pub fn publish(&self, record: u32, stamp: Stamp) -> Result<(), Damaged> {
        self.mem.publish(stamp_at(self.geometry, record), stamp.0)
    }

    /// Marks that a peer of the upstream in `record` may have failed, so that picks look at each. Any process may call it.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word of the failures lies outside of the memory.
    pub fn mark_failure(&self, record: u32) -> Result<(), Damaged> {
        self.record(record).mark_failure(self.mem)
    }

    fn set_taken(&self, record: u32, taken: bool) -> Result<(), Damaged> {
        let (word, bit) = (self.geometry.record_bits_at + record as usize / 64, 1 << (record % 64));
        let bits = self.mem.load(word)?;
        self.mem.store(word, if taken { bits | bit } else { bits & !bit })
    }

    /// Walks all buckets, and unlinks every record for which `keep` (record, hash, stamp) answers no. Sets the bitmap of
    /// records to the rest. This is the directory's half of a repair. Answers how many upstreams were lost; a record without
    /// one is none.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn rebuild(&self, mut keep: impl FnMut(u32, u32, Stamp) -> bool) -> Result<u64, Damaged> {
        let mut seen = vec![0u64; self.geometry.records.div_ceil(64)];
        let mut passed = vec![0u8; self.geometry.records];
        let (mut count, mut end) = (0, 0);
        for bucket in 0..self.geometry.buckets {
            let mut place = self.geometry.buckets_at + bucket;
            loop {
                let link = self.mem.load(place)?;
                let Some(record) = link.checked_sub(1) else { break };
                // A link out of bounds, or to a record that was never used: the chain ends here.
                let Some(passed) = passed.get_mut(record as usize).filter(|_| self.has_memory(record as u32)) else {
                    self.mem.publish(place, 0)?;
                    break;
                };
                end = end.max(record + 1);
                let at = self.geometry.record(record as u32);
                let linked = self.mem.load(at + word::HASH)?;
                let hash = linked as u32;
                if linked >> 32 & 1 == 1 {
                    // No writer leaves this in a chain: readers would start over for ever.
                    self.mem.publish(at + word::HASH, linked.wrapping_add(1 << 32))?;
                }
                let in_place = self.bucket(hash) == self.geometry.buckets_at + bucket;
                // A record that another chain has already, or that was unlinked in this same way: a knot. Each record is met
                // twice at most, so the walk ends with any links.
                let way = if in_place { PASSED_IN_PLACE } else { PASSED_ELSEWHERE };
                if *passed & (way | KEPT) != 0 {
                    self.mem.publish(place, 0)?;
                    break;
                }
                let stamp = self.stamp(record as u32)?;
                if in_place && stamp.block() != 0 && keep(record as u32, hash, stamp) {
                    *passed |= KEPT;
                    seen[record as usize / 64] |= 1 << (record % 64);
                    count += 1;
                    place = at + word::NEXT;
                } else {
                    *passed |= way;
                    self.mem.publish(place, self.mem.load(at + word::NEXT)?)?;
                }
            }
        }
        for (index, &bits) in seen.iter().enumerate() {
            self.mem.amend(self.geometry.record_bits_at + index, bits)?;
        }
        self.mem.amend(state::RECORDS_END, self.mem.load(state::RECORDS_END)?.max(end))?;
        let lost = self.empty_all_but(&seen)?;
        let full = seen.iter().take_while(|&&bits| bits == u64::MAX).count();
        let lowest = full * 64 + seen.get(full).map_or(0, |bits| bits.trailing_ones() as usize);
        self.mem.amend(state::LOWEST_RECORD, lowest as u64)?;
        self.mem.amend(state::RECORDS, count)?;
        Ok(lost)
    }

    /// A record that is not linked must not look alive to [`Directory::each`] or to a reader that remembers it. Answers how
    /// many did.
    fn empty_all_but(&self, linked: &[u64]) -> Result<u64, Damaged> {
        let mut emptied = 0;
        for record in (0..self.used_records()?).filter(|&record| self.has_memory(record)) {
            let stamp = self.stamp(record)?;
            if stamp.block() != 0 && linked[record as usize / 64] >> (record % 64) & 1 == 0 {
                self.publish(record, stamp.next(0).unwrap_or_default())?;
                emptied += 1;
            }
        }
        Ok(emptied)
    }
}
