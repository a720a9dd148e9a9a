//! dyups changes nginx upstreams while nginx runs: tables, peer selection and peer state in shared memory, behind a C ABI that
//! LuaJIT loads into nginx's workers.
//!
//! A tour, from the outside in:
//!
//! - [`ffi`] is the C ABI. It checks arguments and turns errors into a code and a message; nothing else happens there.
//! - [`process`] holds what one process has: the table, mapped once, and its worker slot.
//! - [`admin`] and [`status`] are what operators talk to: requests as bytes in, answers as bytes out.
//! - [`config`] reads what people and programs write, JSON and nginx's own syntax, by one table of fields.
//! - [`balance`] picks a peer. [`balance::pick`] is the request path; [`balance::rr`] and [`balance::chash`] are pure algorithms.
//! - [`health`] is what takes a peer out of the picking, and brings it back.
//! - [`table`] is what upstreams and peers are, how a version of one is laid out, published and repaired.
//! - [`version`] is nginx's, for what differs from one to another.
//! - [`shm`] is the memory below: bytes, offsets, locks and the protocol between readers and writers. Begin there if you are
//!   here to check whether it is right.
//!
//! `unsafe` lives in [`shm`] and [`ffi`], and nowhere else.
#![deny(missing_docs)]

pub mod admin;
pub mod balance;
pub mod bounds;
pub mod checksum;
pub mod config;
pub mod error;
#[allow(unsafe_code)]
pub mod ffi;
pub mod health;
pub mod http;
pub mod process;
pub mod quote;
pub mod random;
#[allow(unsafe_code)]
pub mod shm;
pub mod state;
pub mod status;
pub mod table;
pub mod upstream;
pub mod version;
