//! Texts of people and programs, read into [`crate::upstream::Upstream`]s, and written back.
//!
//! - [`json`]: the upstreams file, and the answer of `status` in its shape.
//! - [`nginx`]: nginx's own `upstream NAME { ... }`, whole files and the inside of one block.
//! - [`dyups`]: the text answers of ngx_http_dyups_module.
//! - [`check`]: the options of an upstream's health check.
//! - [`route`]: the upstreams that a host leads to.
//!
//! JSON, from a file or from Lua, first becomes a [`value::Value`]. [`object`] reads its fields as the table in [`fields`]
//! allows. [`peer`] and [`upstream`] make the stored values from them. All of these are pure functions: they take bytes, give
//! values, and touch neither files nor the region. [`crate::source`] reads files.
//!
//! [`long`] and [`nginx::LongBlock`] read a text of many peers a part at a time.
//!
//! [`report`] has the options of a report of statistics.
//!
//! A message names the place, the value and the allowed values: `upstreams.api.peers[3].weight: -1: allowed: an integer from 0
//! to 65535`. Values come from outside, so they are shown through [`crate::quote`].

mod addresses;
pub mod balance;
pub mod check;
pub mod dyups;
pub mod fields;
pub mod json;
pub mod long;
pub mod nginx;
pub mod object;
pub mod options;
pub mod path;
pub mod peer;
pub mod report;
pub mod route;
pub mod setup;
pub mod status;
pub mod text;
pub mod upstream;
pub mod value;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::{MAX_INPUT_BYTES, check_size};

    #[test]
    fn input_of_more_than_64_mib_is_refused_unread() {
        let large = vec![b' '; MAX_INPUT_BYTES + 1];
        assert_eq!(check_size(&large[1..], "JSON"), Ok(()));
        let message = "67108865 bytes: allowed: at most 67108864 bytes";
        assert_eq!(value::parse(&large).unwrap_err().message, format!("JSON: {message}"));
        assert_eq!(nginx::file(&large, "f.conf", None).unwrap_err().message, format!("f.conf: {message}"));
        assert_eq!(nginx::block("a", &large, "body", None).unwrap_err().message, format!("body: {message}"));
    }
}
