//! Lines of upstream blocks, and whole texts, for which dyups and nginx are compared, with all their differences. docs/files.md
//! has a line for each difference.

use dyups::version::NginxVersion;

/// How dyups and nginx differ about a text. The texts are the beginnings of lines in docs/files.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differs {
    /// Both take it, or both refuse it.
    Never,
    /// dyups takes it; nginx does from this version on.
    DyupsTakes(&'static str, Option<NginxVersion>),
    /// nginx takes it, from this version on; dyups does not.
    NginxTakes(&'static str, Option<NginxVersion>),
}
use Differs::{DyupsTakes, Never, NginxTakes};

const RESOLVES: Option<NginxVersion> = Some(NginxVersion::new(1, 27, 3));
const STICKS: Option<NginxVersion> = Some(NginxVersion::new(1, 29, 6));

const OWN: Differs =
    DyupsTakes("`check`, `check_http_send`, `check_http_expect_alive`, `method` and `hash_id` lines", None);
const OWN_WORDS: Differs = DyupsTakes("`check_port=`, `check_url=` and `leaving` of a server", None);
const BACKUP: Differs = DyupsTakes("a `backup` behind `hash`, `ip_hash` or `random`", None);
const ONLY_BACKUPS: Differs = DyupsTakes("an upstream of backups alone", None);
const DRAIN: Differs = DyupsTakes("`drain`, which nginx takes", STICKS);
const SLOW_START: Differs = DyupsTakes("`slow_start=`", None);
const NO_WEIGHT: Differs = DyupsTakes("`weight=0`", None);
const ZONE: Differs = DyupsTakes("`zone NAME` without a size", None);
const VARIABLE: Differs = DyupsTakes("`hash KEY consistent` with a variable that is not there", None);
const CASE: Differs = DyupsTakes("two upstreams whose names differ in upper and lower case alone", None);
const MARK: Differs = DyupsTakes("a byte order mark", None);

const HASH: Differs = NginxTakes("`hash KEY` without `consistent`", None);
const STICKY: Differs = NginxTakes("`sticky`, `route=`, `resolve`", STICKS);
const RESOLVE: Differs = NginxTakes("`sticky`, `route=`, `resolve`", RESOLVES);
const NAME: Differs = NginxTakes("a name in place of an address", None);
const FORM: Differs = NginxTakes("an address in a form that nginx alone reads", None);
const UNIX: Differs = NginxTakes("`unix:` with a path that does not begin with `/`", None);
const LARGE: Differs = NginxTakes("`weight` above 65535", None);
const BOTH: Differs = NginxTakes("`down` and `drain` of one server", STICKS);
const WORDS: Differs = NginxTakes("a directive of more than 64 words", None);
const UPSTREAM: Differs = NginxTakes("an upstream whose name dyups does not take", None);
const OUTSIDE: Differs = NginxTakes("outside of blocks, anything but `upstream` and `include`", None);

const MANY_WORDS: &str = "server 10.0.0.1 down down down down down down down down down down down down down down down \
    down down down down down down down down down down down down down down down down down down down down down down down \
    down down down down down down down down down down down down down down down down down down down down down down down \
    down down down down down down;";

const LONG_PATH: &str = "server unix:/5678901234567890123456789012345678901234567890123456789012345678901234567890123456789\
    012345678901234567;";
const TOO_LONG_PATH: &str = "server unix:/567890123456789012345678901234567890123456789012345678901234567890123456789012345\
    67890123456789012345678;";

/// Lines that stand behind `server 10.0.0.9;` in a block.
pub const LINES: &[(&str, Differs)] = &[
    // Addresses.
    ("server 10.0.0.1;", Never),
    ("server 10.0.0.1:8080;", Never),
    ("server 10.0.0.9;", Never),
    ("server 10.0.0.9:80;", Never),
    ("server 0.0.0.0;", Never),
    ("server 255.255.255.254:65535;", Never),
    ("server 10.0.0.1:65536;", Never),
    ("server 10.0.0.1:0;", Never),
    ("server 10.0.0.1:;", Never),
    ("server 10.0.0.1:x;", Never),
    ("server 10.0.0.1:80-90;", Never),
    ("server 10.0.0.1:+80;", Never),
    ("server 10.0.0.1:99999999999999999999;", Never),
    ("server 10.0.0.1:80:80;", Never),
    ("server 10.0.0.1/x;", Never),
    ("server :80;", Never),
    ("server '';", Never),
    ("server;", Never),
    ("server [::1];", Never),
    ("server [::1]:8080;", Never),
    ("server [::];", Never),
    ("server [2001:db8::A:0001];", Never),
    ("server [::ffff:10.0.0.1]:80;", Never),
    ("server [1:2:3:4:5:6:7:8];", Never),
    ("server [1:2:3:4:5:6:7:8:9];", Never),
    ("server [1:2:3:4:5:6:7];", Never),
    ("server [1::2::3];", Never),
    ("server [12345::];", Never),
    ("server [g::];", Never),
    ("server [::1%lo];", Never),
    ("server [];", Never),
    ("server [::1;", Never),
    ("server [::1]80;", Never),
    ("server [::1]:0;", Never),
    ("server unix:/run/a.sock;", Never),
    ("server unix:/a:b;", Never),
    ("server \"unix:/run/a b;c\";", Never),
    (LONG_PATH, Never),
    (TOO_LONG_PATH, Never),
    ("server unix:;", Never),
    ("server unix:run/a.sock;", UNIX),
    ("server UNIX:/run/a.sock;", UNIX),
    ("server localhost;", NAME),
    ("server localhost:8080;", NAME),
    ("server 127.1;", FORM),
    ("server 0x7f.1;", FORM),
    ("server 127.0.0.;", FORM),
    ("server 127.000.000.001;", FORM),
    ("server 10.0.0.1:0080;", FORM),
    ("server [::1]:0080;", FORM),
    ("server [:1:2:3:4:5:6:7:8];", FORM),
    ("server [1::2:];", FORM),
    // Parameters.
    ("server 10.0.0.1 weight=1;", Never),
    ("server 10.0.0.1 weight=65535;", Never),
    ("server 10.0.0.1 weight=007;", Never),
    ("server 10.0.0.1 weight=2 weight=3;", Never),
    ("server 10.0.0.1 weight=;", Never),
    ("server 10.0.0.1 weight=-1;", Never),
    ("server 10.0.0.1 weight=+1;", Never),
    ("server 10.0.0.1 weight=1.5;", Never),
    ("server 10.0.0.1 weight=1k;", Never),
    ("server 10.0.0.1 weight=99999999999999999999;", Never),
    ("server 10.0.0.1 weight;", Never),
    ("server 10.0.0.1 WEIGHT=1;", Never),
    ("server 10.0.0.1 weight = 1;", Never),
    ("server 10.0.0.1 weight=0;", NO_WEIGHT),
    ("server 10.0.0.1 weight=65536;", LARGE),
    ("server 10.0.0.9 weight=65535;", LARGE),
    ("server 10.0.0.1 max_conns=0;", Never),
    ("server 10.0.0.1 max_conns=4294967295;", Never),
    ("server 10.0.0.1 max_conns=;", Never),
    ("server 10.0.0.1 max_conns=-1;", Never),
    ("server 10.0.0.1 max_conns=4294967296;", LARGE),
    ("server 10.0.0.1 max_fails=0;", Never),
    ("server 10.0.0.1 max_fails=x;", Never),
    ("server 10.0.0.1 max_fails=4294967296;", LARGE),
    ("server 10.0.0.1 fail_timeout=0;", Never),
    ("server 10.0.0.1 fail_timeout=30s;", Never),
    ("server 10.0.0.1 fail_timeout=1h30m;", Never),
    ("server 10.0.0.1 'fail_timeout=1h 30m';", Never),
    ("server 10.0.0.1 'fail_timeout=1 30';", Never),
    ("server 10.0.0.1 fail_timeout=1y1M1w1d1h1m1s;", Never),
    ("server 10.0.0.1 fail_timeout=;", Never),
    ("server 10.0.0.1 fail_timeout=s;", Never),
    ("server 10.0.0.1 fail_timeout=500ms;", Never),
    ("server 10.0.0.1 fail_timeout=1m1h;", Never),
    ("server 10.0.0.1 fail_timeout=1s1s;", Never),
    ("server 10.0.0.1 fail_timeout=1.5s;", Never),
    ("server 10.0.0.1 fail_timeout=10S;", Never),
    ("server 10.0.0.1 fail_timeout=136y;", Never),
    ("server 10.0.0.1 fail_timeout=137y;", LARGE),
    ("server 10.0.0.1 fail_timeout=99999999999999999999;", Never),
    ("server 10.0.0.1 backup;", Never),
    ("server 10.0.0.9 backup;", Never),
    ("server 10.0.0.1 backup=1;", Never),
    ("server 10.0.0.1 down;", Never),
    ("server 10.0.0.1 down down;", Never),
    ("server 10.0.0.1 down=1;", Never),
    ("server 10.0.0.1 up;", Never),
    ("server 10.0.0.1 wieght=1;", Never),
    ("server 10.0.0.1 '';", Never),
    ("server 10.0.0.1 weight=2 max_conns=3 max_fails=4 fail_timeout=5 backup down;", Never),
    (MANY_WORDS, WORDS),
    ("server 10.0.0.1 drain;", DRAIN),
    ("server 10.0.0.1 down drain;", BOTH),
    ("server 10.0.0.1 slow_start=30s;", SLOW_START),
    ("server 10.0.0.1 slow_start=x;", Never),
    ("server 10.0.0.1 check_port=81;", OWN_WORDS),
    ("server 10.0.0.1 check_url=/up;", OWN_WORDS),
    ("server 10.0.0.1 route=a;", STICKY),
    ("server 10.0.0.1 resolve;", RESOLVE),
    ("server 10.0.0.1 service=http;", Never),
    ("server 10.0.0.1 { }", Never),
    ("server 10.0.0.1", Never),
    ("server 10.0.0.1 server 10.0.0.2;", Never),
    ("server 10.0.0.1 ip_hash;", Never),
    ("Server 10.0.0.1;", Never),
    ("'server' \"10.0.0.1\" 'weight=2';", Never),
    ("server 10.0.0.1 weight=2\"\";", Never),
    ("server 10.0.0.1 \"down\"x;", Never),
    ("server 10.0.0.1 \"down\");", Never),
    // Methods.
    ("least_conn;", Never),
    ("least_conn; least_conn;", Never),
    ("least_conn; ip_hash; random;", Never),
    ("least_conn; server 10.0.0.1 backup;", Never),
    ("least_conn 5;", Never),
    ("least_conn { }", Never),
    ("ip_hash;", Never),
    ("ip_hash on;", Never),
    ("server 10.0.0.1 backup; ip_hash;", Never),
    ("ip_hash; server 10.0.0.1 weight=2 max_conns=3 max_fails=4 fail_timeout=5 down;", Never),
    ("ip_hash; server 10.0.0.1 backup;", BACKUP),
    ("random;", Never),
    ("random two;", Never),
    ("random two least_conn;", Never),
    ("random three;", Never),
    ("random two least_conn x;", Never),
    ("random two least_time=header;", Never),
    ("random; server 10.0.0.1 backup;", BACKUP),
    ("least_time header;", NginxTakes("`sticky`, `route=`, `resolve`", Some(NginxVersion::new(1, 31, 0)))),
    ("hash $uri consistent;", Never),
    ("hash a${uri}-$host$1 consistent;", Never),
    ("hash '' consistent;", Never),
    ("hash plain consistent;", Never),
    ("hash \"$uri {};\" consistent;", Never),
    ("hash $uri consistent x;", Never),
    ("hash $uri constant;", Never),
    ("hash;", Never),
    ("hash $ consistent;", Never),
    ("hash a$ consistent;", Never),
    ("hash $$uri consistent;", Never),
    ("hash ${} consistent;", Never),
    ("hash ${uri consistent;", Never),
    ("hash \"${uri-}\" consistent;", Never),
    ("hash $-uri consistent;", Never),
    ("hash $no_such consistent;", VARIABLE),
    ("hash $uri;", HASH),
    ("hash $uri consistent; server 10.0.0.1 backup;", BACKUP),
    ("sticky cookie a;", STICKY),
    ("sticky;", Never),
    // Lines for nginx itself.
    ("keepalive 16;", Never),
    ("keepalive 0;", Never),
    ("keepalive 16 local;", Never),
    ("keepalive 0 local;", Never),
    ("keepalive 16 single;", Never),
    ("keepalive 16 local local;", Never),
    ("keepalive;", Never),
    ("keepalive -1;", Never),
    ("keepalive x;", Never),
    ("keepalive 1k;", Never),
    ("keepalive 1; keepalive 2;", Never),
    ("keepalive 16; least_conn;", Never),
    ("keepalive 16 { }", Never),
    ("keepalive_requests 100;", Never),
    ("keepalive_requests 0;", Never),
    ("keepalive_requests x;", Never),
    ("keepalive_requests 1 2;", Never),
    ("keepalive_requests 1; keepalive_requests 2;", Never),
    ("keepalive_time 1h;", Never),
    ("keepalive_time '1h 30m';", Never),
    ("keepalive_time 1w1d1h1m1s1ms;", Never),
    ("keepalive_time 1ms2;", Never),
    ("keepalive_time 1M;", Never),
    ("keepalive_time 1y;", Never),
    ("keepalive_time '1 5ms';", Never),
    ("keepalive_time 9223372036854775807;", Never),
    ("keepalive_time 1; keepalive_time 1;", Never),
    ("keepalive_timeout 60s;", Never),
    ("keepalive_timeout 60s 50s;", Never),
    ("keepalive_timeout;", Never),
    ("keepalive_timeout x;", Never),
    ("zone a 64k;", Never),
    ("zone a 32768;", Never),
    ("zone a 1M;", Never),
    ("zone a 64k; zone b 64k;", Never),
    ("zone a 64k; zone a;", Never),
    ("zone a 64k; zone a 65k;", Never),
    ("zone a 31k;", Never),
    ("zone a 0;", Never),
    ("zone a 1g;", Never),
    ("zone a k;", Never),
    ("zone a -64k;", Never),
    ("zone a 99999999999999999999;", Never),
    ("zone '' 64k;", Never),
    ("zone;", Never),
    ("zone a 64k b;", Never),
    ("zone a;", ZONE),
    ("resolver 127.0.0.1;", RESOLVE),
    ("resolver_timeout 1s;", RESOLVE),
    ("check interval=3000 rise=2 fall=5 timeout=1000 type=tcp;", OWN),
    ("hash_id nginx;", OWN),
    ("method rr;", OWN),
    // Files.
    ("include good.inc;", Never),
    ("include *od.inc;", Never),
    ("include g[o]od.inc;", Never),
    ("include none/*.inc;", Never),
    ("include none.inc;", Never),
    ("include blocks.inc;", Never),
    ("include close.inc;", Never),
    ("include .;", Never),
    ("include;", Never),
    ("include good.inc good.inc;", Never),
    ("include '';", Never),
    ("include good.inc { }", Never),
    // Lines that belong in no block.
    ("queue 10;", Never),
    ("state /tmp/state;", Never),
    ("ntlm;", Never),
    ("listen 80;", Never),
    ("upstream v { server 10.0.0.1; }", Never),
    ("fair;", Never),
    (";", Never),
    ("{ }", Never),
    ("}", Never),
    ("\\", Never),
    ("\"", Never),
];

const BLOCK: &str = "upstream u { server 10.0.0.1; }";

/// Whole texts.
pub const WHOLE: &[(&str, Differs)] = &[
    (BLOCK, Never),
    ("", Never),
    ("# nothing", Never),
    ("upstream u { }", Never),
    ("upstream u { zone a 64k; }", Never),
    ("upstream u { server 10.0.0.1; ", Never),
    ("upstream u { server 10.0.0.1; }}", Never),
    ("upstream u { server 10.0.0.1 backup; }", ONLY_BACKUPS),
    ("upstream u { server 10.0.0.1; server 10.0.0.1; } upstream v { server 10.0.0.1; }", Never),
    ("upstream u { server 10.0.0.1; } upstream u { server 10.0.0.1; }", Never),
    ("upstream u { server 10.0.0.1; } upstream U { server 10.0.0.1; }", CASE),
    ("upstream u v { server 10.0.0.1; }", Never),
    ("upstream { server 10.0.0.1; }", Never),
    ("upstream u;", Never),
    ("upstream u { server 10.0.0.1; zone a 64k; } upstream v { server 10.0.0.1; zone a; }", Never),
    ("upstream 'u' { server 10.0.0.1; }", Never),
    ("upstream u:80 { server 10.0.0.1; }", Never),
    ("upstream 10.0.0.1 { server 10.0.0.1; }", Never),
    ("upstream a/b { server 10.0.0.1; }", UPSTREAM),
    ("upstream 'a b' { server 10.0.0.1; }", UPSTREAM),
    ("upstream a|b { server 10.0.0.1; }", UPSTREAM),
    ("upstream '' { server 10.0.0.1; }", UPSTREAM),
    ("\u{feff}upstream u { server 10.0.0.1; }", MARK),
    ("include blocks.inc;", Never),
    ("include blocks.inc; include blocks.inc;", Never),
    ("include good.inc;", Never),
    ("include open.inc; server 10.0.0.1; }", Never),
    ("include none/*.inc;", Never),
    ("include none.inc;", Never),
    ("include upstreams.conf;", Never),
    ("log_format a b;", OUTSIDE),
    ("server { }", OUTSIDE),
    ("no_such_line;", Never),
    ("server 10.0.0.1;", Never),
];
