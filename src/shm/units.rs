//! The units in which a region is measured.

/// Bytes in a word, the unit of every offset in the region.
pub const WORD: usize = 8;
/// Bytes in a page, the unit in which memory is reserved.
pub const PAGE: usize = 4096;
/// Words by which a file beside a region says whose it is.
pub const TITLE_WORDS: usize = 6;
