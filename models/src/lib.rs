//! The protocol under loom: every order in which a few processes may run, and every value that a load may see then, as far as
//! the bound of each model reaches. What runs are the library's own functions, over words that loom watches instead of the
//! mapping.
//!
//! `make model` runs them all. Each prints how many executions it had and what was seen in them; with at most n preemptions
//! means: with at most n switches away from a process that could have gone on.
//!
//! What loom does not do: it takes sequentially consistent accesses for acquire and release (there are none; fences it does),
//! a load never sees a store that comes later in its execution, and of the stores to one word it remembers the last seven.

#![cfg(test)]

mod changes;
mod counts;
mod explore;
mod memory;
mod names;
mod probes;
mod repair;
mod slots;
mod table;
