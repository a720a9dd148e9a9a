//! The documentation's examples run as they stand.
//!
//! The blocks of README.md and docs/ are run as they stand, in a network namespace of the test's own, so that their ports are
//! free.

use super::place::{self, Place};
use super::server::{Conf, Nginx};
use super::system::{is_root, worker_user};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// The contents of the blocks of one kind in a Markdown file.
fn blocks(file: &str, kind: &str) -> Vec<String> {
    let text = fs::read_to_string(place::root().join(file)).expect(file);
    let (mut found, mut open) = (Vec::new(), None);
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some((kind.to_owned(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some((_, block))) => *block += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    let of_kind: Vec<String> = found.into_iter().filter(|(its, _)| its == kind).map(|(_, block)| block).collect();
    assert!(!of_kind.is_empty(), "{file} has no block of {kind}");
    of_kind
}

/// Puts this thread, and all that it starts, into a network with nothing but a loopback interface.
fn alone_on_the_network() -> bool {
    // SAFETY: changes the network namespace of this thread, which has no sockets yet.
    if !is_root() || unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        eprintln!("skipped: a network namespace needs root");
        return false;
    }
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as _, b'o' as _]);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: an ordinary socket, closed below.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) };
    // SAFETY: the request outlives the call and has the type that SIOCSIFFLAGS takes.
    let up = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &request) };
    // SAFETY: opened above.
    unsafe { libc::close(socket) };
    assert_eq!(up, 0, "lo is up");
    true
}

/// Runs the `$` lines of a console block and compares their output with the lines below them.
fn run_console(block: &str) {
    let mut steps: Vec<(&str, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command, String::new())),
            (None, Some((_, expected))) => *expected += &format!("{line}\n"),
            (None, None) => panic!("a console block begins with a command: {line}"),
        }
    }
    for (command, expected) in steps {
        let out = Command::new("bash").args(["-c", command]).output().expect("bash");
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim_end(), expected.trim_end(), "$ {command}");
    }
}

/// Backends on 127.0.0.1:8091-8094 that answer with their port.
fn backends(place: &Place) -> Nginx {
    let listens: String = (8091..=8094).map(|port| format!("listen 127.0.0.1:{port};\n")).collect();
    let text = format!(
        "{}events {{}}\nhttp {{ access_log off; server {{ {listens} default_type text/plain; return 200 \"$server_port\\n\"; }} }}",
        main_of("backends")
    );
    let address = SocketAddr::from(([127, 0, 0, 1], 8091));
    Nginx::with_text(&place.path("backends"), &text, 1, address, address)
}

/// The beginning of a whole configuration that runs under the test.
fn main_of(name: &str) -> String {
    let mut main: String = place::nginx().1.iter().map(|module| format!("load_module {module};\n")).collect();
    if is_root() {
        main += &format!("user {};\n", worker_user().0);
    }
    main + &format!("daemon off;\npid {name}.pid;\nerror_log error.log warn;\n")
}

fn install(prefix: &Path) {
    let done = Command::new("tools/install")
        .current_dir(place::root())
        .env("VERSION", env!("CARGO_PKG_VERSION"))
        .env("PREFIX", prefix)
        .env("DESTDIR", "")
        .env("LIB", place::library())
        .output()
        .expect("tools/install");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_readme_and_the_http_page_run_as_they_stand_on_what_make_install_installs() {
    let place = Place::new("docs");
    if !alone_on_the_network() {
        return;
    }
    let installed = place.path("installed");
    install(&installed);
    let _backends = backends(&place);
    let prefix = place.path("readme");
    fs::create_dir_all(&prefix).expect("mkdir");
    fs::write(prefix.join("upstreams.json"), &blocks("README.md", "json")[0]).expect("write");
    let conf = blocks("README.md", "nginx")[0]
        .replace("/usr/local", installed.to_str().expect("UTF-8"))
        .replace(r#"setup{ "#, &format!(r#"setup{{ shm_path = "{}", "#, place.text("region")));
    // The worker_processes line comes after the lines that a test needs, and load_module has to be first.
    let text = main_of("readme") + &conf;
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let nginx = Nginx::with_text(&prefix, &text, 2, at(8080), at(8081));
    blocks("README.md", "console").iter().for_each(|block| run_console(block));
    blocks("docs/http.md", "console").iter().for_each(|block| run_console(block));
    nginx.assert_calm();
}

#[test]
fn the_lua_examples_hold() {
    let place = Place::new("docs-lua");
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    for file in ["README.md", "docs/lua.md", "docs/healthcheck.md"] {
        for block in blocks(file, "lua") {
            assert_eq!(nginx.eval(&format!("{block}\nreturn 'held'")), "held", "{file}:\n{block}");
        }
    }
    nginx.assert_calm();
}

#[test]
fn the_files_that_are_shown_load() {
    for file in ["README.md", "docs/files.md"] {
        for block in blocks(file, "json") {
            assert_eq!(
                dyups::config::json::file(block.as_bytes()).map(|file| file.upstreams.len()),
                Ok(1),
                "{file}: {block}"
            );
        }
        for block in blocks(file, "nginx-upstream") {
            let (upstreams, warnings) = dyups::config::nginx::file(block.as_bytes(), file, None).expect(&block);
            assert_eq!((upstreams.len(), warnings), (1, vec![]), "{file}: {block}");
        }
    }
}

#[test]
fn the_c_program_compiles_with_the_header_alone_and_prints_what_the_page_says() {
    let place = Place::new("docs-c");
    let source = place.write("example.c", &blocks("docs/c.md", "c")[0]);
    let program = place.path("example");
    let library = place::library();
    let built = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(place::root().join("include"))
        .arg("-o")
        .args([&program, &source, &library])
        .arg(format!("-Wl,-rpath,{}", library.parent().expect("a directory").display()))
        .output()
        .expect("cc");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let run = Command::new(&program).arg(place.path("region")).output().expect("the program");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(String::from_utf8_lossy(&run.stdout), blocks("docs/c.md", "text")[0]);
}
