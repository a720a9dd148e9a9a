//! Shared memory: bytes and offsets, and nothing about upstreams. This comment is the whole protocol.
//!
//! # The region
//!
//! A file ([`region`]) that the master maps and every worker inherits. [`layout`] says where everything lies; it follows
//! from the size, so no offset of an area is read from the file. The file is closed once it is mapped. What remains open
//! is the lock file ([`lock`]). How the first process makes the file, or takes over the table of an older layout while that is
//! still in use, is told in [`open`].
//!
//! # Readers
//!
//! A reader announces nothing, takes no lock and makes no system call. It loads a *stamp* ([`versioned`]), a word that holds
//! a block and a generation, reads what it leads to word by word ([`mem`]: bounds-checked relaxed atomics, so what it reads
//! may be wrong but reading is always defined), copies out what it returns, fences, and loads the stamp again. If it changed,
//! the copy is thrown away and all starts over, at most 16 times.
//!
//! # Writers
//!
//! One at a time, by the writer lock. A change
//!
//! 1. says in the header that it is under way (`WRITING`),
//! 2. takes blocks from the heap ([`arena`]) and fills them; nobody can see them yet,
//! 3. publishes: **one** store of one word, after everything that it leads to and before everything that follows,
//! 4. frees the blocks that the old word led to; they may be reused at once,
//! 5. says that it has ended.
//!
//! Where the heap has no room, a version that is no larger than the old one takes steps 2 and 3 twice: in the spare, and then
//! where the old one was.
//!
//! # Death
//!
//! A process killed before step 3 leaves the old table, after it the new one, and in both cases a `WRITING` word that is not
//! zero. The kernel frees its lock. The next writer finds the word and repairs: it walks from the root, marks what can be
//! reached, and makes the heap's bitmap say just that. There is no log and nothing to undo, since nothing half built can be
//! reached. Killed in the middle of that, it is done again: repair writes only what no reader looks at.
//!
//! A process that is stopped instead holds the lock; others answer "busy, held by pid N" after a bounded time, and readers
//! do not notice.
//!
//! # Damage
//!
//! Nothing that is read is trusted: what leads out of the mapping is an error before it is followed. All that leads on from a
//! block is in its head, and the head has a checksum ([`checksum`]) over itself and the generation of the stamp that led
//! there: so a spoiled word neither frees nor shows what is somebody else's. What lies behind the head has one too, and a
//! repair keeps only what its checksums vouch for. They are against chance: who means it can make them right again, and so
//! spoil the table, but never more than the table.
//!
//! # Memory
//!
//! Pages are reserved before they are first written, so a full file system is an error message and never a SIGBUS; a page that
//! somebody takes away later reads as zeros, and ends the changes of who noticed ([`torn`]). Memory
//! that readers write (counters) has a fixed place and type: a process that slept can add to a counter that means something
//! else by now, and no more than that.

pub mod arena;
pub mod change;
pub mod checksum;
pub mod elders;
pub mod file;
pub mod header;
#[cfg(feature = "killpoints")]
pub mod kill;
pub mod large;
pub mod layout;
pub mod lock;
pub mod mem;
pub mod memory;
pub mod open;
pub mod region;
pub mod reserve;
pub mod slots;
pub mod torn;
pub mod versioned;

pub use change::Change;
pub use mem::{Mem, WORD};
pub use memory::{Damaged, Memory};
pub use region::{Content, Region, Writer};
pub use versioned::{GRANULE, Stamp};

/// Words in a granule.
pub const GRANULE_WORDS: usize = GRANULE / WORD;
