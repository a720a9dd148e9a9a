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
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic"])
        .args(flags)
        .args(["-pthread", "-I"])
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

/// The functions of the header, each with its comment.
fn functions(header: &str) -> Vec<(String, String)> {
    let comments_and_rest = header.split("\n\n");
    let function = |part: &str| {
        let comment: String =
            part.lines().filter_map(|line| line.strip_prefix("//")).map(|line| format!("{line}\n")).collect();
        let declared: String = part.lines().filter(|line| !line.starts_with("//")).collect();
        declared.contains("dyups_").then_some(()).filter(|()| declared.ends_with(");"))?;
        Some((declared, comment))
    };
    comments_and_rest.filter_map(function).collect()
}

/// The lines of its example.
fn example(comment: &str) -> Option<&str> {
    comment.split_once("# Example\n\n ```c\n")?.1.split_once(" ```").map(|(example, _)| example)
}

#[test]
fn each_function_says_its_arguments_results_errors_and_an_example() {
    let header = std::fs::read_to_string(root().join("include/dyups.h")).expect("the header");
    let functions = functions(&header);
    assert!(functions.len() > 40, "{}", functions.len());
    for (declared, comment) in functions {
        let takes_any = !declared.contains("(void)");
        let missing = |heading: &&str| !comment.contains(&format!(" # {heading}\n"));
        let headings = ["Returns", "Errors", "Example"].iter().chain(takes_any.then_some(&"Arguments")).copied();
        assert_eq!(headings.filter(missing).collect::<Vec<_>>(), [""; 0], "{declared}");
    }
}

#[test]
fn each_example_of_the_header_compiles() {
    let header = std::fs::read_to_string(root().join("include/dyups.h")).expect("the header");
    let mut program =
        String::from("#include \"dyups.h\"\n#include <stdio.h>\n#include <string.h>\n#include <unistd.h>\n");
    let context = "dyups_handle *api, void *request, uint32_t id, dyups_options options";
    for (number, (_, comment)) in functions(&header).iter().enumerate() {
        // The ABI's own example returns from main.
        let example = example(comment).expect("an example").replace("return 1", "return");
        program += &format!("static void example_{number}({context}) {{\n{{\n{example}}}\n}}\n");
    }
    program += "int main(void) { return 0; }\n";
    let scratch = Scratch::executable();
    let source = scratch.path().join("examples.c");
    std::fs::write(&source, program).expect("write");
    let unused = ["-Wno-unused-variable", "-Wno-unused-parameter", "-Wno-unused-function"];
    let flags = [&["-std=gnu99", "-fsyntax-only"], &unused[..]].concat();
    compile(&scratch, "cc", &flags, source.to_str().expect("UTF-8"), "examples").expect("a C compiler");
}
