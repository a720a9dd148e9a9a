//! Answers for operators: the table and its routes as JSON, reports, metrics, and texts. Each is written in slices
//! ([`slices::Sliced`]), so that a long one does not hold a worker.

pub mod doc;
pub mod metrics;
pub mod numbers;
pub mod peers;
pub mod report;
pub mod slices;
pub mod table;
pub mod text;
pub mod walk;

use crate::error::Result;
use crate::table::store::Table;
use doc::Shape;

/// The table, or the upstream called `name` alone, as JSON in one piece. Loading it back gives the same table. `slot`: that of this
/// process.
///
/// # Errors
///
/// - [`crate::error::Code::NotFound`]: there is no upstream called `name`.
/// - [`crate::error::Code::Changing`], [`crate::error::Code::Damaged`]: the table or its cells cannot be read.
/// - [`crate::error::Code::System`]: the operating system does not say which workers live.
pub fn json(table: &Table, name: Option<&str>, slot: Option<u32>) -> Result<Vec<u8>> {
    slices::whole(table::TableAnswer::of(table, name, slot, false, Shape::Text)?)
}
