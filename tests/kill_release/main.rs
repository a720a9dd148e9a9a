//! SIGKILL after any instruction of the shipped library: the table is the old one or the new one, whole.
//!
//! A process calls the library by its C ABI and is stopped after each of its instructions. Whenever the files of the region
//! have changed, others take over a copy of them, as they would if it had died there. The library has to be built: `make
//! build`. A part of it is looked at in `make test`, all of it by `make kill-release`.
#![allow(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod content;
mod driver;
mod heirs;
mod image;
mod operation;
mod operations;
mod step;
mod traced;

use image::Image;
use operation::Operation;
use operations::{NOT_STEPPED, READ_ONLY, operations, repairs};
use std::collections::BTreeSet;
use std::io;
use step::{Seen, Stepper};
use support::Scratch;

/// A few seconds of it, for every day.
#[test]
fn after_any_instruction_of_some_calls_others_find_the_old_table_or_the_new_one() {
    let scratch = Scratch::new();
    let all = operations(&scratch);
    match look_at(all.iter().filter(|operation| operation.short), 1) {
        Ok(seen) => println!("{seen}"),
        Err(error) => eprintln!("after any instruction of some calls: skipped: ptrace: {error}"),
    }
}

#[test]
#[ignore = "takes minutes: make kill-release"]
fn after_any_instruction_of_any_call_others_find_the_old_table_or_the_new_one() {
    let scratch = Scratch::new();
    let all = &operations(&scratch);
    let seen: io::Result<Seen> = std::thread::scope(|scope| {
        let half = |first| move || look_at(all.iter().skip(first).step_by(2), usize::MAX);
        let threads = [0, 1].map(|first| scope.spawn(half(first)));
        threads.into_iter().map(|thread| thread.join().expect("content")).sum()
    });
    println!("{}", seen.expect("ptrace"));
}

/// Looks at calls, and then at so many repairs of the regions that they left around their publish.
fn look_at<'a>(operations: impl Iterator<Item = &'a Operation>, most: usize) -> io::Result<Seen> {
    let scratch = Scratch::new();
    let mut stepper = Stepper::new(&scratch);
    let mut left = Vec::new();
    for operation in operations {
        let around = stepper.look_at(operation)?;
        left.extend(around.into_iter().filter(Image::is_writing).map(|image| (&operation.name, image)));
    }
    for repair in left.iter().flat_map(|(name, image)| repairs(name, image)).take(most) {
        stepper.look_at(&repair)?;
    }
    Ok(stepper.seen)
}

/// A new function has to be looked at, or to be named as one that stores nothing.
#[test]
fn every_function_of_the_c_abi_is_looked_at() {
    let scratch = Scratch::new();
    let operations = operations(&scratch);
    let known: BTreeSet<&str> =
        operations.iter().map(Operation::function).chain(READ_ONLY).chain(NOT_STEPPED).collect();
    let header = include_str!("../../include/dyups.h");
    let declared: BTreeSet<&str> = header
        .lines()
        .filter(|line| !line.starts_with("//") && !line.starts_with(' '))
        .filter_map(|line| Some(line.split_once('(')?.0.rsplit_once("dyups_")?.1))
        .collect();
    assert_eq!(declared, known);
}

#[test]
fn what_only_reads_stores_nothing() {
    let scratch = Scratch::new();
    let operation = operations(&scratch).into_iter().find(|operation| operation.function() == "find").expect("a pick");
    let dir = scratch.file("region");
    let mut driver = operation.prepare(&dir);
    let before = Image::of(&dir);
    for call in ["status\t", "status\tapi", "report\tapi", "look\tapi", "lost"] {
        driver.ok(call);
        assert!(Image::of(&dir) == before, "{call}");
    }
    driver.ok(&operation.call_in(&dir));
    assert!(Image::of(&dir) != before, "a pick counts");
}
