//! Upstreams and peers: what the table is, and how a new version of it is published.
//!
//! - [`snapshot`]: how an upstream is laid out for readers
//! - [`options`]: what is in it of checks; [`options::lenient`]: how that is read; [`options::object`]: and split
//! - [`ranks`]: and of its peers by weight
//! - [`directory`]: from a name to its record
//! - [`record`]: the words in it that all workers share
//! - [`store`]: reading all of it, and one change
//! - [`carry`]: what a version has of the one before it
//! - [`change_log`]: what a change has done, in numbers
//! - [`commit`]: how a change is written and published; repair
//! - [`in_place`]: how that goes on where there is no room
//! - [`deleted`]: what is left of peers with connections open
//! - [`ops`]: what an operator can do
//! - [`draining`]: the end of a drain
//! - [`healthcheck`]: and of checks
//! - [`open`]: from a path to a table, and from one region to another

pub mod carry;
pub mod change_log;
pub mod commit;
pub mod deleted;
pub mod directory;
pub mod draining;
pub mod healthcheck;
pub mod in_place;
pub mod open;
pub mod ops;
pub mod options;
pub mod ranks;
pub mod record;
pub mod snapshot;
pub mod store;

pub use record::Record;
pub use store::Table;
