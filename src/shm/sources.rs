//! The table of sources: the text of each number that a version has as its source. A number is never another source's.
//!
//! An entry begins with the word that makes it one, which is stored last. Nothing ever changes an entry.

use super::layout::{Geometry, entry};
use super::memory::{Damaged, Memory};
use super::packed::{pack, unpack};
use super::units::WORD;

/// Bytes of the longest text.
pub const MAX_TEXT: usize = (ENTRY - 1) * WORD;
/// Words of an entry.
const ENTRY: usize = entry::SOURCE;

/// The sources of a region. Number 0 is none of them: it stands for files, and for an operator at run time.
#[derive(Debug)]
pub struct Sources<'a, M> {
    mem: &'a M,
    geometry: &'a Geometry,
}

impl<'a, M: Memory> Sources<'a, M> {
    /// Those in `mem`. Layout 1 has none.
    pub fn over(mem: &'a M, geometry: &'a Geometry) -> Self {
        Sources { mem, geometry }
    }

    fn at(&self, entry: usize) -> usize {
        self.geometry.sources_at + entry * ENTRY
    }

    /// The text of an entry; `None`: no source has it.
    fn text(&self, entry: usize) -> Result<Option<String>, Damaged> {
        // Number : 32 | bytes of the text : 8 (low part first).
        let first = self.mem.load_acquire(self.at(entry))?;
        if first as u32 as usize != entry + 1 {
            return Ok(None);
        }
        let mut words = [0; ENTRY - 1];
        self.mem.load_all(self.at(entry) + 1, &mut words)?;
        let bytes = unpack(&words, (first >> 32) as u8 as usize);
        // A hostile worker may have written there.
        Ok(String::from_utf8(bytes).ok().filter(|text| !text.is_empty() && !text.chars().any(char::is_control)))
    }

    /// All numbers and texts.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn all(&self) -> Result<Vec<(u32, String)>, Damaged> {
        let mut all = Vec::new();
        for entry in 0..self.geometry.sources {
            all.extend(self.text(entry)?.map(|text| (entry as u32 + 1, text)));
        }
        Ok(all)
    }

    /// The number of a source. `None`: it has none.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn number(&self, text: &str) -> Result<Option<u32>, Damaged> {
        Ok(self.all()?.into_iter().find(|(_, its)| its == text).map(|(number, _)| number))
    }

    /// The number of a source, which has one from now on. `None`: all numbers are others', or the text is empty or longer than
    /// [`MAX_TEXT`] bytes. The caller holds the writer lock.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn add(&self, text: &str) -> Result<Option<u32>, Damaged> {
        if let Some(number) = self.number(text)? {
            return Ok(Some(number));
        }
        if text.is_empty() || text.len() > MAX_TEXT {
            return Ok(None);
        }
        for entry in 0..self.geometry.sources {
            if self.mem.load(self.at(entry))? == 0 {
                self.put(entry as u32 + 1, text)?;
                return Ok(Some(entry as u32 + 1));
            }
        }
        Ok(None)
    }

    /// Gives a source its number: one that no other has.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no entry with this number, or a word lies outside of the memory.
    pub fn put(&self, number: u32, text: &str) -> Result<(), Damaged> {
        let entry = (number as usize).checked_sub(1).filter(|&entry| entry < self.geometry.sources).ok_or(Damaged)?;
        let mut words = [0; ENTRY - 1];
        let len = pack(text.as_bytes(), &mut words);
        self.mem.store_all(self.at(entry) + 1, &words)?;
        self.mem.publish(self.at(entry), u64::from(number) | len << 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::mem::tests::scratch;

    #[test]
    fn a_source_keeps_its_number_and_no_other_gets_it() {
        let geometry = Geometry::of(crate::shm::layout::MIN_SIZE).expect("allowed");
        let mem = scratch(geometry.size as usize);
        let sources = Sources::over(&mem, &geometry);
        assert_eq!((sources.all(), sources.number("etcd:/a")), (Ok(vec![]), Ok(None)));
        let longest = "x".repeat(MAX_TEXT);
        let texts = ["etcd:/a".to_owned(), "größe".to_owned(), longest.clone()];
        for (number, text) in (1..).zip(&texts) {
            assert_eq!((sources.add(text), sources.add(text)), (Ok(Some(number)), Ok(Some(number))));
        }
        assert_eq!(sources.all(), Ok((1..).zip(texts).collect()));
        assert_eq!((sources.add(""), sources.add(&(longest + "x"))), (Ok(None), Ok(None)));
        for number in 4..=geometry.sources as u32 {
            assert_eq!(sources.add(&number.to_string()), Ok(Some(number)));
        }
        assert_eq!((sources.add("one more"), sources.add("4")), (Ok(None), Ok(Some(4))));
        mem.store(geometry.sources_at, 7).expect("inside");
        assert_eq!(sources.number("etcd:/a"), Ok(None), "a number that was spoiled is nobody's");
        assert_eq!((sources.put(0, "a"), sources.put(geometry.sources as u32 + 1, "a")), (Err(Damaged), Err(Damaged)));
    }
}
