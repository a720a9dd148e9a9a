//! A probe and the nginx at hand agree: both judge the same bytes.

use super::answers::{self, Case, TEXT};
use super::door::Door;
use super::place::{self, Place};
use super::server::Nginx;
use super::support::{Random, tell};
use dyups::http::response::{Failure, Progress, Response, Rules};
use dyups::upstream::Check;
use dyups::version::NginxVersion;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;

const BY_CHANCE: usize = 3000;

const HTTP: &str = "
    proxy_buffer_size 16k;
    proxy_buffers 8 16k;
    proxy_next_upstream off;
    add_header X-Passed-On yes always;
    server { listen @listen@; location / { proxy_pass http://@backend@; } }
";

/// The verdict about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It reaches the client with this status, and with the text where one is looked for.
    Good(u16),
    /// It does not.
    Bad,
}
use Verdict::{Bad, Good};

/// The version of the nginx under test.
pub fn nginx_version() -> NginxVersion {
    let out = Command::new(&place::nginx().0).arg("-v").output().expect("nginx");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let (_, version) = said.trim().rsplit_once('/').expect("a version");
    let parts: Vec<u32> = version.split('.').take(3).map(|part| part.parse().expect("a number")).collect();
    NginxVersion::new(parts[0], parts[1], parts[2])
}

/// A backend that answers a request for `/N` with the bytes of case N, and closes.
fn backend(address: SocketAddr, cases: Vec<Case>) -> Door {
    Door::open(address, move |mut stream| {
        let mut asked = Vec::new();
        while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut some = [0; 4096];
            match stream.read(&mut some) {
                Ok(length @ 1..) => asked.extend_from_slice(&some[..length]),
                _ => return,
            }
        }
        let path = String::from_utf8_lossy(&asked).split(' ').nth(1).expect("a path")[1..].to_owned();
        if let Some(case) = path.parse::<usize>().ok().and_then(|number| cases.get(number)) {
            let _ = stream.write_all(&case.bytes);
        }
        let _ = stream.shutdown(Shutdown::Write);
    })
}

/// nginx's verdict about case `number`. `None`: it found the body damaged, which a probe that expects no text does not read.
fn by_nginx(nginx: SocketAddr, number: usize, case: &Case) -> Option<Verdict> {
    let mut stream = TcpStream::connect(nginx).expect("nginx");
    // Of HTTP/1.0, as then it sends no chunks.
    write!(stream, "GET /{number} HTTP/1.0\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        return case.body.then_some(Bad);
    }
    let at = |text: &str| answer.windows(text.len()).position(|part| part == text.as_bytes());
    let (head, body) = answer.split_at(at("\r\n\r\n").unwrap_or(answer.len()));
    let has = |part: &[u8], text: &str| part.windows(text.len()).any(|part| part == text.as_bytes());
    // nginx passes an answer of HTTP/0.9 on without a head of its own, and of a status line that it misreads the half.
    let status = head.strip_prefix(b"HTTP/1.1 ").filter(|_| has(head, "\r\nX-Passed-On: yes"));
    let status = status.and_then(|status| std::str::from_utf8(&status[..3]).ok()?.parse().ok());
    let is_good = |&status: &u16| status != 502 && (!case.body || has(body, TEXT));
    Some(status.filter(is_good).map_or(Bad, Good))
}

fn by_probe(rules: Rules, case: &Case) -> (Verdict, Option<Failure>) {
    let expect_body = case.body.then(|| TEXT.to_owned());
    let check = Check { valid_statuses: (0..1000).collect(), expect_body, ..Check::default() };
    let mut response = Response::new(&check, rules);
    match response.feed(&case.bytes) {
        Progress::Done(Ok(status)) => (Good(status), None),
        Progress::Done(Err(failure)) => (Bad, Some(failure)),
        Progress::More => (Bad, response.closed().err()),
    }
}

#[test]
fn a_probe_takes_the_answers_that_the_nginx_at_hand_passes_on_and_no_others() {
    let place = Place::new("answers");
    let cases = answers::all(BY_CHANCE, &mut Random(16));
    let [listen, address] = [(); 2].map(|()| place::free_address());
    let http = HTTP.replace("@listen@", &listen.to_string()).replace("@backend@", &address.to_string());
    let nginx = Nginx::plain(&place.path("nginx"), &http, listen);
    let _backend = backend(address, cases.clone());
    let rules = Rules::of(nginx_version());
    let (mut differences, mut good) = (Vec::new(), 0);
    for (number, case) in cases.iter().enumerate() {
        let Some(nginx) = by_nginx(listen, number, case) else { continue };
        let (probe, why) = by_probe(rules, case);
        good += usize::from(nginx != Bad);
        if nginx != probe {
            let bytes = case.bytes.escape_ascii().to_string();
            differences.push(format!("nginx {nginx:?}, probe {probe:?} ({why:?}): {}", &bytes[..bytes.len().min(300)]));
        }
    }
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), cases.len(), differences.join("\n"));
    assert!(good > cases.len() / 8 && good < cases.len() * 3 / 4, "{good} of {} are good", cases.len());
    nginx.assert_calm();
    tell(format_args!("answers of nginx {1}: {0}, {good} of them good ones", cases.len(), nginx_version()));
}
