//! Texts that the library answers, and texts that are safe for a log.

use super::edge::{bytes, guard, out};
use crate::quote::plain;
use std::cell::RefCell;
use std::ffi::c_char;

/// A text that belongs to the library: valid until the next call in this thread that returns one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Text {
    /// The bytes, not terminated; never NULL.
    pub data: *const c_char,
    /// Their number.
    pub len: usize,
}

impl Text {
    /// These bytes, as long as they stay where they are.
    pub(super) fn of(bytes: &[u8]) -> Text {
        Text { data: bytes.as_ptr().cast(), len: bytes.len() }
    }
}

thread_local! {
    static PLAIN: RefCell<String> = const { RefCell::new(String::new()) };
    static ANSWER: RefCell<[Vec<u8>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

/// Keeps the bytes, and answers where they are.
pub(super) fn keep(answer: [Vec<u8>; 3]) -> [Text; 3] {
    ANSWER.with_borrow_mut(|kept| {
        *kept = answer;
        kept.each_ref().map(|bytes| Text::of(bytes))
    })
}

/// Makes a text safe for a log. It escapes bytes that are not UTF-8, control characters, separators of lines and
/// characters that change the direction of text (`\\x0a`, `\\u{202e}`). All else stays as it is.
///
/// # Arguments
///
/// - `data`, `len`: any bytes
/// - `text`: where the answer goes, valid until the next call of this function in this thread
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_INVALID`: NULL, or more than 64 MiB.
///
/// # Example
///
/// ```c
/// dyups_text text;
/// if (dyups_plain("a\nb", 3, &text) == 0) printf("%.*s\n", (int)text.len, text.data);
/// ```
///
/// # Safety
///
/// `data` points to `len` bytes; `text` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_plain(data: *const c_char, len: usize, text: *mut Text) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let (text, data) = unsafe { (out(text, "text")?, bytes(data, len, "data")?) };
        PLAIN.with_borrow_mut(|kept| {
            *kept = plain(data).into_owned();
            *text = Text::of(kept.as_bytes());
        });
        Ok(0)
    })
}
