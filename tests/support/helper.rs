//! Other processes of a test.
//!
//! Another process is this test binary again, started anew and not forked: `--exact helper_process` with its orders in the
//! environment and on stdin. It answers in lines that begin with `@`, to tell them from the output of libtest.

use super::wait_for;
use dyups::error::{Error, Result};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

/// Another process of this test binary; killed when the value goes.
pub struct Helper {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts a process in which [`role`] says `role`.
    pub fn start(role: &str, args: &[&str]) -> Helper {
        let mut child = Command::new(std::env::current_exe().expect("know myself"))
            .args(["--exact", "helper_process", "--nocapture", "--test-threads=1"])
            .env("DYUPS_TEST_ROLE", role)
            .env("DYUPS_TEST_ARGS", args.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a helper");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Helper { child, stdin, stdout }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order and does not wait for the answer.
    pub fn send(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the helper listens");
    }

    /// The next answer; `None`: it has ended.
    pub fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).expect("readable") > 0 {
            // libtest prints "test helper_process ... " without a newline before the first one.
            if let Some(at) = line.find('@') {
                return Some(line[at + 1..].trim_end_matches('\n').to_owned());
            }
            line.clear();
        }
        None
    }

    /// Gives an order; the answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.answer().unwrap_or_else(|| panic!("the helper died of {line:?}"))
    }

    /// Gives an order that has to succeed; the rest of the answer.
    pub fn ok(&mut self, line: &str) -> String {
        let answer = self.ask(line);
        answer.strip_prefix("ok").unwrap_or_else(|| panic!("{line}: {answer}")).trim_start().to_owned()
    }

    /// Gives an order that has to fail; `Code message`.
    pub fn refused(&mut self, line: &str) -> String {
        let answer = self.ask(line);
        answer.strip_prefix("err ").unwrap_or_else(|| panic!("{line}: {answer}")).to_owned()
    }

    pub fn signal(&self, signal: i32) {
        signal_to(self.pid(), signal);
    }

    /// SIGKILL, and waits until the kernel has cleared up behind it; how it ended. Its earlier answers can still be read.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait")
    }

    /// Stops it, and waits until it stands.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
        wait_for("the helper stops", || self.is_stopped());
    }

    /// Whether it stands, stopped by itself or by another process.
    pub fn is_stopped(&self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))
            .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
    }

    /// Whether [`Helper::answer`] would not wait.
    pub fn has_answered(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.stdout.get_ref().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one whole pollfd of a descriptor that is open.
        !self.stdout.buffer().is_empty() || unsafe { libc::poll(&mut poll, 1, 0) } > 0
    }

    /// Lets it end by itself, and asserts that it is content.
    pub fn finish(mut self) {
        let _ = writeln!(self.stdin, "exit");
        while self.answer().is_some() {}
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "a helper failed: {status}");
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal_to(pid: u32, signal: i32) {
    // SAFETY: kill takes two numbers; the pid is that of a child of ours which has not been waited for.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0, "{}", std::io::Error::last_os_error());
}

/// A child that outlives its parent and does nothing, for a minute at most: its pid.
pub fn orphan() -> i32 {
    // SAFETY: the child makes plain system calls alone.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: as above. The descriptors are those that tests would wait for the end of.
        unsafe {
            (0..3).for_each(|fd| _ = libc::close(fd));
            libc::alarm(60);
            loop {
                libc::pause();
            }
        }
    }
    pid
}

/// The purpose of this process: its role and arguments. `None` in the tests themselves.
pub fn role() -> Option<(String, Vec<String>)> {
    let role = std::env::var("DYUPS_TEST_ROLE").ok()?;
    let args = std::env::var("DYUPS_TEST_ARGS").unwrap_or_default();
    Some((role, args.lines().map(str::to_owned).collect()))
}

/// Answers the test that started this process; one line, one write.
pub fn say(line: impl std::fmt::Display) {
    let line = format!("@{line}\n");
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).expect("the test listens");
}

/// The answer of a helper to an order.
pub fn report(result: Result<impl std::fmt::Display, Error>) {
    match result {
        Ok(value) => say(format_args!("ok {value}")),
        Err(error) => say(format_args!("err {:?} {error}", error.code)),
    }
}

/// The orders of the test that started this process, until it says `exit` or ends.
pub fn orders() -> impl Iterator<Item = Vec<String>> {
    std::io::stdin()
        .lines()
        .map_while(std::result::Result::ok)
        .take_while(|line| line != "exit")
        .map(|line| line.split(' ').map(str::to_owned).collect())
}
