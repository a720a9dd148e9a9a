//! The units in which a region is measured.

/// Bytes in a word, the unit of every offset in the region.
pub const WORD: usize = 8;
/// Bytes in a page, the unit in which memory is reserved.
pub const PAGE: usize = 4096;
