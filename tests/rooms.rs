//! tools/rooms, which sees that each room of src/ imports only from rooms above it, and that files import each other in no circle.

use std::path::Path;
use std::process::Command;

/// Whether the rooms below `src` are good, and the lines that name the faults.
fn rooms(src: Option<&Path>) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/rooms");
    let output = Command::new(script).args(src).output().expect("perl");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.success(), String::from_utf8(output.stdout).expect("text"))
}

/// The answer for a tree with this file alone.
fn rooms_of(file: &str, text: &str) -> (bool, String) {
    rooms_of_files(&[(file, text)])
}

/// The answer for a tree of these files.
fn rooms_of_files(files: &[(&str, &str)]) -> (bool, String) {
    let src = tempfile::tempdir().expect("room");
    for (file, text) in files {
        let path = src.path().join(file);
        std::fs::create_dir_all(path.parent().expect("one")).expect("room");
        std::fs::write(&path, text).expect("room");
    }
    let (good, lines) = rooms(Some(src.path()));
    (good, lines.replace(&format!("{}/", src.path().display()), ""))
}

#[test]
fn each_room_imports_only_from_rooms_above_it() {
    assert_eq!(rooms(None), (true, String::new()));
}

#[test]
fn a_forbidden_import_is_named_with_its_file_and_line() {
    for (file, text, line, import) in [
        ("shm/arena.rs", "\nuse crate::table::Table;\n", 2, "shm imports table"),
        ("shm/arena.rs", "use crate::error::Error;\nfn f() { crate::ffi::f() }\n", 2, "shm imports ffi"),
        (
            "table/snapshot/view.rs",
            "use crate::{\n    error::{Code, Error},\n    health::heal,\n};\n",
            1,
            "table imports health",
        ),
        ("table/snapshot/view.rs", "use super::super::super::config;\n", 1, "table imports config"),
        ("balance/mod.rs", "use super::health;\n", 1, "balance imports health"),
        ("quote.rs", "use super::upstream;\n", 1, "quote imports upstream"),
        ("upstream/mod.rs", "#[cfg(test)]\nmod tests {\n}\n\nuse crate::shm;\n", 5, "upstream imports shm"),
    ] {
        let said = format!("{file}:{line}: {import}, which is below it in the list of tools/rooms\n");
        assert_eq!(rooms_of(file, text), (false, said), "{text}");
    }
}

#[test]
fn a_room_that_is_not_in_the_list_is_named() {
    let unlisted = "is in no line of the list of tools/rooms";
    assert_eq!(rooms_of("attic/mod.rs", ""), (false, format!("attic/mod.rs:1: attic {unlisted}\n")));
    assert_eq!(rooms_of("ffi/mod.rs", "use crate::attic;\n"), (false, format!("ffi/mod.rs:1: attic {unlisted}\n")));
}

#[test]
fn comments_tests_and_rooms_above_are_good() {
    for (file, text) in [
        ("shm/arena.rs", "//! See [`crate::table`].\n// use crate::table;\nfn f() {} // crate::table\n"),
        ("shm/arena.rs", "#[cfg(test)]\n#[allow(dead_code)]\npub(crate) mod tests {\n    use crate::table;\n}\n"),
        ("shm/cells/tests.rs", "use crate::health;\n"),
        (
            "table/snapshot/view.rs",
            "use super::super::ops;\nuse super::head;\nuse crate::{error, shm::{Mem, Memory}};\n",
        ),
        ("quote.rs", "use crate::error::Error;\n"),
    ] {
        assert_eq!(rooms_of(file, text), (true, String::new()), "{text}");
    }
}

#[test]
fn a_circle_of_files_is_named_however_long_it_is_and_however_it_imports() {
    let circle = |files: &[(&str, &str)], named: &str| {
        let first = named.split(' ').next().expect("a file");
        let said = format!("{first}.rs:1: a circle that is not in the list of tools/rooms: {named}\n");
        assert_eq!(rooms_of_files(files), (false, said), "{files:?}");
    };
    circle(
        &[("shm/mem.rs", "use super::lock::A;\n"), ("shm/lock.rs", "use crate::shm::mem::B;\n")],
        "shm/lock shm/mem",
    );
    // By names that another file passes on.
    circle(
        &[
            ("shm/cells.rs", "mod plan;\npub use plan::{Plan, title};\n"),
            ("shm/cells/plan.rs", "use super::super::history::A;\n"),
            ("shm/history.rs", "use super::cells::title;\n"),
        ],
        "shm/cells/plan shm/history",
    );
    circle(
        &[
            ("shm/mem.rs", "use super::{arena::{self, A}, lock};\n"),
            ("shm/arena.rs", "fn f() { super::slots::f() }\n"),
            ("shm/slots.rs", "use super::mem;\n"),
            ("shm/lock.rs", ""),
        ],
        "shm/arena shm/mem shm/slots",
    );
}

#[test]
fn a_folder_imports_its_files_and_they_import_it() {
    let files = [("shm/cells.rs", "mod rows;\nuse rows::A;\n"), ("shm/cells/rows.rs", "use super::B;\n")];
    assert_eq!(rooms_of_files(&files), (true, String::new()));
}

#[test]
fn each_file_of_the_sources_that_a_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = std::fs::read_dir(root.join("docs")).expect("a folder").map(|entry| entry.expect("a page").path());
    let pages = pages.chain(["README.md", "CHANGELOG.md"].map(|page| root.join(page)));
    let (mut named, mut missing) = (0, Vec::new());
    for page in pages.filter(|page| page.extension().is_some_and(|kind| kind == "md")) {
        let text = std::fs::read_to_string(&page).expect("a page");
        let is_of_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        for word in text.split(|c| !is_of_path(c)).map(|word| word.trim_end_matches('.').trim_start_matches("../")) {
            if ["src/", "lua/", "tests/", "tools/", "benches/"].iter().any(|folder| word.starts_with(folder)) {
                named += 1;
                if !root.join(word).exists() {
                    missing.push(format!("{}: {word}", page.display()));
                }
            }
        }
    }
    assert!(named > 50, "{named}");
    assert_eq!(missing, Vec::<String>::new());
}
