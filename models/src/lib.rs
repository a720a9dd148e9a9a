//! The protocol under loom: every order in which a few processes may run, and every value that a load may see then, within the
//! bound of each model. The models run the library's own functions, over words that loom watches instead of the mapping.
//!
//! `make model` runs them all. Each prints the number of its executions and the observations in them. "At most n preemptions"
//! means at most n switches away from a process that could have gone on.
//!
//! loom has three limits. It takes sequentially consistent accesses for acquire and release (there are none here; it does
//! fences). A load never sees a store that comes later in its execution. Of the stores to one word it remembers the last seven.

#![cfg(test)]

mod changes;
mod counts;
mod explore;
mod memory;
mod names;
mod probes;
mod repair;
mod sections;
mod slots;
mod table;
