//! libFuzzer on a hostile region. The cases, and what must hold of them, are those of tests/hostile.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/hostile/inherited.rs"]
#[allow(dead_code)]
mod inherited;
#[path = "../../tests/hostile/region/mod.rs"]
#[allow(dead_code)]
mod region;
#[path = "../../tests/nginx/system.rs"]
#[allow(dead_code)]
mod system;

use region::{Bench, Case};

thread_local! {
    static BENCH: Bench = Bench::new();
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    BENCH.with(|bench| bench.run(&Case::read(bytes)));
});
