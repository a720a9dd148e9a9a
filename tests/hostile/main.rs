//! A hostile region and a hostile worker: errors or right answers, no crash, no wait and no memory without bound.
//!
//! `hostile` runs every check in a process of its own, all at once. `hostile NAME` runs those with this in their names.
//! `hostile FILE` shows a case of fuzz/corpus and runs it. It needs the feature `killpoints`, to count the library's accesses,
//! and a process of one thread, which it forks: hence no libtest.
#![allow(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod children;
mod corpus;
mod failing;
mod inherited;
mod meanwhile;
mod region;
mod statistics;
mod worker;

use std::path::Path;
use std::process::ExitCode;
use support::system;

/// Seconds after which a check has failed.
const PATIENCE: u32 = 120;

macro_rules! checks {
    ($($module:ident::$check:ident,)*) => { [$((stringify!($check), $module::$check as fn()),)*] };
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let [file] = &wanted[..]
        && Path::new(file).is_file()
    {
        corpus::show(Path::new(file));
        return ExitCode::SUCCESS;
    }
    let checks = checks![
        corpus::every_case_is_an_error_or_a_right_answer,
        meanwhile::a_region_that_is_spoiled_while_it_is_used_is_survived,
        statistics::each_word_of_a_file_of_statistics_may_be_any_number,
        statistics::a_cell_and_a_record_may_lead_to_any_section,
        statistics::a_file_of_statistics_that_is_spoiled_while_it_is_used_is_survived,
        statistics::a_foreign_file_of_statistics_is_none,
        worker::a_worker_has_the_mapping_and_the_lock_file_and_nothing_else,
        worker::a_worker_cannot_reach_the_file_of_the_region,
        worker::what_a_worker_does_to_its_own_mapping_is_its_own_affair,
        worker::the_writer_lock_in_a_worker_s_hands_is_a_bounded_busy_that_names_it,
        worker::the_creation_lock_in_a_worker_s_hands_is_a_bounded_busy_that_names_it,
        worker::slots_in_a_worker_s_hands_are_all_taken_until_it_ends,
        worker::a_lock_that_outlives_the_worker_that_took_it_is_taken_back,
        worker::a_lock_file_that_a_worker_cuts_or_fills_locks_as_before,
        worker::holes_are_errors_or_nothing_and_a_repair_makes_a_table_of_them,
        worker::holes_in_a_full_file_system_kill_nobody,
    ];
    let chosen = checks.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(part)));
    let running: Vec<_> = chosen.map(|&(name, check)| (name, children::fork(|| alone(check)))).collect();
    let failed = running.iter().filter(|(name, child)| {
        let status = children::wait(*child);
        println!("hostile: {name} ... {}", if status == 0 { "ok" } else { "FAILED" });
        status != 0
    });
    let failed = failed.count();
    println!("\n{} passed, {failed} failed", running.len() - failed);
    if failed == 0 && !running.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn alone(check: fn()) {
    // SAFETY: a number; the signal ends this process, which is a check that hangs.
    unsafe { libc::alarm(PATIENCE) };
    check();
}
