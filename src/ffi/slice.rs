//! Long answers, a slice at a time. The library keeps the rest of each under a number.

use super::edge::{guard, out};
use super::text::{Text, keep};
use crate::error::{Code, Error, Result};
use crate::pace::Pace;
use crate::process;
use crate::status::doc::Shape;
use crate::status::slices::Sliced;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The most answers of one worker that have a rest. The next one ends the one that waited longest: its caller let go of it, or its
/// client is the slowest.
const MOST: usize = 16;

/// A slice of an answer.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Slice {
    /// The bytes, valid until the next call in this thread that returns a text.
    pub text: Text,
    /// The number of the rest; 0: there is none, and the answer is whole.
    pub rest: u64,
}

/// The rests.
#[derive(Default)]
struct Rests {
    last: u64,
    all: BTreeMap<u64, Box<dyn Sliced>>,
}

impl Rests {
    /// Keeps a rest. A number is never given twice, so that no caller goes on with the answer of another.
    fn keep(&mut self, rest: Box<dyn Sliced>) -> u64 {
        if self.all.len() >= MOST {
            self.all.pop_first();
        }
        self.last += 1;
        self.all.insert(self.last, rest);
        self.last
    }
}

thread_local! {
    static RESTS: RefCell<Rests> = RefCell::default();
}

/// Keeps the rest of an answer, if there is one, and answers its number.
pub(super) fn number(rest: Option<Box<dyn Sliced>>) -> u64 {
    rest.map_or(0, |rest| RESTS.with_borrow_mut(|rests| rests.keep(rest)))
}

/// The first slice of an answer. `peers`: see [`dyups_next`].
pub(super) fn begin(answer: impl Sliced + 'static, peers: u32) -> Result<Slice> {
    write(Box::new(answer), peers)
}

/// The shape of slices that Lua decodes one by one.
pub(super) fn shape(peers: u32) -> Shape {
    if peers == 0 { Shape::Text } else { Shape::Objects }
}

fn write(mut answer: Box<dyn Sliced>, peers: u32) -> Result<Slice> {
    let mut out = Vec::new();
    let more = answer.write(&mut Pace::of(peers), &mut out)?;
    let [text, ..] = keep([out, Vec::new(), Vec::new()]);
    Ok(Slice { text, rest: number(more.then_some(answer)) })
}

/// The next slice of an answer.
///
/// # Arguments
///
/// - `slice`: the slice before, whose `rest` is not 0; the next one goes there
/// - `peers`: about how many peers, or as much other work, the slice is long; it takes 2 ms at most. 0: the whole rest
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_NOT_FOUND`: there is no such rest. A thread keeps 16 rests; one more ends the one that waited longest.
/// - `DYUPS_CHANGING`, `DYUPS_DAMAGED`: the rest cannot be read. It is given up.
/// - `DYUPS_INVALID`: NULL.
///
/// # Example
///
/// ```c
/// dyups_slice slice;
/// int32_t code = dyups_routes(1000, &slice);
/// while (code == 0 && slice.rest != 0) code = dyups_next(&slice, 1000);
/// ```
///
/// # Safety
///
/// `slice` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_next(slice: *mut Slice, peers: u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let slice = unsafe { out(slice, "slice")? };
        process::table()?;
        let rest = RESTS.with_borrow_mut(|rests| rests.all.remove(&slice.rest));
        slice.rest = 0;
        let gone = || {
            Error::new(Code::NotFound, format!("the answer was given up: more than {MOST} were begun and not ended"))
        };
        *slice = write(rest.ok_or_else(gone)?, peers)?;
        Ok(0)
    })
}

/// Gives up the rest of an answer. A slice without a rest is left as it is.
///
/// # Arguments
///
/// - `slice`: the last slice
///
/// # Returns
///
/// Nothing.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// dyups_slice slice;
/// if (dyups_routes(1000, &slice) == 0) dyups_give_up(&slice);
/// ```
///
/// # Safety
///
/// `slice` is valid, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_give_up(slice: *mut Slice) {
    guard(|| {
        // SAFETY: the caller's contract.
        if let Some(slice) = unsafe { slice.as_mut() } {
            // A Lua VM that is closed at the end of its thread may find the rests gone already.
            let rest = RESTS.try_with(|rests| rests.borrow_mut().all.remove(&slice.rest));
            drop(rest);
            slice.rest = 0;
        }
        Ok(0)
    });
}
