//! The two kinds of memory that models run on: [`Words`], which loom watches, and a [`Sheet`], which holds the table at the
//! beginning of a model.

use dyups::shm::layout::{Geometry, OURS, entry, state};
use dyups::shm::memory::Word;
use dyups::shm::{Damaged, GRANULE_WORDS, Memory};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries of the ring of deletions: none, since no reader of these models looks at it.
const DELETIONS: usize = 0;

/// A region in small: `records` (a power of two) upstreams, and a heap of so many granules.
pub fn geometry(slots: u32, records: usize, heap: usize) -> Geometry {
    let slots_at = state::END;
    let deletions_at = slots_at + slots as usize * OURS.slot;
    let buckets_at = deletions_at + DELETIONS * entry::DELETION;
    let record_bits_at = buckets_at + records;
    let records_at = (record_bits_at + 1).next_multiple_of(GRANULE_WORDS);
    let granule_bits_at = records_at + records * OURS.record;
    // As many bits as there may be granules before the heap, too.
    let heap_at = (granule_bits_at + heap / 64 + 2).div_ceil(GRANULE_WORDS);
    let granules = heap_at + heap;
    assert!(granules.div_ceil(64) <= heap / 64 + 2, "room for the bits");
    assert!(records <= 64, "one word of bits");
    let size = (granules * dyups::shm::GRANULE) as u64;
    Geometry {
        shape: OURS,
        size,
        records,
        buckets: records,
        slots,
        slots_at,
        sources_at: deletions_at,
        sources: 0,
        deletions_at,
        deletions: DELETIONS,
        buckets_at,
        record_bits_at,
        records_at,
        granule_bits_at,
        heap_at,
        granules,
    }
}

/// A word that loom watches.
#[derive(Debug)]
struct Watched {
    /// None: no process stores there.
    atomic: Option<loom::sync::atomic::AtomicU64>,
    /// The last value that was stored.
    newest: AtomicU64,
}

/// The words that the processes of a model share.
#[derive(Clone, Debug)]
pub struct Shared(Arc<[Watched]>);

impl Shared {
    /// The words of `image`. Loom watches those that its processes change.
    pub fn holding(image: &Image) -> Shared {
        Shared::watching(&image.words, |index| image.changing[index])
    }

    /// The same, where a function tells which words change.
    pub fn watching(image: &[u64], changes: impl Fn(usize) -> bool) -> Shared {
        let watched = |(index, &value): (usize, &u64)| {
            let atomic = changes(index).then(|| loom::sync::atomic::AtomicU64::new(value));
            Watched { atomic, newest: value.into() }
        };
        Shared(image.iter().enumerate().map(watched).collect())
    }

    /// The mapping of a process that reads.
    pub fn reader(&self) -> Words {
        self.map(false, false)
    }

    /// That of a process that stores in words to which others add at the same time.
    ///
    /// Its stores are exchanges. Of a plain store and an addition at once, loom lets a later addition go on from either, as if the
    /// other one had not happened.
    pub fn resetter(&self) -> Words {
        self.map(false, true)
    }

    /// The mapping of a process that holds the lock under which these words are written.
    ///
    /// All its loads give the newest value, since the lock hands on the stores of the writer before it. So loom need not see
    /// these loads. It must not, either: of the loads of a word it remembers the last one only. It would overlook a race of the
    /// store that follows with a load by another process.
    pub fn writer(&self) -> Words {
        self.map(true, false)
    }

    fn map(&self, newest: bool, exchanges: bool) -> Words {
        let life = Rc::<Life>::default();
        let mapped = |index| Mapped { shared: self.clone(), index, newest, exchanges, life: Rc::clone(&life) };
        Words { words: (0..self.0.len()).map(mapped).collect(), life }
    }
}

/// The stores that a process does.
#[derive(Debug, Default)]
struct Life {
    stores: Cell<usize>,
    /// The process dies in place of the store after so many.
    most: Cell<Option<usize>>,
}

impl Life {
    fn store(&self) {
        if self.most.get() == Some(self.stores.get()) {
            resume_unwind(Box::new(Death));
        }
        self.stores.set(self.stores.get() + 1);
    }
}

/// The panic that unwinds the stack of a process that dies.
struct Death;

/// Memory of a process that may die.
pub trait Mortal: Memory {
    /// The process dies in place of the store after so many more.
    fn limit_stores(&self, most: Option<usize>);

    /// Does `work`, and ends it after `stores` stores, if it gets so far. The rest is another process.
    fn until_death(&self, stores: usize, work: impl FnOnce(&Self)) {
        self.limit_stores(Some(stores));
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            assert!(cause.is::<Death>(), "the process panicked");
        }
        self.limit_stores(None);
    }
}

/// A word as one process has it.
#[derive(Debug)]
pub struct Mapped {
    shared: Shared,
    index: usize,
    /// Whether it loads the newest value, unseen by loom.
    newest: bool,
    /// Whether its stores are exchanges.
    exchanges: bool,
    life: Rc<Life>,
}

impl Mapped {
    fn watched(&self) -> &Watched {
        &self.shared.0[self.index]
    }

    /// The word, which a process is about to change.
    fn changing(&self) -> &loom::sync::atomic::AtomicU64 {
        self.watched().atomic.as_ref().unwrap_or_else(|| panic!("word {} was to keep its value", self.index))
    }

    /// Right after loom has seen the store: no other process runs in between.
    fn stored(&self, value: u64) {
        self.watched().newest.store(value, Ordering::Relaxed);
    }
}

impl Word for Mapped {
    fn get(&self, order: Ordering) -> u64 {
        match &self.watched().atomic {
            Some(atomic) if !self.newest => atomic.load(order),
            _ => self.watched().newest.load(Ordering::Relaxed),
        }
    }

    fn put(&self, value: u64, order: Ordering) {
        self.life.store();
        if self.watched().atomic.is_none() && self.watched().newest.load(Ordering::Relaxed) == value {
            return;
        }
        match self.exchanges {
            true => {
                self.changing().swap(value, order);
            }
            false => self.changing().store(value, order),
        }
        self.stored(value);
    }

    fn add(&self, value: u64, order: Ordering) -> u64 {
        self.life.store();
        let old = self.changing().fetch_add(value, order);
        self.stored(old.wrapping_add(value));
        old
    }

    fn replace(&self, old: u64, new: u64, order: Ordering) -> bool {
        self.life.store();
        let done = self.changing().compare_exchange(old, new, order, Ordering::Relaxed).is_ok();
        if done {
            self.stored(new);
        }
        done
    }

    fn fence(order: Ordering) {
        loom::sync::atomic::fence(order);
    }
}

/// The memory of one process, watched by loom.
#[derive(Debug)]
pub struct Words {
    words: Vec<Mapped>,
    life: Rc<Life>,
}

/// A word of a [`Sheet`].
#[derive(Debug)]
pub struct Private {
    first: u64,
    value: Cell<u64>,
    changed: Cell<bool>,
    life: Rc<Life>,
}

impl Word for Private {
    fn get(&self, _: Ordering) -> u64 {
        self.value.get()
    }

    fn put(&self, value: u64, _: Ordering) {
        self.life.store();
        self.value.set(value);
        self.changed.set(self.changed.get() || value != self.first);
    }

    fn add(&self, value: u64, order: Ordering) -> u64 {
        let old = self.value.get();
        self.put(old.wrapping_add(value), order);
        old
    }

    fn replace(&self, old: u64, new: u64, order: Ordering) -> bool {
        let done = self.value.get() == old;
        if done {
            self.put(new, order);
        }
        done
    }

    fn fence(_: Ordering) {}
}

/// Memory of one process, before there are others. It counts stores, and knows which words have changed.
#[derive(Debug)]
pub struct Sheet {
    words: Vec<Private>,
    life: Rc<Life>,
}

impl Sheet {
    pub fn holding(image: &[u64]) -> Sheet {
        let life = Rc::<Life>::default();
        let private =
            |&first| Private { first, value: Cell::new(first), changed: false.into(), life: Rc::clone(&life) };
        Sheet { words: image.iter().map(private).collect(), life }
    }

    /// An empty region.
    pub fn new(geometry: &Geometry) -> Sheet {
        let mut image = vec![0; geometry.granules * GRANULE_WORDS];
        image[state::LOWEST_FREE] = geometry.heap_at as u64;
        Sheet::holding(&image)
    }

    /// The words as they are now.
    pub fn image(&self) -> Vec<u64> {
        self.words.iter().map(|word| word.value.get()).collect()
    }

    /// The words as they are now, with those that `work` changes.
    pub fn before(&self, work: impl FnOnce(&Sheet)) -> Image {
        let words = self.image();
        let mut image = Image { changing: vec![false; words.len()], words };
        image.trying(work);
        image
    }

    /// How often `work` stores.
    pub fn stores(&self, work: impl FnOnce(&Sheet)) -> usize {
        let before = self.life.stores.get();
        work(self);
        self.life.stores.get() - before
    }
}

/// The words of a model when its processes begin, and those that they change.
///
/// Loom explores the orders of the changing words alone: a word that always holds the same value looks the same in all
/// orders. A process that stores another value in one of the rest panics, so a model that overlooks a word fails.
#[derive(Clone, Debug)]
pub struct Image {
    pub words: Vec<u64>,
    changing: Vec<bool>,
}

impl Image {
    /// Adds the words that `work` changes.
    pub fn trying(&mut self, work: impl FnOnce(&Sheet)) {
        let sheet = Sheet::holding(&self.words);
        work(&sheet);
        self.trying_on(&sheet);
    }

    /// The same of work on several sheets: those that `sheet`, which held these words, has changed.
    pub fn trying_on(&mut self, sheet: &Sheet) {
        self.changing.iter_mut().zip(&sheet.words).for_each(|(changing, word)| *changing |= word.changed.get());
    }
}

macro_rules! memory {
    ($memory:ty, $word:ty) => {
        impl Memory for $memory {
            type Word = $word;

            fn slice(&self, index: usize, len: usize) -> Result<&[$word], Damaged> {
                index.checked_add(len).and_then(|end| self.words.get(index..end)).ok_or(Damaged)
            }

            fn word(&self, index: usize) -> Result<&$word, Damaged> {
                self.words.get(index).ok_or(Damaged)
            }

            fn words(&self) -> usize {
                self.words.len()
            }

            fn reserve(&self, _: usize, _: usize) -> std::io::Result<()> {
                Ok(())
            }
        }

        impl Mortal for $memory {
            fn limit_stores(&self, most: Option<usize>) {
                self.life.most.set(most.map(|most| self.life.stores.get() + most));
            }
        }
    };
}

memory!(Words, Mapped);
memory!(Sheet, Private);
