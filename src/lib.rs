//! dyups changes nginx upstreams while nginx runs. Tables, peer selection and peer state lie in shared memory, behind a C ABI
//! that LuaJIT loads into nginx's workers.
//!
//! A tour, from the outside in:
//!
//! - [`ffi`] is the C ABI. It checks arguments and turns errors into a code and a message; nothing else happens there.
//! - [`process`] holds the state of one process: the table, mapped once, and its worker slot.
//! - [`admin`] and [`status`] answer operators: requests as bytes in, answers as bytes out.
//! - [`source`] reads the files that have upstreams.
//! - [`config`] reads the texts of people and programs, JSON and nginx's own syntax, by one table of fields.
//! - [`health`] takes peers out of the picking, and brings them back.
//! - [`balance`] picks a peer. [`balance::pick`] is the request path.
//! - [`table`] lays out a version of an upstream, publishes it, and repairs the table after a dead writer.
//! - [`order`] has the pure algorithms: the schedule of the round robin, the ring of the consistent hash.
//! - [`state`] has the meaning of the words of a peer that all workers share.
//! - [`shm`] is the memory below: bytes, offsets, locks and the protocol between readers and writers. Begin there to check
//!   whether it is right.
//! - [`http`] writes requests of HTTP/1 and reads responses.
//! - [`upstream`] has the values: upstreams, peers, checks.
//! - [`error`], [`quote`], [`checksum`], [`random`], [`bounds`] and [`version`] (of nginx) are the ground.
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
pub mod order;
pub mod pace;
pub mod process;
pub mod quote;
pub mod random;
#[allow(unsafe_code)]
pub mod shm;
pub mod source;
pub mod state;
pub mod stats;
pub mod status;
pub mod table;
pub mod upstream;
pub mod version;
