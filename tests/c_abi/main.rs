//! include/dyups.h alone is enough for a C program: it compiles without a warning, links, and everything behaves as it says.

#[path = "../support/mod.rs"]
mod support;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use support::Scratch;
use support::shipped::{LIBRARY, library, root};

/// Compiles `source` against the header and the library. `None`: there is no such compiler.
fn compile(
    scratch: &Scratch,
    compiler: &str,
    flags: &[&str],
    source: &str,
    output: &str,
) -> Option<std::path::PathBuf> {
    Command::new(compiler).arg("--version").output().ok()?;
    let lib = scratch.path().join(LIBRARY);
    std::fs::copy(library(), &lib).expect("copy the library");
    // The header alone: nothing else of include/ may be needed.
    std::fs::copy(root().join("include/dyups.h"), scratch.path().join("dyups.h")).expect("copy the header");
    let program = scratch.path().join(output);
    let out = Command::new(compiler)
        .args(flags)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread", "-I"])
        .arg(scratch.path())
        .arg(root().join("tests/c_abi").join(source))
        .arg(&lib)
        .arg(format!("-Wl,-rpath,{}", scratch.path().display()))
        .arg("-o")
        .arg(&program)
        .output()
        .expect("run the compiler");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(program)
}

/// Runs it, behind the words of DYUPS_TEST_RUNNER if there are any: valgrind, say.
fn run(program: &Path, args: &[&str]) {
    let runner = std::env::var("DYUPS_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace().map(OsStr::new).chain([program.as_os_str()]);
    let mut command = Command::new(words.next().expect("at least the program"));
    let out = command.args(words).args(args).output().expect("run the program");
    let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}\n{said}", out.status);
}

#[test]
fn a_c_program_needs_nothing_but_the_header_and_the_library() {
    let scratch = Scratch::executable();
    let program = compile(&scratch, "cc", &["-std=c99", "-g"], "main.c", "main").expect("a C compiler");
    let region = scratch.path().join("region");
    run(&program, &[region.to_str().expect("UTF-8"), env!("CARGO_PKG_VERSION")]);
}

#[test]
fn the_header_is_cpp_too() {
    let scratch = Scratch::executable();
    match compile(&scratch, "g++", &["-std=c++11"], "header.cpp", "header") {
        Some(program) => run(&program, &[]),
        None => eprintln!("no g++: not tried"),
    }
}
