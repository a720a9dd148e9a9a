//! `make bench`: the cost of dyups, beside nginx's own way or another yardstick of the same run.
//!
//! Every figure is the median of runs that alternate with those of its yardstick, so that a slow moment of the machine
//! meets both. The measured code runs in nginx's workers, through the Lua functions that a configuration calls. This program
//! starts them, collects their figures, and prints the table of docs/benchmarks.md.
//!
//!     make bench                          all of it, some minutes
//!     make bench ONLY="find contended"    some sections
//!     make bench PEERS=DIR                with lua-resty-balancer beside it (built: DIR/librestychash.so, DIR/lib)
#![allow(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;
#[path = "../tests/support/nginx/mod.rs"]
mod web;

mod answers;
mod backend;
mod callgrind;
mod changes;
mod contended;
mod cpu;
mod find;
mod machine;
mod measure;
mod memory;
mod peers;
mod plain;
mod probes;
mod reload;
mod requests;
mod routes;
mod seed;
mod slow_start;
mod statistics;
mod steady;
mod table;
mod visible;
mod worker;

use place::Place;
use std::process::ExitCode;
use support::system;
use table::Line;
use web::{client, load, place, server};

/// A section: its name, and the function that measures it.
type Section = (&'static str, fn(&Place) -> Vec<Line>);

const SECTIONS: [Section; 13] = [
    ("find", find::measure),
    ("contended", contended::measure),
    ("routes", routes::measure),
    ("slow_start", slow_start::measure),
    ("requests", requests::measure),
    ("statistics", statistics::measure),
    ("changes", changes::measure),
    ("seed", seed::measure),
    ("memory", memory::measure),
    ("visible", visible::measure),
    ("reload", reload::measure),
    ("probes", probes::measure),
    ("answers", answers::measure),
];

fn main() -> ExitCode {
    // cargo bench adds --bench.
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let Some(unknown) = only.iter().find(|name| SECTIONS.iter().all(|(section, _)| section != name)) {
        eprintln!("bench: {unknown}: allowed: {}", SECTIONS.map(|(section, _)| section).join(", "));
        return ExitCode::FAILURE;
    }
    let place = Place::new("bench");
    let mut quiet = vec![machine::quiet()];
    let mut lines = Vec::new();
    for (name, measure) in SECTIONS {
        if only.is_empty() || only.iter().any(|section| section == name) {
            eprintln!("bench: {name}");
            lines.extend(measure(&place));
            quiet.push(machine::quiet());
        }
    }
    table::print(&lines);
    machine::print(&quiet);
    match lines.iter().filter(|line| line.is_missed()).count() {
        0 => ExitCode::SUCCESS,
        missed => {
            println!("\n{missed} of the limits above: missed");
            ExitCode::FAILURE
        }
    }
}
