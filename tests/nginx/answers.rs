//! Answers of backends, good and odd ones: a table of them, and as many made by chance.

use super::support::Random;

/// The end of a body, and the text that a probe expects in it. It is nowhere else.
pub const TEXT: &str = "ZQ";

const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200 OK",
    "HTTP/1.1 200",
    "HTTP/1.1 200 ",
    "HTTP/1.1   200   OK",
    "HTTP/1.1 2 0  0 OK",
    "HTTP/1.1 200.1 OK",
    "HTTP/1.1 200  ",
    "HTTP/1.1 200\tOK",
    "HTTP/1.1\t200 OK",
    "HTTP/1.1200 OK",
    "HTTP/1.1 200OK",
    "HTTP/1.1 2000 OK",
    "HTTP/1.1 20 OK",
    "HTTP/1.1 +20 OK",
    "HTTP/1.1 404 Not Found",
    "HTTP/1.1 503 Busy",
    "HTTP/1.1 599 Odd",
    "HTTP/1.1 600 Odder",
    "HTTP/1.1 999 Oddest",
    "HTTP/1.1 099 Low",
    "HTTP/1.1 000 None",
    "HTTP/1.1 204 No Content",
    "HTTP/1.1 304 Not Modified",
    "HTTP/1.1 100 Continue",
    "HTTP/1.1 101 Switching Protocols",
    "HTTP/1.1 102 Processing",
    "HTTP/1.1 199 Soon",
    "HTTP/1.1 200 O\0K",
    "HTTP/1.1 200 O\rK",
    "HTTP/1.1 200 OK\r",
    "HTTP/1.1 200 gr\u{f6}\u{df}e\t\x01\x7f",
    "HTTP/1.0 200 OK",
    "HTTP/0.9 200 OK",
    "HTTP/01.1 200 OK",
    "HTTP/2.0 200 OK",
    "HTTP/2 200 OK",
    "HTTP/10.1 200 OK",
    "HTTP/999.999 200 OK",
    "HTTP/1000.1 200 OK",
    "HTTP/1.1000 200 OK",
    "HTTP/1.0000999 200 OK",
    "HTTP/1. 200 OK",
    "HTTP/.1 200 OK",
    "HTTP/1 200 OK",
    "http/1.1 200 OK",
    "HTTPS/1.1 200 OK",
    " HTTP/1.1 200 OK",
    "",
    "SSH-2.0-OpenSSH_9.2",
    "200 OK",
    "\u{16}\u{3}\u{1}",
];

const HEADERS: &[&str] = &[
    "Server: x",
    "X:",
    "X: ",
    "X:y",
    "X: y  ",
    "X:\ty\t",
    "x_y: z",
    "no-colon",
    "no colon",
    "no-colon\x01",
    "no-colon\x7f",
    "PHP Notice  undefined",
    "PHP Notice: undefined",
    "X : y",
    "X\t: y",
    "X\x01: y",
    "X\x7f: y",
    "X\0: y",
    "X: \0",
    "X: y\0z",
    "X: \x01\x7f",
    "X: y\rz",
    "X: y\r",
    "X: y\r\r",
    "X\r",
    "X\r: y",
    "X:\r",
    "X: \r",
    "X: \ry",
    "\r",
    "\rX: y",
    ": y",
    ":",
    " folded",
    "\tfolded",
    " folded: y",
    "\x01",
    "\x7fX: y",
    "\u{f6}: y",
    "X\u{f6}: y",
    "(): y",
    "X(Y): z",
    "HTTP/1.1 200 OK",
    "HTTP/\0 \r",
    "HTTP/1.1 no colon \x01",
    "http/1.1 200 OK",
    "HTTP: x",
    "XHTTP/1.1 200 OK",
    "Content-Length: 4",
    "content-length:4",
    "CONTENT-LENGTH: 4  ",
    "Content-Length: 04",
    "Content-Length: \t4",
    "Content-Length: 4\t",
    "Content-Length: 4\r",
    "Content-Length: +4",
    "Content-Length: -1",
    "Content-Length: 4, 4",
    "Content-Length: 4.0",
    "Content-Length: 0x4",
    "Content-Length:",
    "Content-Length",
    "Content-Length: 9223372036854775807",
    "Content-Length: 9223372036854775808",
    "Content-Length: 99999999999999999999",
    "Content-Length : 4",
    "Content_Length: 1",
    "Transfer-Encoding: chunked",
    "transfer-encoding:CHUNKED",
    "Transfer-Encoding: chunked\r",
    "Transfer-Encoding: \tchunked",
    "Transfer-Encoding: chunked\t",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: xchunkedx",
    "Transfer-Encoding: chunke",
    "Transfer-Encoding: identity",
    "Transfer-Encoding:",
    "Transfer-Encoding",
    "Connection: close",
    "Connection: Keep-Alive, x",
    "Keep-Alive: timeout=x",
    "Date: then",
    "Content-Type: a/b; charset=x",
    "Content-Encoding: x",
    "Location: /elsewhere",
    "Refresh: 1",
    "Last-Modified: never",
    "ETag: x",
    "Expires: x",
    "Cache-Control: max-age=x",
    "Set-Cookie: a=b",
    "Vary: *",
    "Accept-Ranges: x",
    "WWW-Authenticate: x",
    "Upgrade: x",
    "Trailer: x",
    "X-Accel-Expires: x",
    "X-Accel-Limit-Rate: x",
    "X-Accel-Buffering: x",
    "X-Accel-Charset: x",
    "Status: 500",
];

/// Lines of chunks: the line before the data, where `4` stands for its length.
const SIZES: &[&str] = &[
    "4",
    "04",
    "000000000000000000000000000000004",
    "4;x=y",
    "4 ",
    "4\t",
    "4 x",
    "4;\0",
    "4x",
    "x4",
    "",
    " 4",
    "-4",
    "+4",
    "0x4",
    "4;x\ry",
    "4\r",
    "7fffffffffffffff",
    "800000000000000",
    "8000000000000000",
    "ffffffffffffffff",
    "10000000000000000",
    "4\"",
];

const ENDS: &[&str] = &["\r\n", "\n"];

/// An answer, and whether a probe looks for [`TEXT`] in its body.
#[derive(Clone, Debug)]
pub struct Case {
    pub bytes: Vec<u8>,
    pub body: bool,
}

fn head(status: &str, headers: &[&str], end: &str) -> String {
    let lines: String = headers.iter().map(|header| format!("{header}{end}")).collect();
    format!("{status}{end}{lines}{end}")
}

fn case(text: &str) -> Case {
    Case { bytes: text.into(), body: false }
}

const OK: &str = "HTTP/1.1 200 OK";

/// Each line by itself, all pairs of those about the length of a body, lines before 1xx and after them, and heads that end
/// early.
fn table() -> Vec<Case> {
    let mut all = Vec::new();
    for end in ENDS {
        all.extend(STATUS_LINES.iter().map(|status| case(&head(status, &["Server: x"], end))));
        all.extend(HEADERS.iter().map(|header| case(&head(OK, &["A: b", header, "C: d"], end))));
    }
    let of_length: Vec<&str> =
        HEADERS.iter().copied().filter(|header| header.len() > 8 && is_of_length(header)).collect();
    for one in &of_length {
        all.extend(of_length.iter().map(|other| case(&head(OK, &[one, other], "\r\n"))));
        all.push(case(&format!(
            "{}{}",
            head("HTTP/1.1 103 Early Hints", &[one, one], "\r\n"),
            head(OK, &[one], "\r\n")
        )));
    }
    for status in ["100 Continue", "103 Early Hints", "102 Processing", "101 Switching", "199 X"] {
        for after in ["", OK, "HTTP/1.1 103 Again", "HTTP/1.1 404 N", "SSH", "HTTP/1.1 204 N"] {
            for headers in [&["Link: x"][..], &[], &["no colon"], &["Content-Length: 1"]] {
                let after = if after.is_empty() { String::new() } else { head(after, &["A: b"], "\r\n") };
                all.push(case(&(head(&format!("HTTP/1.1 {status}"), headers, "\r\n") + &after)));
            }
        }
    }
    let whole = head(OK, &["A: b"], "\r\n");
    all.extend((0..whole.len()).map(|length| case(&whole[..length])));
    for length in [16383, 16384, 16385, 20000] {
        let rest = length - head(OK, &["A: "], "\r\n").len();
        all.push(case(&head(OK, &[&format!("A: {}", "x".repeat(rest))], "\r\n")));
    }
    all.extend(bodies());
    all
}

fn is_of_length(header: &str) -> bool {
    let name = header.to_ascii_lowercase();
    name.starts_with("content-length") || name.starts_with("transfer-encoding")
}

/// Bodies whose last bytes are [`TEXT`], framed well and badly.
fn bodies() -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |text: String| all.push(Case { bytes: text.into(), body: true });
    for before in SIZES {
        for (end, after) in
            [("\r\n", "\r\n"), ("\n", "\n"), ("\r\n", "\n"), ("\n", "\r\n"), ("\r\n", "\r"), ("\r\n", "")]
        {
            let chunked = head(OK, &["Transfer-Encoding: chunked"], "\r\n");
            add(format!("{chunked}{before}{end}data{after}2\r\n{TEXT}\r\n0\r\n\r\n"));
        }
    }
    for header in HEADERS.iter().filter(|header| is_of_length(header)) {
        add(format!("{}12{TEXT}", head(OK, &[header], "\r\n")));
        add(format!("{}1\r\nx\r\n2\r\n{TEXT}\r\n0\r\n\r\n", head(OK, &[header], "\r\n")));
    }
    for length in 0..8 {
        add(format!("{}1234{TEXT}", head(OK, &[&format!("Content-Length: {length}")], "\r\n")));
    }
    add(format!("{}1234{TEXT}", head("HTTP/1.0 200 OK", &[], "\r\n")));
    add(format!("{}1234{TEXT}", head("HTTP/1.1 404 N", &[], "\n")));
    all
}

/// Chance: some lines of the table, and bytes of them that became others.
fn by_chance(random: &mut Random) -> Case {
    let of = |random: &mut Random, from: &'static [&'static str]| from[random.below(from.len() as u64) as usize];
    let end = of(random, ENDS);
    let status = if random.below(4) == 0 { of(random, STATUS_LINES) } else { OK };
    let headers: Vec<&str> = (0..random.below(4)).map(|_| of(random, HEADERS)).collect();
    let mut bytes = head(status, &headers, end).into_bytes();
    let body = random.below(4) == 0;
    if body {
        let (size, end, after) = (of(random, SIZES), of(random, ENDS), of(random, ENDS));
        let framed = format!("{size}{end}data{after}2\r\n{TEXT}\r\n0\r\n\r\n");
        bytes = format!("{}{framed}", head(OK, &["Transfer-Encoding: chunked"], "\r\n")).into();
    }
    let odd = [0, 1, 9, 10, 13, 32, 48, 58, 59, 127, 128, 255];
    for _ in 0..random.below(3) {
        // In a body, only its framing changes: the text has to stay the same.
        let most = if body { bytes.len() - TEXT.len() - 9 } else { bytes.len() };
        let at = random.below(most as u64) as usize;
        let byte = odd[random.below(odd.len() as u64) as usize];
        match random.below(3) {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => drop(bytes.remove(at)),
        }
    }
    // Its redirect would be another request.
    let odd_redirect = bytes.windows(16).any(|part| part.eq_ignore_ascii_case(b"x-accel-redirect"));
    if odd_redirect { case(OK) } else { Case { bytes, body } }
}

/// The table, and `more` by chance.
pub fn all(more: usize, random: &mut Random) -> Vec<Case> {
    let mut all = table();
    all.extend((0..more).map(|_| by_chance(random)));
    all
}
