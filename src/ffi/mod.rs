//! The C ABI, and nothing else: check the arguments, call the core, turn an error into a code and a message.
//!
//! cbindgen makes `include/dyups.h` from this folder, and the library hands that text to Lua
//! ([`dyups_cdef`](setup::dyups_cdef)). For every function:
//!
//! - A negative result is a `dyups_code`; [`dyups_error`](edge::dyups_error) then has the message, for this thread, until the
//!   next call.
//! - Bytes are given as a pointer and a length, without a terminating NUL. A pointer may be NULL when the length is 0.
//! - No panic crosses the ABI: the library catches it and answers `DYUPS_INTERNAL`.
//! - Any process that has inherited the region may call any function; all of them see one table. A handle belongs to the
//!   thread that opened it; all else may be called from any thread.

pub mod admin;
pub mod change;
pub mod changes;
pub mod draft;
pub mod edge;
pub mod find;
mod kept;
mod library;
mod nginx;
pub mod probe;
pub mod request;
pub mod route;
pub mod setup;
pub mod show;
pub mod slice;
mod states;
pub mod text;
mod tls;
mod warning;
