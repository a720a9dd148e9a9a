//! libFuzzer on a hostile region. The cases, and what must hold of them, are those of tests/hostile.
#![no_main]

#[path = "../../tests/hostile/inherited.rs"]
#[allow(dead_code)]
mod inherited;
#[path = "../../tests/hostile/region/mod.rs"]
#[allow(dead_code)]
mod region;
#[path = "../../tests/support/mod.rs"]
mod support;

use region::{Bench, Case};
use support::system;

thread_local! {
    static BENCH: Bench = Bench::new();
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    BENCH.with(|bench| bench.run(&Case::read(bytes)));
});
