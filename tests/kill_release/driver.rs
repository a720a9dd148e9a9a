//! A process that calls the shipped library by its C ABI: driver.c, told from here.

use crate::support::shipped::{library, root};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

/// The program, compiled against include/dyups.h.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kill-release-driver");
    let made = program.with_extension(std::process::id().to_string());
    let out = Command::new("cc")
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(root().join("include"))
        .arg(root().join("tests/kill_release/driver.c"))
        .arg("-ldl")
        .arg("-o")
        .arg(&made)
        .output()
        .expect("a C compiler");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    std::fs::rename(&made, &program).expect("rename");
    program
});

/// The result of a call, and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub code: i32,
    pub text: String,
}

/// The process; killed when the value goes.
pub struct Driver {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Driver {
    pub fn start() -> Driver {
        let mut child = Command::new(&*PROGRAM)
            .arg(library())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the driver");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut driver = Driver { child, stdin, stdout };
        // A tracer that attaches to it earlier may meet its exec.
        assert_eq!(driver.answer().code, 0, "it listens");
        driver
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Has it call, and does not wait for the answer.
    pub fn tell(&mut self, call: &str) {
        self.stdin.write_all(format!("{call}\n").as_bytes()).expect("it listens");
    }

    /// The answer to the first call that was told and not yet answered.
    pub fn answer(&mut self) -> Answer {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("readable");
        let (code, text) = line.trim_end_matches('\n').split_once('\t').expect("the driver lives");
        Answer { code: code.parse().expect("a number"), text: text.to_owned() }
    }

    pub fn call(&mut self, call: &str) -> Answer {
        self.tell(call);
        self.answer()
    }

    /// A call that has to succeed; answers its text.
    pub fn ok(&mut self, call: &str) -> String {
        let answer = self.call(call);
        assert!(answer.code >= 0, "{call}: {answer:?}");
        answer.text
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
