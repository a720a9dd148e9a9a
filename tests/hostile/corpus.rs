//! The cases that fuzzing found worth keeping, and those that were made by hand.

use crate::region::{Bench, Case};
use std::path::Path;

/// Runs every case in fuzz/corpus.
pub fn every_case_is_an_error_or_a_right_answer() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/region");
    let mut files: Vec<_> = std::fs::read_dir(&dir).expect("the corpus").flatten().map(|entry| entry.path()).collect();
    files.sort();
    let bench = Bench::new();
    for file in &files {
        run(&bench, file);
    }
    println!("{} cases", files.len());
    assert!(files.len() > 100, "where have they gone?");
}

/// Runs one and names it if it fails.
fn run(bench: &Bench, file: &Path) {
    super::failing::while_at(&format!("case {}", file.display()), || {
        bench.run(&Case::read(&std::fs::read(file).expect("readable")));
    });
}

/// Shows one, and runs it.
pub fn show(file: &Path) {
    println!("{:#?}", Case::read(&std::fs::read(file).expect("readable")));
    run(&Bench::new(), file);
}
