//! nginx's syntax is nginx's: `nginx -t` is asked about the same blocks, and says the same but for a list that docs/files.md shows.

use super::place::{self, Place};
use super::support::{Random, tell};
use super::syntax_lines::{Differs, LINES, WHOLE};
use super::test_answers::nginx_version;
use dyups::config::nginx;
use dyups::config::nginx::Files;
use dyups::source::Bounded;
use dyups::version::NginxVersion;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Blocks of lines that are put together by chance.
const BY_CHANCE: usize = 400;

/// Blocks in which something stands that should not.
const DAMAGED: usize = 200;

/// Reasons why nginx refuses a block by chance that dyups takes: docs/files.md lists them.
const BEYOND_NGINX: [&str; 3] = [
    "balancing method does not support parameter \"backup\"",
    "no servers in upstream",
    "zero size shared memory zone",
];

/// Reasons that dyups takes over from nginx.
const REASONS: [&str; 9] = [
    "invalid value",
    "directive invalid number",
    "is duplicate",
    "is too small",
    "invalid zone size",
    "invalid zone name",
    "conflicts with",
    "invalid variable name",
    "the closing bracket in",
];

/// Nothing, or the reason for which a text is refused.
type Verdict = Result<(), String>;

/// Where nginx looks at texts, one after the other.
struct Desk {
    dir: PathBuf,
    version: NginxVersion,
}

impl Desk {
    fn new(place: &Place, name: &str) -> Desk {
        let dir = place.path(name);
        std::fs::create_dir_all(&dir).expect("mkdir");
        let conf = "pid nginx.pid; error_log stderr; events {}
            http {
                client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;
                include upstreams.conf;
            }";
        std::fs::write(dir.join("nginx.conf"), conf).expect("write");
        Desk { dir, version: nginx_version() }
    }

    fn file(&self, name: &str, text: &[u8]) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::write(&path, text).expect("write");
        path
    }

    fn nginxs(&self, text: &[u8]) -> Verdict {
        self.file("upstreams.conf", text);
        let mut command = with_few_files(&place::nginx_in(&self.dir));
        // No name is looked up for long where there is no network.
        command.args(["-t", "-c", "nginx.conf"]).env("RES_OPTIONS", "timeout:1 attempts:1").stdin(Stdio::null());
        let out = command.output().expect("nginx");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() {
            return Ok(());
        }
        let is_reason = |line: &&str| ["[emerg]", "[alert]", "[crit]"].iter().any(|level| line.contains(level));
        Err(said.lines().find(is_reason).unwrap_or_else(|| panic!("{}: no reason: {said}", out.status)).to_owned())
    }

    fn dyupss(&self, text: &[u8]) -> Verdict {
        let path = self.file("upstreams.conf", text);
        let mut files = Bounded::default();
        let (bytes, id) = files.read(&path).expect("a file");
        let read = nginx::read(&path, (&bytes, id), Some(self.version), &mut files);
        read.map(|_| ()).map_err(|error| error.to_string())
    }

    fn both(&self, text: &str) -> (Verdict, Verdict) {
        (self.dyupss(text.as_bytes()), self.nginxs(text.as_bytes()))
    }
}

/// The same program with 256 open files. That ends a file which includes itself. Where an nginx may open many files, its stack
/// ends first: it dies by SIGSEGV and gives no reason.
fn with_few_files(command: &Command) -> Command {
    let mut few = Command::new("sh");
    few.args(["-c", "ulimit -n 256 && exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    few
}

/// Has each of `cases` looked at; of two threads one takes every other. Panics with the faults that they find.
fn on_two_desks<T: Sync>(place: &Place, cases: &[T], look: impl Fn(&Desk, &T) -> Option<String> + Sync) {
    let look = &look;
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        let desks = [0, 1].map(|which| {
            scope.spawn(move || {
                let desk = Desk::new(place, &format!("desk-{which}"));
                desk.file("good.inc", b"server 10.0.0.7;\n");
                desk.file("blocks.inc", b"upstream included { server 10.0.0.7; }\n");
                desk.file("open.inc", b"upstream open {\n");
                desk.file("close.inc", b"}\n");
                cases.iter().skip(which).step_by(2).filter_map(|case| look(&desk, case)).collect::<Vec<_>>()
            })
        });
        desks.into_iter().for_each(|desk| wrong.extend(desk.join().expect("a desk")));
    });
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn block(lines: &str) -> String {
    format!("upstream u {{\n{lines}\n}}\n")
}

/// The fault of two verdicts that should differ as `differs` says.
fn compare(text: &str, differs: Differs, version: NginxVersion, (ours, theirs): (Verdict, Verdict)) -> Option<String> {
    let expected = match differs {
        Differs::Never => ours.is_ok() == theirs.is_ok(),
        Differs::DyupsTakes(_, until) if until.is_none_or(|until| version < until) => ours.is_ok() && theirs.is_err(),
        Differs::DyupsTakes(..) => ours.is_ok() && theirs.is_ok(),
        Differs::NginxTakes(_, since) if since.is_none_or(|since| version >= since) => ours.is_err() && theirs.is_ok(),
        Differs::NginxTakes(..) => ours.is_err() && theirs.is_err(),
    };
    let reason_is_given = match (&ours, &theirs) {
        (Err(ours), Err(theirs)) => REASONS.iter().all(|reason| !theirs.contains(reason) || ours.contains(reason)),
        _ => true,
    };
    (!expected || !reason_is_given).then(|| format!("{text}\n  dyups: {ours:?}\n  nginx: {theirs:?}\n  {differs:?}"))
}

#[test]
fn each_line_of_a_block_is_taken_or_refused_as_by_nginx_but_for_a_list_that_the_docs_show() {
    let place = Place::new("syntax-lines");
    on_two_desks(&place, LINES, |desk, (line, differs)| {
        let text = block(&format!("    server 10.0.0.9;\n    {line}"));
        compare(line, *differs, desk.version, desk.both(&text))
    });
    on_two_desks(&place, WHOLE, |desk, (text, differs)| compare(text, *differs, desk.version, desk.both(text)));
    let docs = std::fs::read_to_string(place::root().join("docs/files.md")).expect("docs/files.md");
    for (_, differs) in LINES.iter().chain(WHOLE) {
        if let Differs::DyupsTakes(item, _) | Differs::NginxTakes(item, _) = differs {
            assert!(docs.contains(&format!("\n- {item}")), "docs/files.md does not list {item:?}");
        }
    }
}

/// Lines about which dyups and nginx agree, as they do: taken, and refused.
fn agreed(place: &Place) -> (Vec<&'static str>, Vec<&'static str>) {
    let desk = Desk::new(place, "agreed");
    let agreed = LINES.iter().filter(|(_, differs)| *differs == Differs::Never).map(|(line, _)| *line);
    // A verdict that depends on other lines, or on files beside them, is left out.
    let lines = agreed.filter(|line| !line.contains("include") && !line.contains("65535"));
    lines.partition(|line| desk.dyupss(block(&format!("server 10.0.0.9;{line}")).as_bytes()).is_ok())
}

/// A word as it may be written as well.
fn written(random: &mut Random, word: &str) -> String {
    match random.below(6) {
        _ if word.contains(['"', '\'', '\\']) => word.to_owned(),
        0 => format!("\"{word}\""),
        1 => format!("'{word}'"),
        _ => word.to_owned(),
    }
}

/// A line with other spaces, comments and quotes.
fn disguised(random: &mut Random, line: &str) -> String {
    if line.contains(['"', '\'', '\\', '#', '{', '}', '\n']) {
        return line.to_owned();
    }
    let mut text = String::new();
    for directive in line.split_inclusive(';') {
        let words: Vec<_> = directive.trim_end_matches(';').split(' ').filter(|word| !word.is_empty()).collect();
        for (index, word) in words.iter().enumerate() {
            if index > 0 {
                text += [" ", "\t", "\r\n", "  # a; comment }\n"][random.below(4) as usize];
            }
            text += &written(random, word);
        }
        text += [";", " ;", ";# c\n"][random.below(3) as usize];
    }
    text
}

#[test]
fn blocks_of_such_lines_by_chance_are_taken_or_refused_as_by_nginx() {
    let place = Place::new("syntax-blocks");
    let (good, bad) = agreed(&place);
    assert!(good.len() > 30 && bad.len() > 30, "{good:?} {bad:?}");
    let seed = 0x5eed;
    let mut random = Random(seed);
    let mut blocks = Vec::new();
    for number in 0..BY_CHANCE {
        let mut pick = |from: &[&'static str]| from[random.below(from.len() as u64) as usize];
        let mut lines: Vec<_> = (0..1 + number % 5).map(|_| pick(&good)).collect();
        lines.extend((number % 3 == 0).then(|| pick(&bad)));
        lines.extend((number % 7 > 0).then_some("server 10.0.0.8;"));
        let lines: Vec<_> = lines.into_iter().map(|line| disguised(&mut random, line)).collect();
        blocks.push(block(&lines.join("\n")));
    }
    tell(format!("seed {seed:#x}"));
    let accepted = std::sync::atomic::AtomicUsize::new(0);
    on_two_desks(&place, &blocks, |desk, text| {
        let (ours, theirs) = desk.both(text);
        if let Err(reason) = &theirs
            && ours.is_ok()
            && BEYOND_NGINX.iter().any(|beyond| reason.contains(beyond))
        {
            return None;
        }
        accepted.fetch_add(usize::from(ours.is_ok()), std::sync::atomic::Ordering::Relaxed);
        compare(text, Differs::Never, desk.version, (ours, theirs))
    });
    let accepted = accepted.into_inner();
    assert!(
        (BY_CHANCE / 5..BY_CHANCE * 4 / 5).contains(&accepted),
        "{accepted} of {BY_CHANCE} are taken: no comparison"
    );
}

#[test]
fn what_is_damaged_is_taken_or_refused_as_by_nginx() {
    let place = Place::new("syntax-damaged");
    let mut random = Random(0xda3a6ed);
    let parts =
        ["upstream", "u", "{", "least_conn", ";", "server", "10.0.0.1", "weight=2", ";", "keepalive", "4", ";", "}"];
    let damage = [";", "{", "}", "\"", "'", "#", "\\", "\n", ")", "\"\"", "\\;", "${", "include good.inc;", "#\n"];
    let mut texts = Vec::new();
    for _ in 0..DAMAGED {
        let mut words = parts.map(String::from).to_vec();
        for _ in 0..1 + random.below(2) {
            let at = random.below(words.len() as u64) as usize;
            let mark = damage[random.below(damage.len() as u64) as usize];
            match random.below(4) {
                0 => drop(words.remove(at)),
                // An address is left alone: nginx would ask the DNS for a changed one.
                1 if words[at] != "10.0.0.1" => words[at] += mark,
                _ => words.insert(at, mark.into()),
            }
        }
        texts.push(words.join(if random.below(2) == 0 { " " } else { "\n" }));
    }
    on_two_desks(&place, &texts, |desk, text| compare(text, Differs::Never, desk.version, desk.both(text)));
}

/// The library learns the version from Lua.
#[test]
fn what_is_posted_is_read_as_the_nginx_at_hand_reads_it() {
    use super::server::{Conf, Nginx};
    let place = Place::new("syntax-posted");
    let desk = Desk::new(&place, "desk");
    let nginx = Nginx::start(&place, &Conf::new(&place, 1));
    for line in ["keepalive 0;", "keepalive 32 local;", "keepalive 32 single;", "zone;", "keepalive 8;"] {
        let body = format!("server 10.0.0.9; {line}");
        let answer = nginx.admin("POST", "/upstream/u", &body);
        assert_eq!(answer.status == 200, desk.nginxs(block(&body).as_bytes()).is_ok(), "{line}: {answer:?}");
    }
}
