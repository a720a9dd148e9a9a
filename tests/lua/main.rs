//! lua/ in a VM of this process, with the library that ships: `make build` has to have built it.

#![allow(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod long_writes;
mod module;
mod vm;
