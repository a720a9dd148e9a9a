//! Changes by long texts, which a worker makes a part at a time: it serves requests in between.

use super::changes::told;
use super::edge::{bytes, guard, refused, wait};
use crate::admin::draft::Draft;
use crate::error::{Code, Error, Result};
use crate::pace::Pace;
use crate::process;
use std::cell::RefCell;
use std::ffi::c_char;
use std::time::{Duration, Instant};

/// The most drafts of a thread.
const MOST: usize = 8;

/// A draft that no call has named for so long gives way to a new one.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The answer of a call that is to be made again.
pub(super) const MORE: i32 = 1;

struct Kept {
    id: u32,
    named: Instant,
    draft: Draft,
}

/// The drafts of a thread.
#[derive(Default)]
struct Drafts {
    kept: Vec<Kept>,
    last: u32,
}

thread_local! {
    static DRAFTS: RefCell<Drafts> = RefCell::default();
}

/// Whether the work of a call goes on: it does for a few milliseconds.
pub(super) fn goes_on() -> impl FnMut() -> bool {
    let mut pace = Pace::of(u32::MAX);
    move || pace.step()
}

/// Lends a draft to `work`.
pub(super) fn with<T>(id: u32, work: impl FnOnce(&mut Draft) -> Result<T>) -> Result<T> {
    DRAFTS.with_borrow_mut(|drafts| {
        let kept = drafts.kept.iter_mut().find(|kept| kept.id == id);
        let kept = kept.ok_or_else(|| refused("draft", &id.to_string(), "one of dyups_draft that has not ended"))?;
        kept.named = Instant::now();
        work(&mut kept.draft)
    })
}

/// Begins a draft: a change by a text that is too long to be worked off in one call. The text comes by `dyups_draft_add`.
/// `dyups_draft_set_upstream` or `dyups_serve` works it off, with many short calls. `dyups_draft_end` ends the draft, done
/// or not. A draft belongs to the thread that has begun it.
///
/// # Returns
///
/// The number of the draft, 1 or more.
///
/// # Errors
///
/// - `DYUPS_FULL`: this thread has eight drafts. One that was not used for a minute gives way.
///
/// # Example
///
/// ```c
/// int32_t draft = dyups_draft();
/// if (draft > 0) dyups_draft_end((uint32_t)draft);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_draft() -> i32 {
    guard(|| {
        DRAFTS.with_borrow_mut(|Drafts { kept, last }| {
            if kept.len() >= MOST {
                kept.retain(|kept| kept.named.elapsed() < FORGOTTEN);
            }
            if kept.len() >= MOST {
                return Err(Error::new(Code::Full, format!("draft: {MOST} are under way: end one of them first")));
            }
            // A draft that is being used has another number.
            let is_taken = |id: i32| id < 1 || kept.iter().any(|kept| kept.id == id as u32);
            let mut id = *last as i32;
            while {
                id = id.wrapping_add(1);
                is_taken(id)
            } {}
            *last = id as u32;
            kept.push(Kept { id: *last, named: Instant::now(), draft: Draft::default() });
            Ok(id)
        })
    })
}

/// Adds a piece to the text of a draft.
///
/// # Arguments
///
/// - `draft`: the number of the draft
/// - `data`, `len`: the bytes, at most 64 MiB; the pieces may be cut anywhere
///
/// # Returns
///
/// 0. Where all pieces together have more than 64 MiB, the call that works them off says so.
///
/// # Errors
///
/// - `DYUPS_INVALID`: there is no such draft; its text is being worked off; NULL, or more than 64 MiB.
///
/// # Example
///
/// ```c
/// int32_t draft = dyups_draft();
/// const char *pieces[] = {"{\"peers\": [", "{\"host\": \"10.0.0.1\"}", "]}"};
/// for (int i = 0; i < 3; i++) dyups_draft_add((uint32_t)draft, pieces[i], strlen(pieces[i]));
/// ```
///
/// # Safety
///
/// `data` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_draft_add(draft: u32, data: *const c_char, len: usize) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let piece = unsafe { bytes(data, len, "draft")? };
        with(draft, |draft| draft.add(piece)).map(|()| 0)
    })
}

/// Works at a draft whose text is that of `dyups_set_upstream`, for some milliseconds. The last call makes the change, which
/// is one step.
///
/// # Arguments
///
/// - `draft`: the number of the draft
/// - `name`, `len`, `wait_ms`: as in `dyups_add_peer`, in each call the same
///
/// # Returns
///
/// 1: make the same call again. 0: the change is made.
///
/// # Errors
///
/// As `dyups_set_upstream`. After `DYUPS_BUSY` the same call may be made again; after another error only a new draft can make
/// the change.
///
/// # Example
///
/// ```c
/// int32_t draft = dyups_draft(), code;
/// dyups_draft_add((uint32_t)draft, "{\"peers\": []}", 13);
/// while ((code = dyups_draft_set_upstream((uint32_t)draft, "api", 3, 1000)) == 1) { /* serve requests */ }
/// dyups_draft_end((uint32_t)draft);
/// ```
///
/// # Safety
///
/// `name` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_draft_set_upstream(draft: u32, name: *const c_char, len: usize, wait_ms: u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let name = process::name(unsafe { bytes(name, len, "upstream") }?)?;
        with(draft, |draft| {
            draft.check_size("upstream")?;
            let set = || draft.set_upstream(process::table()?, name, wait(wait_ms), &mut goes_on());
            Ok(if told("Lua", set)? { 0 } else { MORE })
        })
    })
}

/// Ends a draft, and frees its memory. A change that was not made is not made any more.
///
/// # Arguments
///
/// - `draft`: the number of the draft
///
/// # Returns
///
/// 0, also where there is no such draft.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// int32_t draft = dyups_draft();
/// dyups_draft_end((uint32_t)draft);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_draft_end(draft: u32) -> i32 {
    guard(|| {
        // At the end of its thread, a Lua VM may collect its drafts after they are gone.
        let _ = DRAFTS.try_with(|drafts| drafts.borrow_mut().kept.retain(|kept| kept.id != draft));
        Ok(0)
    })
}
