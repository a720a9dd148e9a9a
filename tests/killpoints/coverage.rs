//! Nothing is left out. A process died at every line of the library that stores to the region. Every function that changes the
//! table is an operation here.

use crate::Tally;
use std::path::{Path, PathBuf};

/// The calls of functions of the table.
const CALLERS: &str = concat!(include_str!("call.rs"), include_str!("checks.rs"), include_str!("own.rs"));

/// Fails with the list of the lines and functions that are missing.
pub fn check(tally: &Tally) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for path in sources(&root.join("src")) {
        let file = path.strip_prefix(root).expect("below").display().to_string();
        let text = std::fs::read_to_string(&path).expect("readable");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in (1u32..).zip(code.lines()) {
            let reached = |at: u32| tally.died.iter().any(|&(place, line)| place.ends_with(&file) && line == at);
            if stores(line) && !reached(number) {
                missing.push(format!("{file}:{number}: no process died at: {}", line.trim()));
            }
            if hides_a_store(line) {
                missing.push(format!("{file}:{number}: to be written as mem.store(...): {}", line.trim()));
            }
        }
        for name in changes(&file, code) {
            if !tally.called.contains(name) || !CALLERS.contains(&format!(".{name}(")) {
                missing.push(format!("{file}: no operation calls {name}"));
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
            // The memory itself, which others call, and tests.
            false if ["mem.rs", "memory.rs", "kill.rs", "tests.rs"].iter().any(|name| path.ends_with(name)) => {}
            false => found.push(path),
        }
    }
    found
}

const CALLS: [&str; 6] = ["store(", "publish(", "store_all(", "amend(", "add(", "replace("];

fn stores(line: &str) -> bool {
    CALLS.iter().any(|call| line.contains(&format!("mem.{call}")) || line.contains(&format!("mem().{call}")))
}

/// A store that [`stores`] would not see.
fn hides_a_store(line: &str) -> bool {
    let line = line.trim();
    CALLS.iter().any(|call| line.contains(&format!("Memory::{call}")) || line.starts_with(&format!(".{call}")))
}

/// The names of public functions of the table that may wait for the writer lock: those that change something.
fn changes<'a>(file: &str, code: &'a str) -> Vec<&'a str> {
    if !file.starts_with("src/table/") {
        return Vec::new();
    }
    let signatures = code.split("pub fn ").skip(1).filter_map(|from| from.split('{').next());
    let changing = signatures.filter(|signature| signature.contains("wait: Duration"));
    let names = changing.filter_map(|signature| signature.split(['(', '<']).next());
    // The parts of the others.
    names.filter(|name| !["edit", "writer"].contains(name)).collect()
}
