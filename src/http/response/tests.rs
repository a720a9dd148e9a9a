use super::*;
use crate::upstream::check::CheckType;
use crate::version::NginxVersion;
use proptest::prelude::*;

fn check(expect_body: Option<&str>) -> Check {
    Check {
        valid_statuses: vec![101, 200, 204, 302, 304],
        expect_body: expect_body.map(str::to_string),
        ..Check::default()
    }
}

/// As the newest nginx.
fn answer<'a>(check: &Check, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<u16, Failure> {
    answer_by(Rules::NEWEST, check, pieces)
}

/// The result of a response that comes in `pieces`, after which the peer closes.
fn answer_by<'a>(rules: Rules, check: &Check, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<u16, Failure> {
    let mut response = Response::new(check, rules);
    for piece in pieces {
        let progress = response.feed(piece);
        if let State::Head(head) = &response.state {
            assert!(head.held() <= 2 * MAX_HEAD_BYTES);
        }
        if let Progress::Done(result) = progress {
            assert_eq!(response.feed(b"more"), Progress::Done(result.clone()));
            assert_eq!(response.closed(), result.clone().map(|_| ()));
            return result;
        }
    }
    let failure = response.closed().expect_err("what is not over has no result");
    assert_eq!(response.closed(), Err(failure.clone()));
    Err(failure)
}

/// The same whether it comes whole or byte by byte.
fn whole(check: &Check, bytes: &[u8]) -> Result<u16, Failure> {
    let result = answer(check, [bytes]);
    assert_eq!(answer(check, bytes.chunks(1)), result, "{}", quote(bytes));
    result
}

const DAMAGED: &str = "its chunks are damaged";

/// An nginx that is less strict.
const OLD: Rules = Rules { strict_lengths: false, early_hints: false, strict_chunks: false };

/// Responses of all kinds: the text that is expected in the body, the bytes, and the result in the newest nginx.
fn corpus() -> Vec<(Option<&'static str>, &'static str, Result<u16, Failure>)> {
    let bad = |what: &str| Err(Failure::Malformed(what.to_string()));
    let (ok, closed) = (Some("ok"), Err(Failure::Closed));
    let vain = |bytes| Err(Failure::Body(Looked::All(bytes)));
    let no_body: Result<u16, Failure> = Err(Failure::Body(Looked::None));
    vec![
        // Without a text to find, the head decides.
        (None, "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", Ok(200)),
        (None, "HTTP/1.0 302 Found\nLocation: /\n\n", Ok(302)),
        (None, "HTTP/1.1 200\r\n\r\n", Ok(200)),
        (None, "HTTP/1.1 200 \r\n\r\n", Ok(200)),
        (None, "HTTP/1.1   200 OK\r\n\r\n", Ok(200)),
        (None, "HTTP/1.10 200 OK\r\n\r\n", Ok(200)),
        (None, "HTTP/1.1 200.1 OK\r\n\r\n", Ok(200)),
        (None, "HTTP/1.1 200 gr\u{f6}\u{df}e\t\x01\r\n\r\n", Ok(200)),
        (None, "HTTP/1.1 200 OK\r\nno-colon\r\nX:\r\n\r\n", Ok(200)),
        (None, "HTTP/1.1   200 OK\r\nX: y\r\r\nHTTP/1.1 twice\0\r\n\r\n", Ok(200)),
        (None, "HTTP/2.0 200 O\0K\r\n\r\n", Ok(200)),
        (None, "HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", Ok(200)),
        (None, "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 500 Second\r\n\r\n", Ok(200)),
        // A bad status needs no more than its line, and none is bad that is not final.
        (None, "HTTP/1.1 500 Oops\r\n", Err(Failure::Status(500))),
        (None, "HTTP/1.1 503 Oops\r\n\0\0\0", Err(Failure::Status(503))),
        (None, "HTTP/1.1 999 Odd\r\n", Err(Failure::Status(999))),
        (None, "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Ok(200)),
        (
            None,
            "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 404 N\r\n",
            Err(Failure::Status(404)),
        ),
        (
            None,
            "HTTP/1.1 103 Early\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Ok(200),
        ),
        (None, "HTTP/1.1 103 Early\r\n\r\n", closed.clone()),
        // nginx passes these on unchanged, and the client waits in vain.
        (None, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Err(Failure::Status(100))),
        (None, "HTTP/1.1 102 P\r\n", Err(Failure::Status(102))),
        (None, "HTTP/1.1 101 Switching Protocols\r\n\r\n\u{1}\u{2}", Ok(101)),
        // Half a response.
        (None, "", closed.clone()),
        (None, "HTT", closed.clone()),
        (None, "HTTP/1.1 200 OK", closed.clone()),
        (None, "HTTP/1.1 200 OK\r\n", closed.clone()),
        (None, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", closed.clone()),
        // None at all.
        (None, "SSH-2.0-OpenSSH_9.2\r\n", bad("it begins with \"SSH-2.0-OpenSSH_9.2\"")),
        (None, "\u{15}\u{3}\u{1}", bad(r#"it begins with "\x15\x03\x01""#)),
        (None, "\r\nHTTP/1.1 200 OK\r\n\r\n", bad("its first line is empty")),
        (None, "HTTP/0.9 200 OK\r\n\r\n", bad("it begins with \"HTTP/0.9 200 OK\"")),
        (None, "HTTP/1.1000 200 OK\r\n\r\n", bad("it begins with \"HTTP/1.1000 200 OK\"")),
        (None, "http/1.1 200 OK\r\n\r\n", bad("it begins with \"http/1.1 200 OK\"")),
        (None, "HTTP/1. 200 OK\r\n\r\n", bad("it begins with \"HTTP/1. 200 OK\"")),
        (None, "HTTP/1.1200 OK\r\n\r\n", bad("it begins with \"HTTP/1.1200 OK\"")),
        (None, "HTTP/1.1 20 OK\r\n\r\n", bad("it begins with \"HTTP/1.1 20 OK\"")),
        (None, "HTTP/1.1 2000 OK\r\n\r\n", bad("it begins with \"HTTP/1.1 2000 OK\"")),
        (None, "HTTP/1.1 2 0 0 OK\r\n\r\n", bad("it begins with \"HTTP/1.1 2 0 0 OK\"")),
        (None, "HTTP/1.1 +20 OK\r\n\r\n", bad("it begins with \"HTTP/1.1 +20 OK\"")),
        (None, "HTTP/1.1 099 OK\r\n\r\n", Err(Failure::Status(99))),
        (None, "HTTP/1.1 200 O\rK\r\n\r\n", bad(r#"it begins with "HTTP/1.1 200 O\x0dK""#)),
        // Heads that nginx refuses.
        (None, "HTTP/1.1 200 OK\r\n folded\r\n\r\n", bad("the header line \" folded\" continues the one before")),
        (None, "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", bad(r#"the header line "A: b\x0dc" has a NUL or a CR alone"#)),
        (None, "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", bad(r#"the header line "A: \x00" has a NUL or a CR alone"#)),
        (None, "HTTP/1.1 200 OK\r\n\r\r\n", bad(r#"the header line "\x0d" has a CR alone"#)),
        (None, "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", bad("the header line \"no colon\" has no good name")),
        (None, "HTTP/1.1 200 OK\r\nno\tcolon\r\n\r\n", bad(r#"the header line "no\x09colon" has no good name"#)),
        (None, "HTTP/1.1 200 OK\r\nContent-Length: 1\t\r\n\r\n", bad(r#"Content-Length is "1\x09", no number"#)),
        (None, "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", bad("the header line \"A : b\" has no good name")),
        (None, "HTTP/1.1 200 OK\r\n: b\r\n\r\n", bad("the header line \": b\" has no good name")),
        (None, "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", bad("Content-Length is \"-1\", no number")),
        (None, "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", bad("Content-Length is \"1, 1\", no number")),
        (None, "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", bad("Content-Length is \"\", no number")),
        (
            None,
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nCONTENT-LENGTH: 1\r\n\r\n",
            bad("there are two Content-Length headers"),
        ),
        (None, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", bad("Transfer-Encoding is \"gzip\", not chunked")),
        (
            None,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            bad("there are Content-Length and Transfer-Encoding"),
        ),
        // A body by its length.
        (ok, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok(200)),
        (ok, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nit is ok", Ok(200)),
        (ok, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok", vain(1)),
        (ok, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", vain(0)),
        (ok, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno", closed.clone()),
        (ok, "HTTP/1.1 200 ok\r\nX: ok\r\nContent-Length: 2\r\n\r\nno", vain(2)),
        (ok, "HTTP/1.1 204 No Content\r\n\r\nok", no_body.clone()),
        (ok, "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", no_body.clone()),
        // A body that the close ends.
        (ok, "HTTP/1.0 200 OK\r\n\r\nthis is ok", Ok(200)),
        (ok, "HTTP/1.0 200 OK\r\n\r\nthis is not", vain(11)),
        (ok, "HTTP/1.0 200 OK\r\n\r\n", vain(0)),
        (Some("aab"), "HTTP/1.0 200 OK\r\n\r\naaab", Ok(200)),
        // Chunks.
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Ok(200)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", Ok(200)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b\"\r\no\r\n0001 \r\nk\r\n0\r\n\r\n", Ok(200)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA;ok\r\n0123456789\r\n0\r\nX: ok\r\n\r\n", vain(10)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", vain(0)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00;x\r\n\r\n", vain(0)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\no\nk\r\n", closed.clone()),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n", closed.clone()),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", closed.clone()),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nok", bad(DAMAGED)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", bad(DAMAGED)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok", bad(DAMAGED)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\rok", bad(DAMAGED)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nok\r\n", bad(DAMAGED)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\rk", bad(DAMAGED)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7ffffffffffffff\r\nok", Ok(200)),
        (ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\nok", bad(DAMAGED)),
    ]
}

#[test]
fn every_response_of_the_corpus_gets_its_verdict() {
    for (expect_body, bytes, expected) in corpus() {
        assert_eq!(whole(&check(expect_body), bytes.as_bytes()), expected, "{bytes:?}");
    }
}

#[test]
fn an_older_nginx_takes_more_of_what_says_how_long_a_body_is() {
    let lines = |headers: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n{body}");
    let (length, chunked) = ("Content-Length: 2", "Transfer-Encoding: chunked");
    for (headers, body, as_the_newest) in [
        (format!("{chunked}\r\n{chunked}"), "2\r\nok\r\n0\r\n\r\n", "there are two Transfer-Encoding headers"),
        (format!("{length}\r\n{length}"), "ok", "there are two Content-Length headers"),
        (format!("{length}\r\n{chunked}"), "2\r\nok\r\n", "there are Content-Length and Transfer-Encoding"),
        (format!("{chunked}\r\nContent-Length: 1"), "2\r\nok", "there are Content-Length and Transfer-Encoding"),
        ("Transfer-Encoding: identity".into(), "ok", "Transfer-Encoding is \"identity\", not chunked"),
        ("Transfer-Encoding: x, Chunked".into(), "2\r\nok", "Transfer-Encoding is \"x, Chunked\", not chunked"),
        ("Content-Length: x".into(), "ok", "Content-Length is \"x\", no number"),
        (format!("Content-Length: 1\r\n{length}"), "ok", "there are two Content-Length headers"),
        (chunked.into(), "2\nok\n0\n\n", DAMAGED),
    ] {
        let response = lines(&headers, body);
        let by = |rules| answer_by(rules, &check(Some("ok")), [response.as_bytes()]);
        assert_eq!(by(OLD), Ok(200), "{response:?}");
        assert_eq!(by(Rules::NEWEST), Err(Failure::Malformed(as_the_newest.into())), "{response:?}");
    }
    let hints = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    assert_eq!(answer_by(OLD, &check(None), [&hints[..]]), Err(Failure::Status(103)));
}

#[test]
fn the_rules_are_those_of_the_version() {
    let of = |major, minor, patch| Rules::of(NginxVersion::new(major, minor, patch));
    assert_eq!((of(1, 18, 0), of(1, 22, 1)), (OLD, OLD));
    let strict = Rules { strict_lengths: true, ..OLD };
    assert_eq!((of(1, 23, 0), of(1, 28, 3)), (strict, strict));
    assert_eq!(of(1, 29, 0), Rules { early_hints: true, ..strict });
    assert_eq!((of(1, 29, 4), of(1, 31, 3)), (Rules::NEWEST, Rules::NEWEST));
}

#[test]
fn the_verdict_comes_as_early_as_it_can() {
    for (expect_body, bytes) in [
        (None, "HTTP/1.1 500 Oops\r\n"),
        (None, "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"),
        (Some("ok"), "HTTP/1.1 200 OK\r\n\r\nok"),
        (Some("ok"), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
        (Some("ok"), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
        (Some("ok"), "HTTP/1.1 204 No Content\r\n\r\n"),
    ] {
        let mut response = Response::new(&check(expect_body), Rules::NEWEST);
        let (last, before) = bytes.as_bytes().split_last().unwrap();
        assert_eq!(response.feed(before), Progress::More, "{bytes:?}");
        assert_ne!(response.feed(&[*last]), Progress::More, "{bytes:?}");
    }
}

#[test]
fn what_never_ends_its_first_line_is_refused_by_what_can_be_shown() {
    let junk = [b'x'; 64];
    let expected = Err(Failure::Malformed(format!("it begins with \"{}\"", "x".repeat(64))));
    assert_eq!(whole(&check(None), &junk), expected);
    assert_eq!(whole(&check(None), &junk.repeat(1000)), expected);
    assert_eq!(whole(&check(None), b"xxx"), Err(Failure::Malformed("it begins with \"xxx\"".into())));
}

#[test]
fn a_head_has_a_bound_and_so_have_many() {
    let bound = Err(Failure::Malformed("its head has more than 16384 bytes".into()));
    let line = "HTTP/1.1 200 OK\r\n";
    let head = |length: usize| format!("{line}X: {}\r\n\r\n", "x".repeat(length - line.len() - 7)).into_bytes();
    assert_eq!(head(MAX_HEAD_BYTES).len(), MAX_HEAD_BYTES);
    assert_eq!(whole(&check(None), &head(MAX_HEAD_BYTES)), Ok(200));
    assert_eq!(whole(&check(None), &head(MAX_HEAD_BYTES + 1)), bound);
    assert_eq!(whole(&check(None), &b"HTTP/1.1 103 \r\n\r\n".repeat(1000)), bound);
    assert_eq!(whole(&check(None), format!("HTTP/1.1 {}", " ".repeat(MAX_HEAD_BYTES)).as_bytes()), bound);
}

#[test]
fn of_a_body_the_beginning_is_looked_at() {
    let close =
        |before: usize| format!("HTTP/1.0 200 OK\r\n\r\n{}ok{}", "o".repeat(before), "x".repeat(99)).into_bytes();
    assert_eq!(whole(&check(Some("ok")), &close(MAX_BODY_BYTES - 2)), Ok(200));
    assert_eq!(whole(&check(Some("ok")), &close(MAX_BODY_BYTES - 1)), Err(Failure::Body(Looked::Begin)));
    let framing = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(20_000));
    assert_eq!(whole(&check(Some("ok")), framing.as_bytes()), Err(Failure::Body(Looked::Begin)));
    let extension = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(MAX_BODY_BYTES));
    assert_eq!(whole(&check(Some("ok")), extension.as_bytes()), Err(Failure::Body(Looked::Begin)));
}

#[test]
fn a_response_to_head_has_no_body() {
    let head = Check { http_req: Some("HEAD / HTTP/1.0\r\n\r\n".into()), ..check(None) };
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
    assert_eq!(whole(&head, bytes), Ok(200));
    assert_eq!(whole(&Check { expect_body: Some("ok".into()), ..head }, bytes), Err(Failure::Body(Looked::None)));
}

fn expect(text: Option<&str>, pieces: &[&str]) -> Result<u16, Failure> {
    let mut expect = Expect::new(&Check { kind: CheckType::Tcp, expect: text.map(str::to_string), ..Check::default() });
    for piece in [""].iter().chain(pieces) {
        let progress = expect.feed(piece.as_bytes());
        assert!(expect.held() <= text.map_or(0, str::len));
        if let Progress::Done(result) = progress {
            assert_eq!(expect.feed(b"more"), Progress::Done(result.clone()));
            assert_eq!(expect.closed(), result.clone().map(|_| ()));
            return result;
        }
    }
    expect.closed().map(|()| panic!("what is not over has no result"))
}

#[test]
fn an_answer_of_tcp_begins_with_the_text() {
    assert_eq!(expect(None, &[]), Ok(0));
    assert_eq!(expect(Some("+PONG"), &["+PONG\r\n"]), Ok(0));
    assert_eq!(expect(Some("+PONG"), &["+", "", "PON", "G"]), Ok(0));
    assert_eq!(expect(Some("+PONG"), &["+PON"]), Err(Failure::Closed));
    assert_eq!(expect(Some("+PONG"), &["-"]), Err(Failure::Unexpected(b"-".to_vec())));
    assert_eq!(expect(Some("+PONG"), &["+P", "ANGsomething"]), Err(Failure::Unexpected(b"+PANG".to_vec())));
}

#[test]
fn a_failure_is_one_line() {
    for (failure, shown) in [
        (Failure::Malformed("it begins with \"x\"".into()), "no HTTP/1.x response: it begins with \"x\""),
        (Failure::Status(500), "status 500, which is not one of valid_statuses"),
        (Failure::Body(Looked::None), "there is no body, which the text of expect_body could be in"),
        (Failure::Body(Looked::All(1)), "the text of expect_body is not in the body, which has 1 byte"),
        (Failure::Body(Looked::All(9)), "the text of expect_body is not in the body, which has 9 bytes"),
        (Failure::Body(Looked::Begin), "the text of expect_body is not in the first 65536 bytes after the head"),
        (Failure::Unexpected(b"-ERR\r\n".to_vec()), r#"answered "-ERR\x0d\x0a", and not the text of expect"#),
        (Failure::Closed, "closed the connection before its answer was whole"),
    ] {
        assert_eq!(failure.to_string(), shown);
    }
}

/// Cuts `bytes` into pieces of these lengths, over and over.
fn pieces<'a>(mut bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let length = lengths.next().copied().unwrap_or(1).min(bytes.len());
        let (piece, rest) = bytes.split_at(length);
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// A response with `body` in chunks of these sizes.
fn chunked(body: &str, sizes: &[usize], end: &str) -> String {
    let mut response = format!("HTTP/1.1 200 OK{end}Transfer-Encoding: chunked{end}{end}");
    for piece in pieces(body.as_bytes(), sizes) {
        let text = std::str::from_utf8(piece).unwrap();
        response.push_str(&format!("{:x};x=y{end}{text}{end}", piece.len()));
    }
    response + "0" + end + "X: y" + end + end
}

proptest! {
    #[test]
    fn any_split_gets_the_same_verdict(index in 0..corpus().len(), lengths in prop::collection::vec(1usize..20, 1..8)) {
        let (expect_body, bytes, expected) = &corpus()[index];
        prop_assert_eq!(answer(&check(*expect_body), pieces(bytes.as_bytes(), &lengths)), expected.clone());
    }

    #[test]
    fn the_body_is_the_same_however_it_is_framed(
        body in "[ab]{0,200}", text in "[ab]{1,7}", sizes in prop::collection::vec(1usize..20, 1..8), crlf: bool,
        lengths in prop::collection::vec(1usize..20, 1..8),
    ) {
        let in_vain = Err(Failure::Body(Looked::All(body.len())));
        let expected = if body.contains(&text) { Ok(200) } else { in_vain };
        let rules = if crlf { Rules::NEWEST } else { OLD };
        let end = if crlf { "\r\n" } else { "\n" };
        let length = body.len();
        for response in [
            chunked(&body, &sizes, end),
            format!("HTTP/1.1 200 OK{end}{end}{body}"),
            format!("HTTP/1.1 200 OK{end}content-length: {length}{end}{end}{body}"),
        ] {
            let pieces = pieces(response.as_bytes(), &lengths);
            prop_assert_eq!(answer_by(rules, &check(Some(&text)), pieces), expected.clone());
        }
    }

    /// `answer` looks at the memory that is held.
    #[test]
    fn any_bytes_get_one_verdict(
        tail: Vec<u8>, begin in 0usize..4, expect_body: bool, lengths in prop::collection::vec(1usize..20, 1..8),
    ) {
        let begins = ["", "HTTP/1.1 ", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n"];
        let bytes = [begins[begin].as_bytes(), &tail].concat();
        let check = check(expect_body.then_some("ok"));
        let result = answer(&check, [&bytes[..]]);
        prop_assert_eq!(answer(&check, pieces(&bytes, &lengths)), result.clone());
        let shown = result.map_or_else(|failure| failure.to_string(), |status| status.to_string());
        prop_assert!(!shown.chars().any(char::is_control) && shown.len() < 250);
    }

    /// The same of bytes that are nearly a response.
    #[test]
    fn what_is_nearly_a_response_gets_one_verdict(
        parts in prop::collection::vec(prop::sample::select(vec![
            "HTTP/1.1 ", "HTTP/1.0 ", "200", "100", " OK", "\r\n", "\r\n", "\n", "\r", "Content-Length: ", "2", "0",
            "Transfer-Encoding: chunked", "ok", ";", ":", " ", "\0", "ffff", "HTTP/1.1 200 OK\r\n", "\r\n\r\n",
        ]), 0..30),
        lengths in prop::collection::vec(1usize..20, 1..8),
    ) {
        let bytes = parts.concat().into_bytes();
        for expect_body in [None, Some("ok")] {
            let check = check(expect_body);
            prop_assert_eq!(answer(&check, pieces(&bytes, &lengths)), answer(&check, [&bytes[..]]));
        }
    }

    #[test]
    fn any_answer_of_tcp_is_judged_by_its_beginning(text in "[ab]{1,5}", parts in prop::collection::vec("[ab]{0,3}", 0..5)) {
        let (all, parts) = (parts.concat(), parts.iter().map(String::as_str).collect::<Vec<_>>());
        let result = expect(Some(&text), &parts);
        prop_assert_eq!(result.is_ok(), all.starts_with(&text));
        prop_assert_eq!(result == Err(Failure::Closed), text.starts_with(&all) && all != text);
    }
}
