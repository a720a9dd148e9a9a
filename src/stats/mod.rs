//! Statistics: the numbers of each try, at its peer and at its upstream.
//!
//! - [`ended`]: how a try ended, in nginx's numbers

pub mod ended;
