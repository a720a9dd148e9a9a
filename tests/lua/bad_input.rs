//! Bad input is refused by a message that names the field, the value and the allowed values. The table stays as it was. That
//! holds for every field that the library knows, in every syntax in which it can be given.
//!
//! The tables below have rows for every field. The library itself lists its fields: a field without its rows fails the test.

use crate::vm::Vm;
use dyups::config::fields;
use dyups::config::setup::SETUP;
use dyups::upstream::check::fields as check;
use dyups::upstream::field::Field;
use mlua::prelude::*;
use std::fmt::Write;

/// The ways in which a value can be wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    /// Another type, or a text that is none of those that are known.
    Type,
    /// Less, or shorter, than the least.
    Below,
    /// More, or longer, than the most.
    Above,
}

use Wrong::{Above, Below, Type};

/// A value that a field refuses.
struct Row {
    field: &'static str,
    wrong: Wrong,
    /// A Lua expression.
    lua: &'static str,
    /// The same as JSON; empty where JSON has no such value.
    json: &'static str,
    /// How the message shows it.
    shown: &'static str,
}

const fn row(field: &'static str, wrong: Wrong, lua: &'static str, json: &'static str, shown: &'static str) -> Row {
    Row { field, wrong, lua, json, shown }
}

/// A value that looks the same in Lua, in JSON and in the message.
const fn same(field: &'static str, wrong: Wrong, value: &'static str) -> Row {
    row(field, wrong, value, value, value)
}

/// A field without rows of one kind, and the reason.
type Exempt = (&'static str, Wrong, &'static str);

const TWO_NAMES: &str = "a choice has no order";
const TWO_VALUES: &str = "a boolean has no order";
const IGNORED: &str = "it is another module's; what is given is ignored";
const MISPLACED: &str = "it is another module's; whatever is given is refused with where it belongs";
const READ_ONLY: &str = "status adds it; what is given is ignored";

const LONG_PATH: &str = r#"("x"):rep(4001)"#;

const PEER_ROWS: &[Row] = &[
    same("host", Type, "5"),
    same("host", Type, "true"),
    row("host", Type, "{}", "{}", "{}"),
    same("host", Type, r#""localhost""#),
    same("host", Type, r#""a b""#),
    same("host", Type, r#""1.2.3.999""#),
    same("host", Type, r#""1.2.3""#),
    same("host", Type, r#""::1""#),
    same("host", Type, r#""[::1""#),
    same("host", Type, r#""[::g]""#),
    same("host", Type, r#""[fe80::1%eth0]""#),
    same("host", Type, r#""10.0.0.1:80""#),
    same("host", Type, r#""unix:p""#),
    row("host", Type, r#""10.0.0.1\n""#, r#""10.0.0.1\n""#, r#""10.0.0.1\x0a""#),
    row("host", Type, r#""10.0.0.1\0""#, r#""10.0.0.1\u0000""#, r#""10.0.0.1\x00""#),
    row("host", Type, r#""unix:/a\0b""#, r#""unix:/a\u0000b""#, r#""unix:/a\x00b""#),
    row("host", Type, r#""unix:/\255""#, "\"unix:/\u{fffd}\"", "\"unix:/\u{fffd}\""),
    row("host", Type, "function() end", "", "function"),
    same("host", Below, r#""""#),
    row("host", Above, r#""unix:/" .. ("x"):rep(107)"#, "", r#""unix:/xxx"#),
    row("host", Above, r#"("1"):rep(10000000)"#, "", r#""1111"#),
    same("port", Type, r#""80""#),
    same("port", Type, "2.5"),
    same("port", Type, "true"),
    row("port", Type, "0/0", "", "nan"),
    row("port", Type, "print", "", "function"),
    same("port", Below, "0"),
    same("port", Below, "-1"),
    row("port", Below, "-1/0", "", "-inf"),
    same("port", Above, "65536"),
    row("port", Above, "1/0", "", "inf"),
    same("server", Type, "5"),
    same("server", Type, r#""a b:80""#),
    same("server", Type, r#""10.0.0.1:x""#),
    same("server", Type, r#""10.0.0.1:""#),
    same("server", Type, r#""10.0.0.1:080""#),
    same("server", Type, r#""::1:80""#),
    same("server", Type, r#""api.local:80""#),
    row("server", Type, "{ 1 }", "[1]", "[1]"),
    same("server", Below, r#""""#),
    same("server", Below, r#""10.0.0.1:0""#),
    same("server", Above, r#""10.0.0.1:65536""#),
    same("weight", Type, r#""x""#),
    same("weight", Type, r#""1""#),
    same("weight", Type, "2.5"),
    same("weight", Type, "true"),
    row("weight", Type, "{}", "{}", "{}"),
    row("weight", Type, "{ { 1 } }", "[[1]]", "[[1]]"),
    row("weight", Type, "0/0", "", "nan"),
    row("weight", Type, "function() end", "", "function"),
    row("weight", Type, "newproxy(true)", "", "userdata"),
    row("weight", Type, "coroutine.create(print)", "", "thread"),
    row("weight", Type, "1LL", "", "cdata"),
    row("weight", Type, "SELF", "", r#"{"self":recursive}"#),
    row("weight", Type, "{ [1] = 1, [1000] = 2 }", "", "mixed"),
    row("weight", Type, "{ 1, a = 2 }", "", "mixed"),
    same("weight", Below, "-1"),
    row("weight", Below, "-1/0", "", "-inf"),
    same("weight", Above, "65536"),
    row("weight", Above, "1e9", "1000000000", "1000000000"),
    row("weight", Above, "1/0", "", "inf"),
    row("weight", Above, "1e300", "1e300", "1e300"),
    same("status", Type, r#""UP""#),
    same("status", Type, r#""""#),
    same("status", Type, r#""unknown""#),
    same("status", Type, "1"),
    same("status", Type, "true"),
    same("backup", Type, "1"),
    same("backup", Type, "0"),
    same("backup", Type, r#""true""#),
    row("backup", Type, "{}", "{}", "{}"),
    same("leaving", Type, "1"),
    same("leaving", Type, r#""true""#),
    row("leaving", Type, "{}", "{}", "{}"),
    same("max_conns", Type, r#""10""#),
    same("max_conns", Type, "false"),
    same("max_conns", Type, "0.5"),
    same("max_conns", Below, "-1"),
    same("max_conns", Above, "4294967296"),
    same("max_fails", Type, r#""10""#),
    row("max_fails", Type, "0/0", "", "nan"),
    same("max_fails", Below, "-1"),
    same("max_fails", Above, "4294967296"),
    same("fail_timeout", Type, r#""10s""#),
    same("fail_timeout", Type, "1.5"),
    same("fail_timeout", Below, "-1"),
    same("fail_timeout", Above, "4294967296"),
    same("slow_start", Type, r#""10s""#),
    row("slow_start", Type, "{ 10 }", "[10]", "[10]"),
    same("slow_start", Below, "-1"),
    same("slow_start", Above, "4294967296"),
    same("check_port", Type, r#""81""#),
    same("check_port", Type, "true"),
    same("check_port", Type, "80.5"),
    row("check_port", Type, "0/0", "", "nan"),
    same("check_port", Below, "0"),
    same("check_port", Below, "-1"),
    same("check_port", Above, "65536"),
    same("check_url", Type, "5"),
    same("check_url", Type, "true"),
    same("check_url", Type, r#""health""#),
    same("check_url", Type, r#""http://10.0.0.1/""#),
    same("check_url", Type, r#""/a b""#),
    row("check_url", Type, r#""/a\r\nX: y""#, r#""/a\r\nX: y""#, r#""/a\x0d\x0aX: y""#),
    row("check_url", Type, r#""/\255""#, "\"/\u{fffd}\"", "\"/\u{fffd}\""),
    row("check_url", Type, "{}", "{}", "{}"),
    same("check_url", Below, r#""""#),
    row("check_url", Above, r#""/" .. ("x"):rep(8192)"#, "", r#""/xxx"#),
    same("check_host", Type, "5"),
    same("check_host", Type, r#""a b""#),
    row("check_host", Type, r#""a\r\nX: y""#, r#""a\r\nX: y""#, r#""a\x0d\x0aX: y""#),
    same("check_host", Below, r#""""#),
    row("check_host", Above, r#"("x"):rep(256)"#, "", r#""xxxx"#),
];

const PEER_EXEMPT: &[Exempt] = &[
    ("conns", Type, READ_ONLY),
    ("conns", Below, READ_ONLY),
    ("conns", Above, READ_ONLY),
    ("fails", Type, READ_ONLY),
    ("fails", Below, READ_ONLY),
    ("fails", Above, READ_ONLY),
    ("out", Type, READ_ONLY),
    ("out", Below, READ_ONLY),
    ("out", Above, READ_ONLY),
    ("state", Type, READ_ONLY),
    ("state", Below, READ_ONLY),
    ("state", Above, READ_ONLY),
    ("probes", Type, READ_ONLY),
    ("probes", Below, READ_ONLY),
    ("probes", Above, READ_ONLY),
    ("streak", Type, READ_ONLY),
    ("streak", Below, READ_ONLY),
    ("streak", Above, READ_ONLY),
    ("throttle", Type, READ_ONLY),
    ("throttle", Below, READ_ONLY),
    ("throttle", Above, READ_ONLY),
    ("since", Type, READ_ONLY),
    ("since", Below, READ_ONLY),
    ("since", Above, READ_ONLY),
    ("cause", Type, READ_ONLY),
    ("cause", Below, READ_ONLY),
    ("cause", Above, READ_ONLY),
    ("stats", Type, READ_ONLY),
    ("stats", Below, READ_ONLY),
    ("stats", Above, READ_ONLY),
    ("leaving", Below, TWO_VALUES),
    ("leaving", Above, TWO_VALUES),
    ("status", Below, TWO_NAMES),
    ("status", Above, TWO_NAMES),
    ("backup", Below, TWO_VALUES),
    ("backup", Above, TWO_VALUES),
];

const UPSTREAM_ROWS: &[Row] = &[
    same("method", Type, r#""ip-hash""#),
    same("method", Type, r#""RR""#),
    same("method", Type, r#""""#),
    same("method", Type, "1"),
    row("method", Type, "{}", "{}", "{}"),
    same("hash_id", Type, r#""md5""#),
    same("hash_id", Type, "5"),
    same("peers", Type, "5"),
    same("peers", Type, r#""10.0.0.1""#),
    same("peers", Type, "true"),
    row("peers", Type, "{ a = 1 }", r#"{"a":1}"#, r#"{"a":1}"#),
    row("peers", Type, "{ { host = '10.0.0.1' }, a = 1 }", "", "mixed"),
    row("peers", Type, "{ 5 }", "[5]", "5"),
    row("peers", Type, "{ 'x' }", r#"["x"]"#, r#""x""#),
    row("peers", Type, "{ {}, {} }", "[{},{}]", "not given"),
    row("peers", Type, "{ { host = '10.0.0.1' }, nil, 7 }", "", "a list with holes"),
    row("peers", Type, "SELF", "", r#"{"self":recursive}"#),
    row("peers", Above, "MANY", "", "262145 peers"),
    same("healthcheck", Type, "5"),
    same("healthcheck", Type, "true"),
    same("healthcheck", Type, r#""http""#),
    row("healthcheck", Type, "{ 1 }", "[1]", "[1]"),
    row("healthcheck", Type, "print", "", "function"),
    row("healthcheck", Type, "{ type = 'icmp' }", r#"{"type":"icmp"}"#, r#"healthcheck.type: "icmp""#),
    row("healthcheck", Below, "{ rise = 0 }", r#"{"rise":0}"#, "healthcheck.rise: 0"),
    row("healthcheck", Above, "{ rise = 256 }", r#"{"rise":256}"#, "healthcheck.rise: 256"),
];

const UPSTREAM_EXEMPT: &[Exempt] = &[
    ("method", Below, TWO_NAMES),
    ("method", Above, TWO_NAMES),
    ("hash_id", Below, TWO_NAMES),
    ("hash_id", Above, TWO_NAMES),
    ("peers", Below, "no peers are allowed"),
    ("generation", Type, READ_ONLY),
    ("generation", Below, READ_ONLY),
    ("generation", Above, READ_ONLY),
    ("stats", Type, READ_ONLY),
    ("stats", Below, READ_ONLY),
    ("stats", Above, READ_ONLY),
    ("origin", Type, READ_ONLY),
    ("origin", Below, READ_ONLY),
    ("origin", Above, READ_ONLY),
];

/// Of an http check, but for those that only another type knows.
const CHECK_ROWS: &[Row] = &[
    same("type", Type, r#""icmp""#),
    same("type", Type, r#""HTTP""#),
    same("type", Type, "1"),
    same("http_req", Type, "5"),
    same("http_req", Type, "true"),
    same("http_req", Type, r#""GET / HTTP/1.0""#),
    row("http_req", Type, r#""GET / HTTP/1.0\n\n""#, r#""GET / HTTP/1.0\n\n""#, r#""GET / HTTP/1.0\x0a\x0a""#),
    row("http_req", Type, r#"("GET / HTTP/1.0\r\n\r\n"):rep(2)"#, "", "a body without a Content-Length"),
    row("http_req", Type, r#""GET / HTTP/1.0\r\nX: \0\r\n\r\n""#, "", "a NUL byte"),
    same("http_req", Below, r#""""#),
    row("http_req", Above, r#"("x"):rep(8193)"#, "", r#""xxxx"#),
    same("send", Type, "5"),
    same("send", Below, r#""""#),
    row("send", Above, r#"("x"):rep(8193)"#, "", r#""xxxx"#),
    row("expect", Type, "{}", "{}", "{}"),
    same("expect", Below, r#""""#),
    row("expect", Above, r#"("x"):rep(8193)"#, "", r#""xxxx"#),
    same("port", Type, r#""81""#),
    same("port", Type, "true"),
    same("port", Below, "0"),
    same("port", Above, "65536"),
    same("host", Type, r#""a b""#),
    same("host", Type, r#""::1""#),
    row("host", Type, r#""a\r\nX: y""#, r#""a\r\nX: y""#, r#""a\x0d\x0aX: y""#),
    same("host", Below, r#""""#),
    row("host", Above, r#"("x"):rep(256)"#, "", r#""xxxx"#),
    same("interval", Type, r#""3s""#),
    row("interval", Type, "0/0", "", "nan"),
    same("interval", Type, "false"),
    same("interval", Below, "9"),
    row("interval", Above, "1/0", "", "inf"),
    same("interval", Above, "86400001"),
    same("interval_down", Type, "true"),
    same("interval_down", Below, "9"),
    same("interval_down", Above, "86400001"),
    same("timeout", Type, r#""1s""#),
    same("timeout", Below, "0"),
    same("timeout", Above, "86400001"),
    same("rise", Type, "1.5"),
    same("rise", Below, "0"),
    same("rise", Above, "256"),
    same("fall", Type, "true"),
    same("fall", Below, "-1"),
    same("fall", Above, "256"),
    same("valid_statuses", Type, "200"),
    row("valid_statuses", Type, r#"{ "200" }"#, r#"["200"]"#, r#"]: "200""#),
    row("valid_statuses", Type, "{ 200, nil, 302 }", "", "mixed"),
    row("valid_statuses", Below, "{}", "[]", "0 statuses"),
    row("valid_statuses", Below, "{ 99 }", "[99]", "]: 99"),
    row("valid_statuses", Above, "{ 200, 600 }", "[200,600]", "]: 600"),
    row("valid_statuses", Above, "MANY", "", "262145 statuses"),
    same("concurrency", Type, r#""10""#),
    same("concurrency", Below, "0"),
    same("concurrency", Above, "10001"),
    same("ssl_verify", Type, "1"),
    same("ssl_verify", Type, r#""no""#),
    same("ssl_cert", Type, "5"),
    same("ssl_cert", Type, r#""probe.pem""#),
    same("ssl_cert", Below, r#""""#),
    row("ssl_cert", Above, r#""/" .. ("x"):rep(8192)"#, "", r#""/xxx"#),
    same("ssl_key", Type, "true"),
    row("ssl_key", Type, r#""/a\nb""#, r#""/a\nb""#, r#""/a\x0ab""#),
    same("ssl_key", Below, r#""""#),
    row("ssl_key", Above, r#""/" .. ("x"):rep(8192)"#, "", r#""/xxx"#),
    same("expect_body", Type, "5"),
    same("expect_body", Below, r#""""#),
    row("expect_body", Above, r#"("x"):rep(8193)"#, "", r#""xxxx"#),
    same("headers", Type, r#""X: y""#),
    row("headers", Type, "{ 'X' }", r#"["X"]"#, "no colon"),
    row("headers", Type, "{ X = 1 }", r#"{"X":1}"#, "headers.X: 1"),
    row("headers", Type, r#"{ "X: y\r\nZ: 1" }"#, r#"["X: y\r\nZ: 1"]"#, r#""X: y\x0d\x0aZ: 1""#),
    row("headers", Type, r#"{ ["Content-Length"] = "5" }"#, r#"{"Content-Length":"5"}"#, "has no body"),
    row("headers", Below, r#"{ ":" }"#, r#"[":"]"#, r#"":""#),
    row("headers", Above, "MANY_HEADERS", "", "more than 32 headers"),
    row("headers", Above, r#"{ X = ("x"):rep(8192) }"#, "", "more than 8192 bytes"),
    same("url", Type, "false"),
    same("url", Type, r#""up""#),
    same("url", Type, r#""/ HTTP/1.1""#),
    same("url", Below, r#""""#),
    row("url", Above, r#""/" .. ("x"):rep(8192)"#, "", r#""/xxx"#),
    same("default_down", Type, "0"),
    same("default_down", Type, r#""true""#),
    same("panic_threshold", Type, r#""50%""#),
    same("panic_threshold", Type, "0.5"),
    same("panic_threshold", Below, "-1"),
    same("panic_threshold", Above, "101"),
];

const CHECK_EXEMPT: &[Exempt] = &[
    ("type", Below, TWO_NAMES),
    ("type", Above, TWO_NAMES),
    ("ssl_verify", Below, TWO_VALUES),
    ("ssl_verify", Above, TWO_VALUES),
    ("default_down", Below, TWO_VALUES),
    ("default_down", Above, TWO_VALUES),
    ("default", Type, READ_ONLY),
    ("default", Below, READ_ONLY),
    ("default", Above, READ_ONLY),
    ("shm", Type, IGNORED),
    ("shm", Below, IGNORED),
    ("shm", Above, IGNORED),
    ("upstream", Type, MISPLACED),
    ("upstream", Below, MISPLACED),
    ("upstream", Above, MISPLACED),
];

const DELETE_ROWS: &[Row] =
    &[same("force", Type, "1"), same("force", Type, r#""true""#), row("force", Type, "{}", "{}", "{}")];

const DELETE_EXEMPT: &[Exempt] = &[("force", Below, TWO_VALUES), ("force", Above, TWO_VALUES)];

const ROUTE_ROWS: &[Row] = &[
    same("targets", Type, "5"),
    same("targets", Type, "true"),
    row("targets", Type, "{ a = 1 }", r#"{"a":1}"#, r#"{"a":1}"#),
    row("targets", Type, "print", "", "function"),
    row("targets", Type, "{ 'api' }", r#"["api"]"#, r#"]: "api""#),
    row("targets", Type, "{ { 'api' } }", r#"[["api"]]"#, r#"]: ["api"]"#),
    row("targets", Type, "{ { 5, 'api' } }", r#"[[5,"api"]]"#, r#"]: [5,"api"]"#),
    row("targets", Type, "{ { 'api', 1.5 } }", r#"[["api",1.5]]"#, ".weight: 1.5"),
    row("targets", Type, "{ { 'a b', 1 } }", r#"[["a b",1]]"#, r#"upstream "a b""#),
    row("targets", Type, "{ { 'api', 1 }, nil, { 'empty', 1 } }", "", "a list with holes"),
    row("targets", Type, "SELF", "", r#"{"self":recursive}"#),
    row("targets", Below, "{}", "[]", "0 upstreams"),
    row("targets", Below, "''", r#""""#, r#"upstream """#),
    row("targets", Below, "{ { 'api', -1 } }", r#"[["api",-1]]"#, ".weight: -1"),
    row("targets", Below, "{ { 'api', 0 } }", r#"[["api",0]]"#, "all weights are 0"),
    row("targets", Above, "{ { 'api', 65536 } }", r#"[["api",65536]]"#, ".weight: 65536"),
    row("targets", Above, "MANY", "", "262145 upstreams"),
    same("key", Type, "5"),
    same("key", Type, "true"),
    row("key", Type, "{}", "{}", "{}"),
    same("key", Type, r#""cookie_u""#),
    same("key", Type, r#""$a$b""#),
    row("key", Type, r#""$a\0""#, r#""$a\u0000""#, r#""$a\x00""#),
    same("key", Below, r#""""#),
    same("key", Below, r#""$""#),
    row("key", Above, r#""$" .. ("x"):rep(129)"#, "", r#""$xxx"#),
];

const ROUTE_EXEMPT: &[Exempt] =
    &[("origin", Type, READ_ONLY), ("origin", Below, READ_ONLY), ("origin", Above, READ_ONLY)];

const SETUP_ROWS: &[Row] = &[
    same("shm_path", Type, "5"),
    same("shm_path", Type, "true"),
    row("shm_path", Type, "{}", "{}", "{}"),
    row("shm_path", Type, r#""a\0b""#, r#""a\u0000b""#, r#""a\x00b""#),
    row("shm_path", Type, r#""a\nb""#, r#""a\nb""#, r#""a\x0ab""#),
    same("shm_path", Below, r#""""#),
    row("shm_path", Above, LONG_PATH, "", r#""xxxx"#),
    same("shm_size", Type, r#""64 m""#),
    same("shm_size", Type, r#""m""#),
    same("shm_size", Type, r#""64t""#),
    same("shm_size", Type, r#""""#),
    same("shm_size", Type, "true"),
    same("shm_size", Type, "262144.5"),
    row("shm_size", Type, "0/0", "", "nan"),
    row("shm_size", Type, "{}", "{}", "{}"),
    same("shm_size", Below, "262143"),
    same("shm_size", Below, "0"),
    same("shm_size", Below, "-1"),
    same("shm_size", Below, r#""255k""#),
    same("shm_size", Above, "4294967297"),
    same("shm_size", Above, r#""5g""#),
    same("shm_size", Above, r#""99999999999999999999g""#),
    row("shm_size", Above, "1/0", "", "inf"),
    same("stats_size", Type, r#""64 m""#),
    same("stats_size", Type, r#""m""#),
    same("stats_size", Type, r#""64t""#),
    same("stats_size", Type, r#""""#),
    same("stats_size", Type, "true"),
    same("stats_size", Type, "65536.5"),
    same("stats_size", Below, "65535"),
    same("stats_size", Below, "0"),
    same("stats_size", Below, "-1"),
    same("stats_size", Below, r#""63k""#),
    same("stats_size", Above, "17179869185"),
    same("stats_size", Above, r#""17g""#),
    row("stats_size", Type, "{}", "{}", "{}"),
    same("statistics", Type, "1"),
    same("statistics", Type, r#""true""#),
    row("statistics", Type, "{}", "{}", "{}"),
    same("files", Type, "5"),
    same("files", Type, "true"),
    row("files", Type, "{ 5 }", "[5]", "5"),
    row("files", Type, "{ a = 'b' }", r#"{"a":"b"}"#, r#"{"a":"b"}"#),
    row("files", Type, r#""a\0b""#, r#""a\u0000b""#, r#""a\x00b""#),
    row("files", Type, "{ print }", "", "function"),
    same("files", Below, r#""""#),
    row("files", Below, "{ '' }", r#"[""]"#, r#""""#),
    row("files", Above, LONG_PATH, "", r#""xxxx"#),
    same("nginx_version", Type, r#""1.22.1""#),
    same("nginx_version", Below, "0"),
    same("nginx_version", Above, "4294967296"),
    same("overwrite", Type, "1"),
    same("overwrite", Type, r#""yes""#),
    same("routes", Type, "1"),
    row("routes", Type, "{}", "{}", "{}"),
    same("healthcheck", Type, "5"),
    same("healthcheck", Type, "true"),
    row("healthcheck", Type, "{ 1 }", "[1]", "[1]"),
    same("healthcheck", Type, r#""http""#),
    row("healthcheck", Type, "{ type = 'icmp' }", r#"{"type":"icmp"}"#, r#"healthcheck.type: "icmp""#),
    row("healthcheck", Below, "{ rise = 0 }", r#"{"rise":0}"#, "healthcheck.rise: 0"),
    row("healthcheck", Above, "{ rise = 256 }", r#"{"rise":256}"#, "healthcheck.rise: 256"),
    same("admin", Type, "5"),
    same("admin", Type, "true"),
    same("admin", Type, r#""localhost""#),
    row("admin", Type, "{ 1 }", "[1]", "[1]"),
    row("admin", Type, "{ hosts = 'a' }", r#"{"hosts":"a"}"#, r#"admin.hosts: "a""#),
    row("admin", Type, "{ hosts = { 1 } }", r#"{"hosts":[1]}"#, "admin.hosts: 1"),
    row("admin", Type, "{ hosts = { 'a:80' } }", r#"{"hosts":["a:80"]}"#, r#"admin.hosts: "a:80""#),
    row("admin", Below, "{ hosts = { '' } }", r#"{"hosts":[""]}"#, r#"admin.hosts: """#),
    row("admin", Above, "{ hosts = { ('x'):rep(256) } }", "", r#"admin.hosts: "xxxx"#),
    same("prefix", Type, "5"),
    row("prefix", Type, "{}", "{}", "{}"),
    same("prefix", Below, r#""""#),
    row("prefix", Above, LONG_PATH, "", r#""xxxx"#),
];

const SETUP_EXEMPT: &[Exempt] = &[
    ("overwrite", Below, TWO_VALUES),
    ("overwrite", Above, TWO_VALUES),
    ("statistics", Below, TWO_VALUES),
    ("statistics", Above, TWO_VALUES),
    ("routes", Below, TWO_VALUES),
    ("routes", Above, TWO_VALUES),
];

/// Only in JSON.
const FILE_ROWS: &[Row] = &[
    same("upstreams", Type, "5"),
    same("upstreams", Type, "[]"),
    same("upstreams", Type, r#""x""#),
    row("upstreams", Type, "", r#"{"a":5}"#, "5"),
    row("upstreams", Type, "", r#"{"a":[]}"#, "[]"),
    row("upstreams", Type, "", "null", "not given"),
];

/// Of a file that has upstreams.
const FILE_ROUTES: &[(&str, &str)] = &[
    ("5", "routes: 5: allowed: an object"),
    ("[]", "routes: []: allowed: an object"),
    (r#"{"a":5}"#, "routes.a: 5: allowed: the name of an upstream"),
    (r#"{"a:b":"api"}"#, r#"route "a:b": allowed: a host"#),
    (r#"{"a":"api","A.":"api"}"#, "routes.A.: the same host as another one"),
    (r#"{"a":"none"}"#, "route a: upstream none: not found"),
];

const FILE_EXEMPT: &[Exempt] = &[
    ("upstreams", Below, "no upstreams are allowed"),
    ("upstreams", Above, "their number is bounded by the region, see the tests of a full one"),
    ("routes", Type, "FILE_ROUTES has them"),
    ("routes", Below, "no routes are allowed"),
    ("routes", Above, "their number is bounded by the region, see the tests of a full one"),
    ("version", Type, READ_ONLY),
    ("version", Below, READ_ONLY),
    ("version", Above, READ_ONLY),
    ("region", Type, READ_ONLY),
    ("region", Below, READ_ONLY),
    ("region", Above, READ_ONLY),
    ("workers", Type, READ_ONLY),
    ("workers", Below, READ_ONLY),
    ("workers", Above, READ_ONLY),
    ("deleted", Type, READ_ONLY),
    ("deleted", Below, READ_ONLY),
    ("deleted", Above, READ_ONLY),
    ("changed", Type, READ_ONLY),
    ("changed", Below, READ_ONLY),
    ("changed", Above, READ_ONLY),
];

/// nginx's syntax: a parameter of a `server`, its fault, and how the message shows it. `@256@` and `@8192@` stand for as many
/// bytes.
const PARAMETER_ROWS: &[(&str, Wrong, &str, &str)] = &[
    ("weight", Type, "weight=x", r#""x""#),
    ("weight", Type, "weight=", r#""""#),
    ("weight", Type, "weight=2.5", r#""2.5""#),
    ("weight", Type, "weight=+1", r#""+1""#),
    ("weight", Type, "weight=0x10", r#""0x10""#),
    ("weight", Below, "weight=-1", r#""-1""#),
    ("weight", Above, "weight=65536", r#""65536""#),
    ("weight", Above, "weight=99999999999999999999", r#""99999999999999999999""#),
    ("max_conns", Type, "max_conns=x", r#""x""#),
    ("max_conns", Below, "max_conns=-1", r#""-1""#),
    ("max_conns", Above, "max_conns=4294967296", r#""4294967296""#),
    ("max_fails", Type, "max_fails=x", r#""x""#),
    ("max_fails", Below, "max_fails=-1", r#""-1""#),
    ("max_fails", Above, "max_fails=4294967296", r#""4294967296""#),
    ("fail_timeout", Type, "fail_timeout=x", r#""x""#),
    ("fail_timeout", Type, "fail_timeout=500ms", r#""500ms""#),
    ("fail_timeout", Below, "fail_timeout=-1", r#""-1""#),
    ("fail_timeout", Above, "fail_timeout=4294967296", r#""4294967296""#),
    ("fail_timeout", Above, "fail_timeout=200y", r#""200y""#),
    ("slow_start", Type, "slow_start=x", r#""x""#),
    ("slow_start", Below, "slow_start=-1", r#""-1""#),
    ("slow_start", Above, "slow_start=4294967296", r#""4294967296""#),
    ("check_port", Type, "check_port=x", r#""x""#),
    ("check_port", Type, "check_port=", r#""""#),
    ("check_port", Type, "check_port", r#""""#),
    ("check_port", Type, "check_port=+1", r#""+1""#),
    ("check_port", Below, "check_port=0", "0"),
    ("check_port", Below, "check_port=-1", r#""-1""#),
    ("check_port", Above, "check_port=65536", "65536"),
    ("check_port", Above, "check_port=99999999999999999999", r#""99999999999999999999""#),
    ("check_url", Type, "check_url=up", r#""up""#),
    ("check_url", Type, "'check_url=/a b'", r#""/a b""#),
    ("check_url", Below, "check_url=", r#""""#),
    // In a file the word is too long before its value is: that message shows the parameter, and no value.
    ("check_url", Above, "check_url=/@8192@", "check_url"),
    ("check_host", Type, "'check_host=a b'", r#""a b""#),
    ("check_host", Below, "check_host=", r#""""#),
    ("check_host", Above, "check_host=@256@", r#""xxxx"#),
    ("backup", Type, "backup=1", r#""backup=1""#),
    ("down", Type, "down=1", r#""down=1""#),
    ("drain", Type, "drain=1", r#""drain=1""#),
    ("leaving", Type, "leaving=1", r#""leaving=1""#),
    ("check_host", Type, "check_host=a/b", r#""a/b""#),
];

const FLAG: &str = "a word without a value";
const PARAMETER_EXEMPT: &[Exempt] = &[
    ("backup", Below, FLAG),
    ("backup", Above, FLAG),
    ("down", Below, FLAG),
    ("down", Above, FLAG),
    ("drain", Below, FLAG),
    ("drain", Above, FLAG),
    ("leaving", Below, FLAG),
    ("leaving", Above, FLAG),
];

/// nginx's syntax: addresses.
const SERVER_ROWS: &[(&str, &str)] = &[
    ("server localhost;", r#""localhost""#),
    ("server 1.2.3.999;", r#""1.2.3.999""#),
    ("server ::1;", r#""::1""#),
    ("server [::1;", r#""[::1""#),
    ("server 10.0.0.1:0;", r#""10.0.0.1:0""#),
    ("server 10.0.0.1:65536;", r#""10.0.0.1:65536""#),
    ("server 10.0.0.1:x;", r#""10.0.0.1:x""#),
    ("server unix:p;", r#""unix:p""#),
    ("server \"\";", r#""""#),
    ("server 'a b';", r#""a b""#),
    ("server;", "no address"),
];

/// Everything that names a test's table and its rules.
struct List {
    name: &'static str,
    known: &'static [Field],
    rows: &'static [Row],
    exempt: &'static [Exempt],
}

const LISTS: [List; 7] = [
    List { name: "PEER", known: fields::PEER, rows: PEER_ROWS, exempt: PEER_EXEMPT },
    List { name: "UPSTREAM", known: fields::UPSTREAM, rows: UPSTREAM_ROWS, exempt: UPSTREAM_EXEMPT },
    List { name: "CHECK", known: check::CHECK, rows: CHECK_ROWS, exempt: CHECK_EXEMPT },
    List { name: "DELETE", known: fields::DELETE, rows: DELETE_ROWS, exempt: DELETE_EXEMPT },
    List { name: "ROUTE", known: fields::ROUTE, rows: ROUTE_ROWS, exempt: ROUTE_EXEMPT },
    List { name: "SETUP", known: SETUP, rows: SETUP_ROWS, exempt: SETUP_EXEMPT },
    List { name: "FILE", known: fields::FILE, rows: FILE_ROWS, exempt: FILE_EXEMPT },
];

fn names(fields: &[Field]) -> Vec<&'static str> {
    fields.iter().map(|field| field.name).collect()
}

#[test]
fn every_field_has_a_row_of_every_kind_or_a_reason_why_not() {
    let mut missing = String::new();
    for List { name, known, rows, exempt } in LISTS {
        for field in names(known) {
            for wrong in [Type, Below, Above] {
                let has = rows.iter().any(|row| row.field == field && row.wrong == wrong);
                let may_lack = exempt.iter().any(|&(other, kind, _)| other == field && kind == wrong);
                if has == may_lack {
                    let _ = writeln!(missing, "{name} {field} {wrong:?}: {}", if has { "has rows" } else { "no row" });
                }
            }
        }
        let given = rows.iter().map(|row| row.field).chain(exempt.iter().map(|exempt| exempt.0));
        for field in given.filter(|field| !names(known).contains(field)) {
            let _ = writeln!(missing, "{name} {field}: not a field any more");
        }
    }
    assert_eq!(missing, "");
}

/// A table with something in it, and the ways to it.
struct Bench {
    vm: Vm,
    /// The failures.
    bad: String,
}

/// A call's outcome: no error was thrown, the value was nil, the message, and the table is as it was to the byte.
type Outcome = (bool, bool, LuaValue, bool);

impl Bench {
    fn new() -> Bench {
        let vm = Vm::set_up();
        vm.run::<()>(
            r#"
            ffi = require "ffi"
            local text = ffi.new "dyups_text"
            function status()
                assert(C.dyups_status(nil, 0, text) == 0)
                return ffi.string(text.data, text.len)
            end
            SELF = {}
            SELF.self = SELF
            MANY = {}
            for i = 1, 262145 do MANY[i] = 0 end
            MANY_HEADERS = {}
            for i = 1, 33 do MANY_HEADERS[i] = "X: " .. i end
            assert(dyups.set_upstream("api", { method = "rr", peers = {
                { host = "10.0.0.1", port = 81, weight = 3 }, { host = "10.0.0.2", status = "drain", backup = true },
            } }))
            assert(dyups.set_upstream("empty", { peers = {} }))
            -- The check that has to go on as it is.
            assert(dyups.healthcheck("api", { url = "/up", fall = 7 }))
            -- Calls that fail: what they said, and whether the table is as before.
            function attempt(call, ...)
                local before = status()
                local done, value, message = pcall(call, ...)
                return done, value == nil, done and message or value, status() == before
            end
            -- The C ABI as a function like those of dyups.lua.
            function abi(name)
                return function(upstream, json)
                    if C["dyups_" .. name](upstream, #upstream, json, #json, 100) < 0 then
                        return nil, ffi.string(C.dyups_error())
                    end
                    return true
                end
            end
            function abi_setup(json)
                if C.dyups_setup(json, #json) < 0 then
                    return nil, ffi.string(C.dyups_error())
                end
                return true
            end
            local reply = ffi.new "dyups_reply"
            function post(path, body)
                assert(C.dyups_admin("POST", 4, path, #path, body, #body, 100, reply) == 0)
                if reply.status == 200 then
                    return true
                end
                assert(reply.status == 500 and ffi.string(reply.body.data, reply.body.len) == "add server failed")
                return nil, ffi.string(reply.error.data, reply.error.len)
            end
            "#,
        );
        Bench { vm, bad: String::new() }
    }

    /// Runs `attempt(code)` and expects a refusal whose message has all of `parts`.
    fn refuses(&mut self, code: &str, parts: &[&str]) {
        let (returned, nil, message, same): Outcome = self.vm.run(&format!("return attempt({code})"));
        let text = message.as_string().map(|text| text.to_string_lossy()).unwrap_or_default();
        let mut wrong = Vec::new();
        if !returned {
            wrong.push("it threw".to_string());
        }
        if !nil {
            wrong.push("it was not refused".to_string());
        }
        if !same {
            wrong.push("the table changed".to_string());
        }
        wrong.extend(parts.iter().filter(|part| !text.contains(**part)).map(|part| format!("no {part} in it")));
        if text.chars().any(char::is_control) || text.len() > 1000 {
            wrong.push("it is not one short line".to_string());
        }
        if !wrong.is_empty() {
            let code: String = code.chars().take(200).collect();
            let _ = writeln!(self.bad, "{code}\n    {text}\n    {}", wrong.join(", "));
        }
    }

    /// As `refuses`, for a file with this content.
    fn refuses_file(&mut self, name: &str, content: &str, parts: &[&str]) {
        let path = self.vm.scratch.write(name, content);
        self.vm.set("path", path.as_str());
        let mut all = vec![path.as_str()];
        all.extend(parts);
        self.refuses("dyups.setup, { shm_path = region, shm_size = '16m', files = path, overwrite = true }", &all);
    }

    fn end(self) {
        assert!(self.bad.is_empty(), "\n{}", self.bad);
    }
}

/// The table `{HOST, field = value}` of a peer in Lua, and the same as JSON (empty when there is none).
fn peer(row: &Row) -> (String, String) {
    let has_address = matches!(row.field, "host" | "server");
    let (lua, json) = if has_address { ("", "") } else { (r#"host = "10.0.0.1", "#, r#""host":"10.0.0.1","#) };
    let json = if row.json.is_empty() { String::new() } else { format!("{{{json}\"{}\":{}}}", row.field, row.json) };
    (format!("{{ {lua}{} = {} }}", row.field, row.lua), json)
}

fn long(text: &str) -> String {
    format!("[==[{text}]==]")
}

// One test, since the table is one a process.
#[test]
fn what_is_not_allowed_is_refused_by_name_and_changes_nothing() {
    let mut bench = Bench::new();
    known_fields(&mut bench);
    peers(&mut bench);
    upstreams(&mut bench);
    checks(&mut bench);
    deletions(&mut bench);
    routes(&mut bench);
    setups(&mut bench);
    files(&mut bench);
    nginx_syntax(&mut bench);
    upstream_names(&mut bench);
    bytes(&mut bench);
    options_of_status(&mut bench);
    nothing_throws(&mut bench);
    still_works(&bench);
    bench.end();
}

/// The library itself lists the fields that it knows; each of these names, misspelt, is not known.
fn known_fields(bench: &mut Bench) {
    for List { name, known, .. } in LISTS {
        let all = fields::known(known);
        for field in names(known) {
            for typo in [format!("{field}x"), field[1..].to_string(), field.to_uppercase()] {
                let parts = [typo.as_str(), "not known to this version; known: ", all.as_str()];
                let (lua, json) = (format!("{{ ['{typo}'] = 1 }}"), format!("{{\"{typo}\":1}}"));
                match name {
                    "PEER" => {
                        for call in ["add_peer", "set_peer", "delete_peer"] {
                            bench.refuses(&format!("dyups.{call}, 'api', {lua}"), &parts);
                            bench.refuses(&format!("abi '{call}', 'api', {}", long(&json)), &parts);
                        }
                        bench.refuses(&format!("dyups.set_upstream, 'api', {{ peers = {{ {lua} }} }}"), &parts);
                    }
                    "UPSTREAM" => bench.refuses(&format!("dyups.set_upstream, 'api', {lua}"), &parts),
                    "CHECK" => {
                        bench.refuses(&format!("dyups.healthcheck, 'api', {lua}"), &parts);
                        bench.refuses(&format!("abi 'healthcheck', 'api', {}", long(&json)), &parts);
                        bench.refuses(
                            &format!("dyups.set_upstream, 'api', {{ peers = {{}}, healthcheck = {lua} }}"),
                            &parts,
                        );
                    }
                    "DELETE" => bench.refuses(&format!("dyups.delete_upstream, 'api', {lua}"), &parts),
                    "ROUTE" => {
                        bench.refuses(&format!("dyups.set_route, 'www', 'api', {lua}"), &parts);
                        bench.refuses(&format!("abi 'set_route', 'www', {}", long(&json)), &parts);
                    }
                    "SETUP" => bench.refuses(&format!("dyups.setup, {lua}"), &parts),
                    _ => bench.refuses_file("typo.json", &json, &parts),
                }
            }
        }
    }
}

fn peers(bench: &mut Bench) {
    for row in PEER_ROWS {
        let (lua, json) = peer(row);
        let parts = [row.field, row.shown, "allowed"];
        let is_address = matches!(row.field, "host" | "port" | "server");
        for call in ["add_peer", "set_peer", "delete_peer"] {
            if call == "delete_peer" && !is_address {
                continue;
            }
            bench.refuses(&format!("dyups.{call}, 'api', {lua}"), &parts);
            bench.refuses(&format!("dyups.{call}, 'new', {lua}"), &parts);
            if !json.is_empty() {
                bench.refuses(&format!("abi '{call}', 'api', {}", long(&json)), &parts);
            }
        }
        let good = "{ host = '10.9.9.9' }";
        bench.refuses(&format!("dyups.set_upstream, 'api', {{ peers = {{ {good}, {lua} }} }}"), &parts);
        if !json.is_empty() {
            let upstream = format!("{{\"peers\":[{{\"host\":\"10.9.9.9\"}},{json}]}}");
            bench.refuses(&format!("abi 'set_upstream', 'api', {}", long(&upstream)), &parts);
            let file = format!("{{\"upstreams\":{{\"a\":{{\"peers\":[]}},\"api\":{upstream}}}}}");
            let at = format!("upstreams.api.peers[1].{}", row.field);
            bench.refuses_file("peer.json", &file, &[at.as_str(), row.shown, "allowed"]);
        }
    }
    bench.refuses("dyups.add_peer, 'api', {}", &["host", "not given", "allowed"]);
    bench.refuses("dyups.add_peer, 'api', { port = 80 }", &["host", "not given", "allowed"]);
    bench.refuses(
        "dyups.add_peer, 'api', { host = '10.0.0.1', server = '10.0.0.2' }",
        &["server", r#""10.0.0.2""#, "allowed"],
    );
    bench.refuses("dyups.add_peer, 'api', { host = 'unix:/p', port = 80 }", &["host", r#""unix:/p""#, "allowed"]);
}

fn upstreams(bench: &mut Bench) {
    for row in UPSTREAM_ROWS {
        let parts = [row.field, row.shown, "allowed"];
        let rest = if row.field == "peers" { "" } else { "peers = {}, " };
        bench.refuses(&format!("dyups.set_upstream, 'api', {{ {rest}{} = {} }}", row.field, row.lua), &parts);
        if !row.json.is_empty() {
            let rest = if row.field == "peers" { "" } else { "\"peers\":[]," };
            let json = format!("{{{rest}\"{}\":{}}}", row.field, row.json);
            bench.refuses(&format!("abi 'set_upstream', 'api', {}", long(&json)), &parts);
            bench.refuses_file("upstream.json", &format!("{{\"upstreams\":{{\"api\":{json}}}}}"), &parts);
        }
    }
    bench.refuses("dyups.set_upstream, 'api', {}", &["peers", "not given", "allowed"]);
    bench.refuses(
        "dyups.set_upstream, 'api', { peers = { { host = '10.0.0.1' }, { server = '10.0.0.1:80' } } }",
        &["peers[2]", "10.0.0.1:80", "the same address as upstream.peers[1]"],
    );
}

fn checks(bench: &mut Bench) {
    for row in CHECK_ROWS {
        let parts = [row.field, row.shown, "allowed"];
        let kind = match row.field {
            "type" => "",
            "send" | "expect" => "tcp",
            "ssl_verify" | "ssl_cert" | "ssl_key" => "https",
            _ => "http",
        };
        let lua_kind = if kind.is_empty() { String::new() } else { format!("type = '{kind}', ") };
        let lua = format!("{{ {lua_kind}{} = {} }}", row.field, row.lua);
        bench.refuses(&format!("dyups.healthcheck, 'api', {lua}"), &parts);
        bench.refuses(&format!("dyups.healthcheck, 'empty', {lua}"), &parts);
        bench.refuses(&format!("dyups.set_upstream, 'api', {{ peers = {{}}, healthcheck = {lua} }}"), &parts);
        if !row.json.is_empty() {
            let kind = if kind.is_empty() { String::new() } else { format!("\"type\":\"{kind}\",") };
            let json = format!("{{{kind}\"{}\":{}}}", row.field, row.json);
            bench.refuses(&format!("abi 'healthcheck', 'api', {}", long(&json)), &parts);
            let file = format!("{{\"upstreams\":{{\"api\":{{\"peers\":[],\"healthcheck\":{json}}}}}}}");
            let at = format!("upstreams.api.healthcheck.{}", row.field);
            bench.refuses_file("check.json", &file, &[at.as_str(), row.shown, "allowed"]);
        }
    }
    for (value, shown) in
        [("nil", "null"), ("true", "true"), ("5", "5"), ("'http'", r#""http""#), ("print", "function")]
    {
        bench.refuses(&format!("dyups.healthcheck, 'api', {value}"), &["healthcheck", shown, "allowed: an object"]);
    }
    bench.refuses("dyups.healthcheck, 'none', {}", &["upstream none: not found"]);
    bench.refuses("dyups.healthcheck, 'api', { upstream = 'api' }", &["healthcheck.upstream", "the first argument"]);
    // Options of one type alone, and options that replace another one.
    for (lua, option) in [
        ("{ type = 'tcp', url = '/' }", "url"),
        ("{ type = 'tcp', valid_statuses = { 200 } }", "valid_statuses"),
        ("{ send = 'PING' }", "send"),
        ("{ ssl_verify = false }", "ssl_verify"),
        ("{ http_req = 'GET / HTTP/1.0\\r\\n\\r\\n', headers = { 'X: y' } }", "headers"),
    ] {
        bench.refuses(&format!("dyups.healthcheck, 'api', {lua}"), &[option, "makes no sense with", "allowed"]);
    }
}

fn deletions(bench: &mut Bench) {
    for row in DELETE_ROWS {
        let parts = [row.field, row.shown, "allowed"];
        bench.refuses(&format!("dyups.delete_upstream, 'api', {{ {} = {} }}", row.field, row.lua), &parts);
        let json = format!("{{\"{}\":{}}}", row.field, row.json);
        bench.refuses(&format!("abi 'delete_upstream', 'api', {}", long(&json)), &parts);
    }
}

fn routes(bench: &mut Bench) {
    for row in ROUTE_ROWS {
        let parts = [row.field, row.shown, "allowed"];
        let (lua, rest) = match row.field {
            "targets" => (row.lua.to_string(), ""),
            field => (format!("'api', {{ {field} = {} }}", row.lua), r#""targets":"api","#),
        };
        bench.refuses(&format!("dyups.set_route, 'www', {lua}"), &parts);
        if !row.json.is_empty() {
            let json = format!("{{{rest}\"{}\":{}}}", row.field, row.json);
            bench.refuses(&format!("abi 'set_route', 'www', {}", long(&json)), &parts);
            let file = format!("{{\"upstreams\":{{\"api\":{{\"peers\":[]}}}},\"routes\":{{\"www\":{json}}}}}");
            bench.refuses_file("route.json", &file, &["routes.www", row.field, row.shown, "allowed"]);
        }
    }
    bench.refuses("dyups.set_route, 'www', nil", &["route.targets", "not given", "allowed"]);
    bench.refuses("dyups.set_route, 'www', 'none'", &["route www: upstream none: not found"]);
    let twice = "dyups.set_route, 'www', { { 'api', 1 }, { 'api', 2 } }";
    bench.refuses(twice, &["route.targets: upstream api: it is there twice"]);
    bench.refuses("dyups.set_route, 'www', 'api', 5", &["options", "a number", "allowed: a table"]);
    bench.refuses("dyups.delete_route, 'www'", &["route www: not found"]);
    bench.refuses("dyups.delete_route, 'www', { force = true }", &["options.force", "not known to this version"]);
    for (host, shown) in [
        ("''", r#"route """#),
        ("'a b'", r#"route "a b""#),
        ("'*'", r#"route "*""#),
        ("'a.*.b'", r#"route "a.*.b""#),
        ("'a:0'", r#"route "a:0""#),
        ("'\\255'", r#"route "\xff""#),
        ("('x'):rep(256)", r#"route "xxxx"#),
        ("nil", "host: a nil"),
        ("5", "host: 5"),
    ] {
        bench.refuses(&format!("dyups.set_route, {host}, 'api'"), &[shown, "allowed"]);
        bench.refuses(&format!("dyups.delete_route, {host}"), &[shown, "allowed"]);
    }
    bench.refuses("dyups.route, nil", &["host: a nil", "allowed: a string"]);
    bench.refuses("dyups.route, 'www', 5", &["key: 5", "allowed: a string"]);
    bench.refuses("dyups.route, 'www'", &["not found"]);
}

fn setups(bench: &mut Bench) {
    for row in SETUP_ROWS {
        let parts = [row.field, row.shown, "allowed"];
        bench.refuses(&format!("dyups.setup, {{ {} = {} }}", row.field, row.lua), &parts);
        if !row.json.is_empty() {
            let json = format!("{{\"{}\":{}}}", row.field, row.json);
            bench.refuses(&format!("abi_setup, {}", long(&json)), &parts);
        }
    }
}

fn files(bench: &mut Bench) {
    for row in FILE_ROWS {
        let json = format!("{{\"{}\":{}}}", row.field, row.json);
        bench.refuses_file("file.json", &json, &[row.field, row.shown, "allowed"]);
    }
    for (routes, said) in FILE_ROUTES {
        let json = format!("{{\"upstreams\":{{\"api\":{{\"peers\":[]}}}},\"routes\":{routes}}}");
        let path = bench.vm.scratch.write("routes.json", &json);
        bench.vm.set("path", path.as_str());
        bench.refuses("dyups.setup, { shm_path = region, shm_size = '16m', files = path }", &[said]);
    }
    for (content, said) in [
        ("{", "not JSON"),
        ("{}", "upstreams: not given"),
        (r#"{"upstreams":{}"#, "not JSON: EOF while parsing an object at line 1"),
        ("{\"upstreams\":\n{\"a\":{\"peers\":[{\"host\":\"10.0.0.1\"", "at line 2 column"),
        (r#"{"upstreams":{"a":{"peers":[]},"a":{"peers":[]}}}"#, r#"key "a" is there twice"#),
        (r#"{"upstreams":{"a b":{"peers":[]}}}"#, r#"upstream "a b": allowed"#),
        (r#"{"upstreams":{"a|b":{"peers":[]}}}"#, r#"upstream "a|b": allowed"#),
        (r#"{"upstreams":{"a\u0000":{"peers":[]}}}"#, r#"upstream "a\x00": allowed"#),
        ("[]", "broken:1: "),
        ("\u{feff}[]", "broken:1: "),
        ("\0", "broken:1: "),
    ] {
        bench.refuses_file("broken", content, &[said]);
    }
}

fn nginx_syntax(bench: &mut Bench) {
    // The library itself lists the parameters of a `server`.
    let message: String = bench.vm.run("return select(2, post('/upstream/api', 'server 10.0.0.1 x=1;'))");
    let known = message.split("known: ").nth(1).expect("the known parameters");
    for parameter in known.split(", ").map(|name| name.trim_end_matches('=')) {
        for wrong in [Type, Below, Above] {
            let has = PARAMETER_ROWS.iter().any(|row| row.0 == parameter && row.1 == wrong);
            let exempt = PARAMETER_EXEMPT.iter().any(|exempt| exempt.0 == parameter && exempt.1 == wrong);
            assert!(
                has != exempt,
                "server parameter {parameter}, {wrong:?}: no row in PARAMETER_ROWS, or one too many"
            );
        }
        let typo = format!("x{parameter}=1");
        let text = format!("server 10.0.0.1 {typo};");
        refuses_text(bench, &text, &[&typo, "known: ", known]);
    }
    for (parameter, _, text, shown) in PARAMETER_ROWS {
        let text = text.replace("@256@", &"x".repeat(256)).replace("@8192@", &"x".repeat(8192));
        let allowed = if text.ends_with("=1") && !text.starts_with("weight") { "known" } else { "allowed" };
        refuses_text(bench, &format!("server 10.0.0.1 {text};"), &[parameter, shown, allowed]);
    }
    for (text, shown) in SERVER_ROWS {
        refuses_text(bench, text, &["server", shown, "allowed"]);
    }
    for text in
        ["server 10.0.0.1", "server 10.0.0.1; }", "server 10.0.0.1; {", "server \"10.0.0.1;", "}", "x;", ";", "\\"]
    {
        refuses_text(bench, text, &[]);
    }
}

/// Through HTTP and in a file, alone and behind a good line.
fn refuses_text(bench: &mut Bench, text: &str, parts: &[&str]) {
    bench.refuses(&format!("post, '/upstream/api', {}", long(text)), &[parts, &["body:1: "]].concat());
    bench.refuses(
        &format!("post, '/upstream/new', 'server 10.9.9.9;\\n' .. {}", long(text)),
        &[parts, &["body:"]].concat(),
    );
    bench.refuses_file("u.conf", &format!("upstream api {{\n{text}\n}}\n"), &[parts, &["u.conf:"]].concat());
}

fn upstream_names(bench: &mut Bench) {
    // A Lua expression, and how the message shows it.
    let names = [
        ("''", r#""""#),
        ("'a b'", r#""a b""#),
        ("'a/b'", r#""a/b""#),
        ("'a|b'", r#""a|b""#),
        ("'a\\nb'", r#""a\x0ab""#),
        ("'a\\0b'", r#""a\x00b""#),
        ("'\\127'", r#""\x7f""#),
        ("'\\255\\254'", r#""\xff\xfe""#),
        ("'a%2fb'", r#""a%2fb""#),
        ("'a%2Fb'", r#""a%2Fb""#),
        ("'a%0ab'", r#""a%0ab""#),
        ("'a%00b'", r#""a%00b""#),
        ("'a%20b'", r#""a%20b""#),
        ("'a%7cb'", r#""a%7cb""#),
        ("('x'):rep(256)", r#""xxxx"#),
        ("('x'):rep(10000000)", r#""xxxx"#),
    ];
    let calls = ["add_peer", "set_peer", "delete_peer", "set_upstream", "delete_upstream", "healthcheck"];
    let argument = |call: &str| {
        if call.ends_with("peer") {
            "{ host = '10.0.0.1' }"
        } else if call == "set_upstream" {
            "{ peers = {} }"
        } else {
            "{ force = true }"
        }
    };
    for (name, shown) in names {
        for call in calls {
            bench.refuses(&format!("dyups.{call}, {name}, {}", argument(call)), &["upstream", shown, "allowed"]);
        }
        for call in ["find", "status"] {
            bench.refuses(&format!("dyups.{call}, {name}"), &["upstream", shown, "allowed"]);
        }
    }
    for (value, shown) in [
        ("nil", "nil"),
        ("5", "5"),
        ("0/0", "nan"),
        ("true", "boolean"),
        ("{}", "table"),
        ("print", "function"),
        ("newproxy()", "userdata"),
        ("ffi.new('int', 1)", "cdata"),
    ] {
        for call in calls {
            bench.refuses(
                &format!("dyups.{call}, {value}, {}", argument(call)),
                &["upstream", shown, "allowed: a string"],
            );
        }
        bench.refuses(&format!("dyups.find, {value}"), &["upstream", shown, "allowed: a string"]);
        if value != "nil" {
            // A table alone is its options.
            if shown != "table" {
                bench.refuses(&format!("dyups.status, {value}"), &["upstream", shown, "allowed: a string"]);
                bench.refuses(&format!("dyups.status, 'api', {value}"), &["options", "allowed: an object"]);
            }
            bench.refuses(&format!("dyups.find, 'api', {value}"), &["key", shown, "allowed: a string"]);
            bench.refuses(&format!("dyups.find, 'api', nil, {value}"), &["method", shown, "allowed: a string"]);
            if shown != "cdata" {
                bench.refuses(&format!("dyups.find, 'api', nil, nil, {value}"), &["tried", "allowed"]);
            }
        }
    }
}

/// Options of what operators read.
fn options_of_status(bench: &mut Bench) {
    for (options, field, shown) in
        [("{ stats = 1 }", "stats", "1"), ("{ stats = 'yes' }", "stats", "yes"), ("{ stat = true }", "stat", "known")]
    {
        for arguments in [options.to_owned(), format!("'api', {options}")] {
            bench.refuses(&format!("dyups.status, {arguments}"), &[&format!("options.{field}"), shown]);
        }
    }
}

/// Whole arguments that are bad: empty, too long, cut, of another type, not text.
fn bytes(bench: &mut Bench) {
    let calls = ["add_peer", "set_peer", "delete_peer", "set_upstream"];
    for call in calls {
        let what = if call == "set_upstream" { "upstream" } else { "peer" };
        for (value, shown) in [
            ("nil", "null"),
            ("5", "5"),
            ("0/0", "nan"),
            ("'x'", r#""x""#),
            ("true", "true"),
            ("{ 1, 2 }", "[1,2]"),
            ("{ [1] = 1, [3] = 3, x = 1 }", "mixed"),
            ("{ [true] = 1 }", "mixed"),
            ("{ [0.5] = 1 }", "mixed"),
            ("print", "function"),
            ("newproxy(true)", "userdata"),
            ("coroutine.create(print)", "thread"),
        ] {
            bench.refuses(&format!("dyups.{call}, 'api', {value}"), &[what, shown, "allowed: an object"]);
        }
        for json in [
            "''",
            "' '",
            "'{'",
            "'{\"host\":\"10.0.0.1\"'",
            "'{\"host\":\"10.0.0.1\"}}'",
            "'{\"host\":\"10.0.0.1\",\"host\":\"10.0.0.1\"}'",
            "'\\0'",
            "'\\255'",
            "'{\"weight\":NaN}'",
            "'{\"weight\":01}'",
            "('['):rep(100000)",
            "('{\"a\":'):rep(100000)",
            "('x'):rep(10000000)",
            "('[' .. ('1,'):rep(5000000) .. '1]')",
        ] {
            bench.refuses(&format!("abi '{call}', 'api', {json}"), &["JSON"]);
        }
    }
    // Tables that are small and would be endless as text.
    bench.vm.run::<()>(
        r#"
        TWICE = {}
        TWICE.a, TWICE.b = TWICE, TWICE
        WIDE = {}
        for _ = 1, 40 do WIDE = { WIDE, WIDE } end
        DEEP = {}
        for _ = 1, 1000 do DEEP = { host = DEEP } end
        "#,
    );
    for value in ["TWICE", "DEEP"] {
        bench.refuses(&format!("dyups.add_peer, 'api', {{ host = {value} }}"), &["host", "allowed"]);
    }
    bench.refuses("dyups.add_peer, 'api', { host = WIDE }", &["more values than", "allowed"]);
    bench.refuses("post, '/upstream/api', ('x'):rep(10000000)", &["body:1"]);
    bench.refuses("post, '/upstream/api', ('server 10.0.0.1;\\n'):rep(500000)", &["body:262145: server: allowed"]);
    bench.refuses(
        "post, '/upstream/api', ('server 10.0.0.1;\\n'):rep(200000)",
        &["body:65536: weight: 65536 with that on line 1"],
    );
    bench.refuses("post, '/upstream/api', ('\\0'):rep(1000)", &["body:1"]);
    bench.refuses("post, '/upstream/api', ('\\255'):rep(1000) .. ';'", &["body:1"]);
    bench.refuses("post, '/upstream/api', ('{'):rep(1000000)", &["body:1"]);
    bench.refuses("post, '/upstream/a b', 'server 10.0.0.1;'", &[r#"upstream "a b": allowed"#]);
    bench.refuses("abi 'add_peer', 'api', (' '):rep(67108865)", &["peer: 67108865 bytes: allowed: at most 67108864"]);
}

/// Every function with every combination of strange arguments answers, and with nil and a text when it does not agree.
fn nothing_throws(bench: &mut Bench) {
    let wrong: Vec<String> = bench.vm.run(
        r##"
        local hostile = setmetatable({}, {
            __index = error, __newindex = error, __len = error, __pairs = error, __ipairs = error, __tostring = error,
            __call = error, __eq = error, __concat = error, __gc = error, __mode = "k",
        })
        local values = {
            nil, false, 5, 0 / 0, -1 / 0, "", "api", "a b", "rr", {}, { 1 }, { {} }, { host = {} }, { peers = { {} } }, print,
            coroutine.create(print), newproxy(true), ffi.new("int", 1), ffi.new("dyups_text"), SELF, hostile,
            dyups.tried(),
        }
        local n = 22
        local wrong = {}
        local before = status()
        local function try(name, ...)
            local done, value, message = pcall(dyups[name], ...)
            if not done or value == nil and (type(message) ~= "string" or message == "" or #message > 1000) then
                local shown = {}
                for i = 1, select("#", ...) do
                    local value = select(i, ...)
                    shown[i] = value == hostile and "hostile" or tostring(value)
                end
                wrong[#wrong + 1] = name .. "(" .. table.concat(shown, ", ") .. "): " .. tostring(done and message or value)
            end
        end
        -- Calls that are right, and change the table.
        local function switches(name, upstream, options)
            local empty = type(options) == "table" and next(options) == nil
            return name == "healthcheck" and upstream == "api" and (options == false or empty)
                or name == "set_route" and options == "api"
        end
        for name, call in pairs(dyups) do
            if type(call) == "function" then
                try(name)
                for a = 1, n do
                    try(name, values[a])
                    for b = 1, n do
                        if not switches(name, values[a], values[b]) then
                            try(name, values[a], values[b])
                        end
                    end
                end
            end
        end
        for _, upstream in ipairs { "api", "empty", "nope" } do
            for a = 1, n do
                for b = 1, n do
                    for c = 1, n do
                        try("find", upstream, values[a], values[b], values[c])
                    end
                end
            end
        end
        -- set_upstream("rr", { 1 }) and the like must not have passed.
        if status() ~= before then
            wrong[#wrong + 1] = "the table changed: " .. status()
        end
        return wrong
        "##,
    );
    if !wrong.is_empty() {
        let _ = writeln!(bench.bad, "{} calls, such as\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    }
}

/// After all that, good input is taken.
fn still_works(bench: &Bench) {
    let found: String = bench.vm.run(
        r#"
        assert(dyups.add_peer("after", { host = "10.0.0.7", port = 8080, weight = 65535, max_conns = 4294967295 }))
        return assert(dyups.find("after"))
        "#,
    );
    assert_eq!(found, "10.0.0.7:8080");
}
