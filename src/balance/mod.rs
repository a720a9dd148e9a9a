//! How a peer is picked: one file a method.

pub mod attempt;
pub mod bits;
pub mod candidates;
mod chash;
mod debt;
pub mod failure;
mod group;
pub mod ip_hash;
pub mod least_conn;
mod load;
pub mod miss;
mod once;
pub mod outcome;
pub mod passed;
pub mod pick;
mod picked;
pub mod random;
pub mod request;
pub mod route;
mod slow_start;
pub mod starters;
mod tried;
pub mod usable;
