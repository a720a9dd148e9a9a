//! Nothing is left out: every line of the library that stores to the region was the last one of some process, and every
//! function that changes the table is an operation here.

use crate::operations::OPERATIONS;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Fails with the list of what is missing. `places`: where stores came from.
pub fn check(places: &BTreeSet<(&'static str, u32)>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for path in sources(&root.join("src")) {
        let file = path.strip_prefix(root).expect("below").display().to_string();
        let text = std::fs::read_to_string(&path).expect("readable");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in (1u32..).zip(code.lines()) {
            let reached = |at: u32| places.iter().any(|&(place, line)| place.ends_with(&file) && line == at);
            if stores(line) && !reached(number) {
                missing.push(format!("{file}:{number}: no process died at: {}", line.trim()));
            }
            if let Some(name) = changes(&file, line).filter(|name| OPERATIONS.iter().all(|known| known.calls != *name))
            {
                missing.push(format!("{file}:{number}: no operation calls {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "not covered:\n{}", missing.join("\n"));
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("readable").path();
        match path.is_dir() {
            true => found.append(&mut sources(&path)),
            // The memory itself: others call it.
            false if ["mem.rs", "memory.rs", "kill.rs"].iter().any(|name| path.ends_with(name)) => {}
            false => found.push(path),
        }
    }
    found
}

fn stores(line: &str) -> bool {
    let calls = ["store(", "publish(", "store_all(", "amend(", "add("];
    calls.iter().any(|call| line.contains(&format!("mem.{call}")) || line.contains(&format!("mem().{call}")))
}

/// The name of a public function of the table that may wait for the writer lock: one that changes something.
fn changes<'a>(file: &str, line: &'a str) -> Option<&'a str> {
    let signature = line.trim().strip_prefix("pub fn ")?;
    let name = signature.split(['(', '<']).next()?;
    // What the others are made of.
    let inner = ["edit", "writer"].contains(&name);
    (file.starts_with("src/table/") && signature.contains("wait: Duration") && !inner).then_some(name)
}
