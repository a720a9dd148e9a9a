//! Statistics: the numbers of each try, at its peer and at its upstream.
//!
//! - [`ended`]: how a try ended, in nginx's numbers
//! - [`histogram`]: buckets of times
//! - [`section`]: the words of the totals of one peer or upstream
//! - [`place`]: where these totals are
//! - [`tally`]: the tries of a worker that are not in the totals yet
//! - [`delta`]: what it adds to one section
//! - [`totals`]: a section as it was at one moment
//! - [`span`]: the last minute and the last hour of an upstream

pub mod delta;
pub mod ended;
pub mod histogram;
pub mod place;
pub mod section;
pub mod span;
pub mod tally;
pub mod totals;
