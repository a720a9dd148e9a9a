//! Shared memory: bytes and offsets, and nothing about upstreams. This comment is the whole protocol; each file tells its own
//! part in full.
//!
//! # The region
//!
//! A file ([`region`]) that the master maps and every worker inherits. [`layout`] says where everything lies. That follows from
//! the size and the number of the layout, so no offset of an area is read from the file. The file is closed once it is mapped.
//!
//! The lock file ([`lock`]) remains open, and each exclusive right is one of its bytes. The rights are to make a region, to
//! write, and to be the worker of a slot. The kernel frees all bytes of a process in one step when it dies.
//!
//! Memory is of three kinds, and no word ever changes its kind:
//!
//! - Words that one writer at a time changes and readers follow. A *record* has a fixed place, and its *stamp* leads to a block of
//!   the heap. The writer writes the block before that, and never while it can be reached.
//! - Words that the writer alone reads: the bitmaps and counters of the heap and of the records.
//! - Words that readers write too: counters and *cells* ([`cells`]), each in a fixed place of a fixed type. A process that slept can
//!   add to a counter that means something else by now, and no more than that.
//!
//! # Readers
//!
//! A reader announces nothing, takes no lock and makes no system call. It loads a stamp ([`versioned`]), a word that holds a
//! block and a generation. It reads the block word by word ([`mem`]: bounds-checked relaxed atomics, so a read may give a wrong
//! value but is always defined). It copies out what it returns, fences, and loads the stamp again. If the stamp has changed, it
//! throws the copy away and starts over, at most 16 times.
//!
//! A chain of records leads from a name to its record ([`crate::table::directory`]). The links need no versions of their own. A
//! record is linked while its stamp leads nowhere, and is emptied before it is unlinked, so the stamp alone decides. Beside the
//! hash of each record stands how often it was linked, an odd number while that is done. So a reader that stands on a record
//! which has gone into another chain notices, and starts over.
//!
//! # Writers
//!
//! One at a time, by the writer lock. A change
//!
//! 1. says in the header that it is under way (`WRITING`).
//! 2. takes blocks from the heap ([`arena`]) and fills them. No reader can see them yet.
//! 3. publishes: **one** store of one word, the stamp. It comes after all stores to the blocks, and before all that follow.
//! 4. frees the blocks that the old stamp led to. They may be reused at once.
//! 5. says that it has ended.
//!
//! Where the heap has no room, a version that is no larger than the old one ([`crate::table::in_place`]) takes steps 2 and 3
//! twice. The writer writes it into the spare with which the heap begins, and publishes it. Then nothing leads to the old
//! version any more. So the writer writes the new one over it and publishes again, and the spare is free. Both are the same
//! version: readers see the change happen once.
//!
//! # Death
//!
//! A process killed before step 3 leaves the old table, and after it the new one. In both cases the `WRITING` word is not zero.
//! The kernel frees its lock. The next writer finds the word and repairs. It walks the chains, cuts off links that no chain can
//! have, and marks the blocks that can be reached. Then it sets the bitmaps to these marks. There is no log and nothing to undo,
//! since nothing half built can be reached.
//!
//! Last, it brings home a version that was left in the spare. It does so as a change: it writes a block, publishes it, and frees
//! the other. Where all is in order, a repair stores nothing that a reader looks at. Where a link or a record is damaged, each of
//! its stores leaves a table that is whole for the others. A repair that is killed is done again, since it clears `WRITING` at
//! its end.
//!
//! A process that is stopped instead holds the lock; others answer "busy, held by pid N" after a bounded time, and readers
//! do not notice. When it wakes it goes on where it was: the lock was its own all the time.
//!
//! # Workers
//!
//! A worker has a slot as long as it holds the slot's byte ([`slots`]): no heartbeat, no look at /proc. It takes one byte,
//! writes the slot's word, and takes a second byte by which it is listed. The word counts the slot's claims, so that the holder
//! and its time are of one claim.
//!
//! # Cells
//!
//! Beside the region lies a file with a cell for each peer. A writer takes and gives back cells as it takes blocks. The
//! snapshot says which cells are taken, so a death in between is repaired with the blocks. A cell that was taken as often as
//! its words can count rests until all workers that lived then have ended.
//!
//! Writes of requests to cells need no protocol. Processes change words of a cell by compare-and-swap, and each word has the
//! number of its owner or version. Each slot has a row of numbers, which only the worker in it writes. A row counts as long as
//! its slot is active. A process that takes the byte of a free slot may mark it inactive. Behind the rows are the peers that
//! were deleted while connections were open to them ([`cells::deleted`]).
//!
//! # Layouts
//!
//! One library writes one layout, in a file that has its number in its name, and reads the older ones. One byte of each layout
//! says that it is in use. The byte belongs to the open file, so that all children of a master hold it too. A writer that has
//! its lock asks whether a newer layout is in use. If so, it is refused: "superseded by layout N".
//!
//! A process that opens a region of its own layout for the first time marks that layout as in use. It takes the writer locks of
//! the older ones, and copies the table ([`region::open`]). So nothing is acknowledged that the copy lacks. When the last of
//! its users is gone, the older layout writes again. Hence a region remembers whose table it began with, and a digest of that
//! table. A later process that is alone and finds another digest begins anew with the older table, which was in use last
//! ([`region::older_layouts`]).
//!
//! # Damage
//!
//! Nothing that is read is trusted. An offset out of the mapping is an error before it is followed. Each walk and each copy has
//! a bound, in steps or in words, that no content can raise. All that leads on from a block is in its head. The head has a
//! checksum ([`crate::checksum`]) over itself and the generation of the stamp that led there. So a spoiled word neither frees
//! nor shows the memory of another upstream.
//!
//! The words behind the head have a checksum too, and a repair keeps only blocks whose checksums are right. The checksums are
//! against chance. An attacker can make them right again, and so spoil the table, but never more than the table.
//!
//! # Pages
//!
//! Pages are reserved before they are first written ([`reserve`]). So a full file system is an error message and never a
//! SIGBUS. A page may be taken away later. Then it reads as zeros to the process that touches it ([`sigbus`]), and no other
//! process sees the stores of that one. So it publishes nothing more, and leaves a change under way for the next writer to
//! repair.

pub mod arena;
pub mod cells;

pub mod clock;
pub mod deletions;
pub mod file;
pub mod glob;
pub mod history;
pub mod huge_pages;
pub mod image;
#[cfg(feature = "killpoints")]
pub mod kill;
pub mod layout;
pub mod lock;
pub mod mem;
pub mod memory;
pub mod packed;
pub mod region;
pub mod reserve;
pub mod sections;

pub mod sigbus;
pub mod slots;
pub mod sources;
pub mod units;
pub mod versioned;
pub mod writing;

pub use cells::Cells;
pub use mem::Mem;
pub use memory::{Damaged, Memory};
pub use region::{Content, Old, Region, Writer};
pub use units::WORD;
pub use versioned::{GRANULE, Stamp};
pub use writing::Writing;

/// Words in a granule.
pub const GRANULE_WORDS: usize = GRANULE / WORD;
