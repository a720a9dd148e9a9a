//! Upstreams and peers: what the table is, and how a new version of it is published.
//!
//! - [`snapshot`]: how an upstream is laid out for readers
//! - [`checks`]: what is in it of checks; [`lenient`]: how that is read; [`entries`]: and split
//! - [`ranks`]: and of its peers by weight
//! - [`directory`]: from a name to its record
//! - [`record`]: the words in it that all workers share
//! - [`store`]: reading all of it, and one change
//! - [`carry`]: what a version has of the one before it
//! - [`change_log`]: what a change has done, in numbers
//! - [`commit`]: how a change is written and published; repair
//! - [`spare`]: how that goes on where there is no room
//! - [`departed`]: what is left of peers with connections open
//! - [`ops`]: what an operator can do
//! - [`draining`]: the end of a drain
//! - [`checking`]: and of checks
//! - [`open`]: from a path to a table, and from one region to another

pub mod carry;
pub mod change_log;
pub mod checking;
pub mod checks;
pub mod commit;
pub mod departed;
pub mod directory;
pub mod draining;
pub mod entries;
pub mod lenient;
pub mod open;
pub mod ops;
pub mod ranks;
pub mod record;
pub mod snapshot;
pub mod spare;
pub mod store;

pub use record::Record;
pub use store::Table;
