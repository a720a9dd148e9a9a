//! The table of upstreams and peers, and how a writer publishes a new version of an upstream.
//!
//! - [`snapshot`] lays out an upstream for readers.
//! - [`options`] writes the options of checks into a version. [`options::lenient`] reads them again, and [`options::object`] splits them.
//! - [`ranks`] puts the peers of a version in the order of their weights.
//! - [`directory`] leads from a name to its record.
//! - [`record`] has the words of an upstream that all workers share.
//! - [`store`] reads the table, and makes one change.
//! - [`carry`] gives a version the cells and ids of the version before it.
//! - [`change_log`] says in numbers how a change has altered an upstream.
//! - [`history`] enters changes into the history beside the region.
//! - [`commit`] writes and publishes a change.
//! - [`repair`] clears away a change that died half way.
//! - [`in_place`] publishes a change where the region has no room for a second version.
//! - [`deleted`] remembers peers that are deleted and have connections open.
//! - [`ops`] has the changes of operators.
//! - [`routes`] has those of routes, which lead hosts to upstreams.
//! - [`draining`] deletes peers whose drain has ended.
//! - [`healthcheck`] sets the options of checks.
//! - [`open`] makes a table of a path, and takes one region over into another.

pub mod carry;
pub mod change_log;
pub mod commit;
pub mod copy;
pub mod deleted;
pub mod directory;
pub mod draining;
pub mod healthcheck;
pub mod history;
pub mod in_place;
pub mod open;
pub mod ops;
pub mod options;
pub mod ranks;
pub mod record;
pub mod repair;
pub mod replace;
pub mod routes;
pub mod snapshot;
pub mod store;

pub use record::Record;
pub use store::Table;
