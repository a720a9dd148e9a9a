//! The sick backends themselves: each treats a client as it was told, and it notes its clients.

use super::certificates::Authority;
use super::client::Client;
use super::counted::{Curl, read_until};
use super::https::Https;
use super::place::{self, Place};
use super::sick::{DRIP, HEALTH, Sick};
use super::symptoms::{Mode, PING, PONG};
use super::system::{PATIENCE, wait_for};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for an answer that should not come.
const SOON: Duration = Duration::from_millis(100);

const TRAFFIC: &str = "/traffic";

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: sick\r\n\r\n")
}

/// A connection on which this was said.
fn said(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(text.as_bytes()).expect("sent");
    stream
}

/// All that came before the end of the connection, and how that was.
fn heard(mut stream: TcpStream) -> (String, Result<(), ErrorKind>) {
    let mut heard = Vec::new();
    let end = stream.read_to_end(&mut heard).map(drop).map_err(|error| error.kind());
    (String::from_utf8_lossy(&heard).into_owned(), end)
}

/// It goes on, and nothing comes.
fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    assert_eq!(stream.read(&mut [0]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
}

fn status(sick: &Sick, path: &str) -> u16 {
    Client::new(sick.address).get_fresh("sick", path).expect("an answer").status
}

#[test]
fn a_well_one_answers_with_its_address_and_keeps_the_connection_as_long_as_its_client_wants() {
    let sick = Sick::start();
    let mut client = Client::new(sick.address);
    for path in [HEALTH, TRAFFIC, "/health?with=more"] {
        let answer = client.get("sick", path).expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, sick.name.as_str()), "{path}");
    }
    assert_eq!((client.resent, sick.accepted(), sick.connections()), (0, 1, 1));
    assert_eq!((sick.probed(), sick.traffic()), (2, 1));

    let length = sick.name.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    for (request, answer) in [
        ("GET /health HTTP/1.0\r\n\r\n", format!("{head}{}", sick.name)),
        ("GET /health HTTP/1.1\r\nHost: sick\r\nConnection: close\r\n\r\n", format!("{head}{}", sick.name)),
        ("HEAD /health HTTP/1.0\r\n\r\n", head.clone()),
    ] {
        assert_eq!(heard(said(sick.address, request)), (answer, Ok(())), "{request}");
    }
}

#[test]
fn one_with_a_status_has_it_for_all_requests_or_for_probes_alone() {
    let sick = Sick::start();
    sick.set(Mode::Status(503));
    assert_eq!((status(&sick, HEALTH), status(&sick, TRAFFIC)), (503, 503));
    sick.set(Mode::Well);
    sick.set_probes(Mode::Status(500));
    assert_eq!((status(&sick, HEALTH), status(&sick, TRAFFIC)), (500, 200));
    sick.set_probes(Mode::Status(204));
    assert_eq!((status(&sick, HEALTH), status(&sick, TRAFFIC)), (204, 200));
    assert_eq!((sick.probed(), sick.traffic(), sick.accepted()), (3, 3, 6));
}

#[test]
fn one_that_is_hung_reads_and_never_answers_until_the_client_closes_or_the_mode_changes() {
    let sick = Sick::start();
    sick.set(Mode::Hung);
    let mut hung = said(sick.address, &get(HEALTH));
    let gone = said(sick.address, &get(HEALTH));
    wait_for("they have arrived", || sick.probed() == 2);
    assert_silent(&mut hung);
    assert_eq!(sick.connections(), 2);
    drop(gone);
    wait_for("one client has closed", || sick.connections() == 1);
    sick.set(Mode::Well);
    assert_eq!(heard(hung), (String::new(), Ok(())));
    assert_eq!(sick.most_probes_at_once(), 2);
    assert_eq!(status(&sick, HEALTH), 200);
}

#[test]
fn probes_that_hang_hold_up_no_traffic_and_a_change_for_probes_ends_no_traffic_that_hangs() {
    let sick = Sick::start();
    sick.set_probes(Mode::Hung);
    let probe = said(sick.address, &get(HEALTH));
    wait_for("it has arrived", || sick.probed() == 1);
    assert_eq!(status(&sick, TRAFFIC), 200);
    sick.set(Mode::Hung);
    let mut traffic = said(sick.address, &get(TRAFFIC));
    wait_for("it has arrived", || sick.traffic() == 2);
    sick.set_probes(Mode::Well);
    assert_eq!(heard(probe), (String::new(), Ok(())));
    wait_for("its thread has ended too", || sick.connections() == 1);
    assert_eq!(status(&sick, HEALTH), 200);
    assert_silent(&mut traffic);
    assert_eq!((sick.most_probes_at_once(), sick.most_traffic_at_once()), (1, 1));
}

#[test]
fn one_that_is_deaf_neither_takes_nor_refuses_connections_and_hears_again_later() {
    let sick = Sick::start();
    let mut kept = said(sick.address, &get(HEALTH));
    read_until(&mut kept, &sick.name);
    for _ in 0..2 {
        sick.set(Mode::Deaf);
        for _ in 0..3 {
            let error = TcpStream::connect_timeout(&sick.address, SOON).expect_err("deaf");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        sick.set(Mode::Well);
        assert_eq!(status(&sick, HEALTH), 200);
    }
    sick.set(Mode::Deaf);
    kept.write_all(get(HEALTH).as_bytes()).expect("sent");
    assert_silent(&mut kept);
    sick.set(Mode::Stopped);
    let refused = TcpStream::connect(sick.address).expect_err("stopped");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!((sick.accepted(), sick.probed()), (3, 4), "without its own and without those that gave up");
}

#[test]
fn one_that_drips_says_what_is_right_a_byte_at_a_time() {
    let sick = Sick::start();
    sick.set(Mode::Drip(Duration::from_millis(1)));
    let begun = Instant::now();
    let (answer, end) = heard(said(sick.address, "GET /health HTTP/1.0\r\n\r\n"));
    assert_eq!((answer.ends_with(&sick.name), end), (true, Ok(())), "{answer}");
    assert!(begun.elapsed() >= Duration::from_millis(answer.len() as u64), "a pause for each byte");

    sick.set(Mode::Drip(DRIP));
    let begun = Instant::now();
    let mut slow = said(sick.address, &get(HEALTH));
    slow.read_exact(&mut [0; 2]).expect("two bytes");
    assert!(begun.elapsed() >= DRIP);
    sick.set(Mode::Well);
    assert!(heard(slow).0.len() < 8, "it has ended");
}

#[test]
fn one_that_resets_does_so_when_it_has_read_a_request_or_at_once() {
    let sick = Sick::start();
    let reset = || (String::new(), Err(ErrorKind::ConnectionReset));
    sick.set_probes(Mode::Reset);
    assert_eq!(heard(said(sick.address, &get(HEALTH))), reset());
    assert_eq!((sick.probed(), status(&sick, TRAFFIC)), (1, 200));
    sick.set(Mode::ResetsAtOnce);
    assert_eq!(heard(connect(sick.address)), reset());
    assert_eq!((sick.probed(), sick.accepted()), (1, 3), "nothing was read");
}

#[test]
fn one_that_closes_early_or_talks_nonsense_or_says_what_it_was_given_ends_the_connection_then() {
    let sick = Sick::start();
    let probe = || heard(said(sick.address, &get(HEALTH)));
    sick.set_probes(Mode::ClosesEarly);
    let (half, end) = probe();
    assert!(half.starts_with("HTTP/1.1 200 OK\r\nContent-") && !half.contains("\r\n\r\n"), "{half:?}");
    assert_eq!(end, Ok(()));
    sick.set_probes(Mode::Garbage);
    let (garbage, end) = probe();
    assert_eq!((garbage.contains("HTTP/"), garbage.contains("certainly"), end), (false, true, Ok(())));
    let text = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nof no length";
    sick.set_probes(Mode::Says(text));
    assert_eq!(probe(), (text.into(), Ok(())));
    assert_eq!(status(&sick, TRAFFIC), 200);
}

#[test]
fn one_that_is_stopped_refuses_connections_and_has_none_and_starts_again_where_it_was() {
    let sick = Sick::start();
    for round in 1..=3 {
        let mut idle = said(sick.address, &get(TRAFFIC));
        read_until(&mut idle, &sick.name);
        sick.set(Mode::Stopped);
        assert_eq!(heard(idle), (String::new(), Ok(())));
        for _ in 0..3 {
            let error = TcpStream::connect(sick.address).expect_err("stopped");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        wait_for("none is open", || sick.connections() == 0);
        sick.set(Mode::Well);
        assert_eq!((status(&sick, HEALTH), sick.probed()), (200, round));
    }
}

#[test]
#[should_panic(expected = "who connects has not said yet whether it is a probe")]
fn a_mode_that_meets_connections_cannot_be_for_probes_alone() {
    Sick::start().set_probes(Mode::Stopped);
}

#[test]
fn a_probe_is_known_by_its_path_and_kept_with_its_time_its_bytes_and_its_source() {
    let sick = Sick::at(place::free_address(), "/alive");
    let begun = Instant::now();
    let two = ["POST /alive?x HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody", "GET /alive HTTP/1.0\r\n\r\n"];
    let stream = said(sick.address, &two.concat());
    let source = stream.local_addr().expect("connected");
    assert_eq!(heard(stream).0.matches("200 OK").count(), 2);
    assert_eq!(status(&sick, HEALTH), 200);
    let probes = sick.probes();
    let raw: Vec<_> = probes.iter().map(|probe| String::from_utf8_lossy(&probe.raw)).collect();
    assert_eq!(raw, two, "of one connection");
    assert!(probes.iter().all(|probe| (probe.source, probe.to) == (source, sick.address)));
    assert!(begun <= probes[0].at && probes[0].at <= probes[1].at && probes[1].at <= Instant::now());
    assert_eq!((sick.probed(), sick.traffic()), (2, 1));
}

#[test]
fn a_line_that_is_no_http_and_a_connection_that_says_nothing_are_probes_too() {
    let sick = Sick::start();
    let mut stream = said(sick.address, PING);
    assert_eq!(read_until(&mut stream, "\n"), PONG);
    sick.set(Mode::Status(500));
    stream.write_all(PING.as_bytes()).expect("sent");
    assert_eq!(read_until(&mut stream, "\n"), "-ERR 500\r\n");
    sick.set(Mode::ClosesEarly);
    stream.write_all(PING.as_bytes()).expect("sent");
    assert_eq!(heard(stream), (PONG[..3].into(), Ok(())));
    let seen = sick.probed();
    drop(connect(sick.address));
    let silent = sick.wait_for_probes(seen, 1);
    assert!(silent[0].raw.is_empty());
    let raw: Vec<_> = sick.probes().into_iter().map(|probe| probe.raw).collect();
    assert_eq!(raw, [PING.as_bytes(), PING.as_bytes(), PING.as_bytes(), b""]);
    assert_eq!((sick.traffic(), sick.accepted()), (0, 2));
}

#[test]
fn one_that_is_everywhere_is_as_many_peers_as_are_asked_and_counts_for_each() {
    let sick = Sick::everywhere();
    let peers = sick.peers(600);
    for peer in peers.iter().chain(&peers[..100]) {
        let answer = Client::new(*peer).get_fresh("sick", HEALTH).expect("an answer");
        assert_eq!(answer.body, peer.to_string());
    }
    let counts = sick.probed_at();
    assert_eq!(counts.len(), 600);
    assert!(peers.iter().enumerate().all(|(number, peer)| counts[peer] == if number < 100 { 2 } else { 1 }));
}

#[test]
fn a_hundred_backends_answer_side_by_side_and_are_gone_when_they_are_dropped() {
    let all: Vec<Sick> = (0..100).map(|_| Sick::start()).collect();
    all.iter().for_each(|sick| assert_eq!(status(sick, HEALTH), 200));
    assert!(all.iter().all(|sick| sick.probed() == 1));
    let addresses: Vec<SocketAddr> = all.iter().map(|sick| sick.address).collect();
    drop(all);
    for address in addresses {
        assert_eq!(TcpStream::connect(address).expect_err("dropped").kind(), ErrorKind::ConnectionRefused);
    }
}

/// The error in the handshake of a client that expects the host `name`.
fn handshake(https: &Https, trusted: &str, name: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-verify_return_error", "-CAfile", trusted, "-servername", name]);
    command.args(["-verify_hostname", name, "-connect", &https.name]).stdin(Stdio::null());
    let out = command.output().expect("openssl: make deps installs it");
    let said = String::from_utf8_lossy(&out.stderr);
    let error = said.split_once("verify error:").and_then(|(_, error)| error.lines().next());
    error.unwrap_or_default().to_owned()
}

#[test]
fn a_backend_that_speaks_tls_shows_the_certificate_that_it_was_given_and_counts_who_came() {
    const HOST: &str = "sick.test";
    let place = Place::new("sick-tls");
    let authority = Authority::new(&place, "trusted");
    let others = Authority::new(&place, "untrusted");
    for (certificate, error) in [
        (authority.sign(HOST), ""),
        (authority.sign_expired(HOST), "num=10:certificate has expired"),
        (authority.sign("other.test"), "num=62:hostname mismatch"),
        (others.sign(HOST), "num=20:unable to get local issuer certificate"),
    ] {
        let mut https = Https::start(&place, &certificate);
        assert_eq!(https.accepted(), 0);
        let said = handshake(&https, &authority.file(), HOST);
        assert_eq!(said, error);
        assert_eq!((https.accepted(), https.asked()), (1, vec![]));
        let url = format!("https://{HOST}:{}{HEALTH}", https.address.port());
        let resolve = format!("{HOST}:{}:{}", https.address.port(), https.address.ip());
        let curl = Curl::start(&["-k", "--resolve", &resolve, &url]);
        assert_eq!(curl.status(), 200);
        wait_for("it is in the log", || https.asked() == [format!("{HOST} GET {HEALTH}")]);
        assert_eq!(https.accepted(), 2);
    }
}
