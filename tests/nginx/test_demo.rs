//! `make run`: the commands that it prints work, and each signal has the same effect as on nginx.

use super::place::{self, Place};
use super::system::{children, group_lives, is_root, signal, wait_for, wait_until};
use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

const PORTS: [u16; 6] = [8080, 8081, 8091, 8092, 8093, 8094];

/// tools/run of a copy of the checkout, which leads a process group. A developer's own demo has another region, another log, and,
/// where root can give this one a network of its own, other ports.
struct Demo {
    root: PathBuf,
    child: Child,
    network: Option<OwnedFd>,
}

impl Demo {
    /// Starts it, and waits until it answers. `on_int`: its parent's action for INT, which it inherits.
    fn start(place: &Place, on_int: libc::sighandler_t) -> Demo {
        let mut demo = Demo::launch(place, on_int);
        wait_for("the demo answers", || {
            let ended = demo.child.try_wait().expect("wait");
            assert!(ended.is_none(), "tools/run ended, {ended:?}:\n{}", demo.output());
            demo.shell("curl -s http://127.0.0.1:8081/detail").0
        });
        demo
    }

    fn launch(place: &Place, on_int: libc::sighandler_t) -> Demo {
        let root = place.path("checkout");
        place::copy(place::root(), &root, &["nginx-test.conf", "lua", "demo", "tools"]);
        let library = place::library();
        let [release, name] = [library.parent(), library.file_name().map(Path::new)].map(|part| part.expect("a path"));
        place::copy(release, &root.join("target/release"), &[name.to_str().expect("UTF-8")]);

        let output = File::create(root.join("output")).expect("output");
        let nginx = root.join("nginx");
        let script = format!("#!/bin/sh\nexec '{}' {} \"$@\"\n", place::nginx().0.display(), place::LOGS_NOWHERE);
        fs::write(&nginx, script)
            .and_then(|()| fs::set_permissions(&nginx, Permissions::from_mode(0o755)))
            .expect("nginx");

        let mut command = Command::new(root.join("tools/run"));
        command
            .env("DYUPS_NGINX", nginx)
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("dup"))
            .stdout(output)
            .process_group(0);
        let own_network = is_root();
        // SAFETY: between fork and exec only system calls that are async-signal-safe, on memory of this frame.
        unsafe {
            command.pre_exec(move || {
                libc::signal(libc::SIGINT, on_int);
                if own_network { enter_empty_network() } else { Ok(()) }
            });
        }
        let child = command.spawn().expect("tools/run");
        let network = own_network.then(|| File::open(format!("/proc/{}/ns/net", child.id())).expect("ns/net").into());
        Demo { root, child, network }
    }

    fn output(&self) -> String {
        fs::read_to_string(self.root.join("output")).unwrap_or_default()
    }

    /// A command line as it was printed, run where the demo listens: status and output.
    fn shell(&self, line: &str) -> (bool, String) {
        let network = self.network.as_ref().map(|fd| fd.as_raw_fd());
        let mut command = Command::new("bash");
        command.args(["-c", line]);
        // SAFETY: between fork and exec only setns, a system call with two numbers.
        unsafe {
            command.pre_exec(move || match network {
                Some(fd) if libc::setns(fd, libc::CLONE_NEWNET) != 0 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let out = command.output().expect("bash");
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// nginx's master, which tools/run has become.
    fn master(&self) -> u32 {
        self.child.id()
    }

    fn group(&self) -> i32 {
        self.master() as i32
    }

    /// The exit status once it has ended, which has to be soon.
    fn status(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_for("tools/run ends", || {
            ended = self.child.try_wait().expect("wait");
            ended.is_some()
        });
        ended.expect("waited for")
    }

    /// Asserts that it ends, with nginx's status of an orderly end, and that it leaves no process behind.
    fn ends(&mut self) {
        assert_eq!(self.status().code(), Some(0), "{}", self.output());
        assert!(!group_lives(self.group()), "processes are left");
    }

    /// The files of its region.
    fn region(&self) -> Vec<PathBuf> {
        let name = format!("-{:08x}.", crc32fast::hash(self.root.as_os_str().as_encoded_bytes()));
        let files = fs::read_dir(region_directory()).into_iter().flatten().flatten();
        files.map(|file| file.path()).filter(|path| path.to_string_lossy().contains(&name)).collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        signal(-self.group(), libc::SIGKILL);
        let _ = self.child.wait();
        wait_until(Duration::from_secs(10), || !group_lives(self.group()));
        self.region().into_iter().for_each(|file| drop(fs::remove_file(file)));
        // Only if nothing else is in it.
        let _ = fs::remove_dir(region_directory());
    }
}

fn region_directory() -> PathBuf {
    // SAFETY: takes nothing and cannot fail.
    format!("/dev/shm/dyups-{}", unsafe { libc::geteuid() }).into()
}

/// A network of this process alone, with a loopback that is up.
fn enter_empty_network() -> std::io::Result<()> {
    let checked = |result: i32| if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: the structure is whole and lives for the call; the descriptor is closed at exec.
    unsafe {
        checked(libc::unshare(libc::CLONE_NEWNET))?;
        let socket = checked(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        let mut request: libc::ifreq = std::mem::zeroed();
        (request.ifr_name[0], request.ifr_name[1]) = (b'l' as libc::c_char, b'o' as libc::c_char);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        checked(libc::ioctl(socket, libc::SIOCSIFFLAGS, &request))?;
    }
    Ok(())
}

/// False where another process has a port of the demo, and says so.
fn ports_are_free() -> bool {
    let taken = PORTS.iter().find(|port| !is_root() && TcpListener::bind(("127.0.0.1", **port)).is_err());
    if let Some(port) = taken {
        eprintln!("SKIPPED: make run: port {port} is taken");
    }
    taken.is_none()
}

#[test]
fn the_curl_lines_that_make_run_prints_work_and_ctrl_c_leaves_nothing_behind() {
    let place = Place::new("demo");
    if !ports_are_free() {
        return;
    }
    let mut demo = Demo::start(&place, libc::SIG_DFL);
    let output = demo.output();
    assert!(output.contains("Ctrl-C stops."), "{output}");
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    let [traffic, detail, change, status] = lines[..] else { panic!("four curl lines, not these:\n{output}") };

    let answers: Vec<String> = (0..7).map(|_| demo.shell(traffic).1).collect();
    assert_eq!(answers.concat(), "8091\n8091\n8092\n8091\n8093\n8091\n8091\n");
    let (ok, table) = demo.shell(detail);
    assert!(ok && table.starts_with("demo\nserver 127.0.0.1:8091 weight=5 max_conns=0"), "{table}");
    assert_eq!(table.lines().filter(|line| line.starts_with("server ")).count(), 3, "{table}");
    assert_eq!(demo.shell(change), (true, "success".into()));
    for _ in 0..5 {
        assert_eq!(demo.shell(traffic), (true, "8094\n".into()));
    }
    wait_for("the peer where nothing listens is unhealthy", || demo.shell(status).1.contains(r#""state":"unhealthy""#));
    assert!(demo.shell(detail).1.starts_with("demo\nserver 127.0.0.1:8094 weight=1"));
    let region = demo.region();
    assert!(!region.is_empty() && region.iter().all(|file| file.starts_with(region_directory())), "{region:?}");

    // Ctrl-C goes to the group.
    assert!(signal(-demo.group(), libc::SIGINT));
    demo.ends();
    let log = fs::read_to_string(demo.root.join("run/error.log")).expect("run/error.log");
    // Expected in the demo: requests that met the peer where nothing listens, before probes had found that out.
    let unexpected =
        |line: &&str| ["[alert]", "[error]"].iter().any(|level| line.contains(level)) && !line.contains("(111: ");
    assert_eq!(log.lines().find(unexpected), None);
    assert_eq!(output.lines().find(unexpected), None);
    assert!(
        log.contains("peer 127.0.0.1:8095 went from up to down after 3 failed probes: connect: connection refused"),
        "{log}"
    );
}

#[test]
fn each_signal_that_make_run_gets_does_what_nginx_does_with_it() {
    let place = Place::new("demo-signals");
    if !ports_are_free() {
        return;
    }
    let workers = |demo: &Demo| children(demo.master()).into_iter().map(|(pid, _)| pid).collect::<Vec<_>>();

    // As in the background of a script, whose processes ignore INT.
    let mut demo = Demo::start(&place, libc::SIG_IGN);
    let before = workers(&demo);
    assert!(signal(demo.group(), libc::SIGHUP));
    wait_for("HUP starts new workers and ends the old ones", || {
        let now = workers(&demo);
        now.len() == before.len() && !now.iter().any(|pid| before.contains(pid))
    });
    assert!(demo.shell("curl -s http://127.0.0.1:8081/detail").0);
    assert!(signal(demo.group(), libc::SIGINT));
    demo.ends();
    drop(demo);

    for number in [libc::SIGTERM, libc::SIGQUIT] {
        let mut demo = Demo::start(&place, libc::SIG_DFL);
        assert!(signal(demo.group(), number));
        demo.ends();
    }

    // No script stands between: of a master that is killed, nginx leaves its workers, and nothing else is left.
    let mut demo = Demo::start(&place, libc::SIG_DFL);
    let before = workers(&demo);
    assert!(signal(demo.group(), libc::SIGKILL));
    assert_eq!(demo.status().signal(), Some(libc::SIGKILL));
    let mut left = super::system::members(demo.group());
    left.retain(|pid| !before.contains(pid));
    assert_eq!(left, Vec::<u32>::new(), "processes that nginx does not leave");
}
