//! TLS on both sides: backends that speak it or fail to, the names that they are asked for, and websockets over it.

use super::certificates::Authority;
use super::client::Client;
use super::counted::{Counted, Curl, NAME, PROTOCOLS, Protocol, read_until};
use super::fronts::Fronts;
use super::gated::{Gate, Gated};
use super::place::{self, Place};
use super::server::Conf;
use super::test_answers::nginx_version;
use super::tls_client::TlsClient;
use dyups::version::NginxVersion;
use std::io::{Read, Write};
use std::net::SocketAddr;

/// The name in the backends' certificate.
const HOST: &str = "backend.test";

const LOCATIONS: &str = r#"
        listen @tls@ ssl http2 reuseport;
        @certificate@
        location /https/ { proxy_pass https://counted; }
        location /named-by-default/ { proxy_ssl_server_name on; proxy_pass https://counted; }
        location /named/ { proxy_ssl_server_name on; proxy_ssl_name $host; proxy_pass https://counted; }
        location /named-and-kept/ { proxy_ssl_server_name on; proxy_ssl_name $host; proxy_pass https://kept; }
        location /verified/ {
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate @trusted@;
            proxy_ssl_server_name on;
            proxy_ssl_name $host;
            proxy_pass https://counted;
        }
        location /hurried/ { proxy_connect_timeout 100ms; proxy_pass https://counted; }
        location /socket/ {
            proxy_set_header Connection upgrade;
            proxy_set_header Upgrade $http_upgrade;
            proxy_pass https://counted;
        }
"#;

/// nginx with clients and backends that speak TLS.
struct Secure {
    counted: Counted,
    fronts: Fronts,
    authority: Authority,
    /// Where nginx listens by TLS, in both versions of HTTP.
    tls: SocketAddr,
}

impl Secure {
    fn start(place: &Place, backends: usize, options: &str) -> Secure {
        let (authority, tls) = (Authority::new(place, "trusted"), place::free_address());
        let certificate = authority.sign(HOST);
        let locations = LOCATIONS.replace("@tls@", &tls.to_string()).replace("@trusted@", &authority.file());
        let conf = Conf { locations: locations.replace("@certificate@", &certificate), ..Conf::new(place, 2) };
        let counted = Counted::with(place, backends, options, conf);
        let fronts = Fronts::start(place, "ssl", &certificate, &counted.backends);
        Secure { counted, fronts, authority, tls }
    }

    /// Posts backends that answer, behind the lines in `before`.
    fn post(&self, before: &str) {
        // Anew, without the earlier failures.
        self.counted.nginx.admin("DELETE", &format!("/upstream/{NAME}"), "");
        self.counted.nginx.post(NAME, &(before.to_owned() + &self.fronts.servers("max_fails=0")));
    }

    fn curl(&self, protocol: Protocol, path: &str) -> Curl {
        self.counted.curl(protocol, path, &["-H", &format!("Host: {HOST}")])
    }

    /// The name in the handshake with the backend.
    fn asked(&self, client: &mut Client, host: &str, path: &str) -> Option<String> {
        let answer = client.get(host, path).expect("an answer");
        assert_eq!(answer.status, 200, "{path}");
        answer.header("x-name-asked").map(str::to_owned)
    }

    /// A websocket by TLS from the client to nginx, and from nginx to the backend.
    fn websocket(&self, action: &str) -> TlsClient {
        let mut socket = TlsClient::connect(self.tls, &self.authority.file());
        let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
        write!(socket, "GET /socket/{action} HTTP/1.1\r\nHost: {HOST}\r\n{upgrade}\r\n").expect("sent");
        assert!(read_until(&mut socket, "\r\n\r\n").starts_with("HTTP/1.1 101 "));
        socket
    }
}

#[test]
fn a_request_to_an_https_backend_is_counted_while_it_is_held_and_not_after() {
    let place = Place::new("https");
    let secure = Secure::start(&place, 2, "");
    let counted = &secure.counted;
    secure.post("");
    let by_tls = format!("https://{}/https/hold", secure.tls);
    let requests: [(&str, &dyn Fn() -> Curl); 6] = [
        ("HTTP/1.1", &|| secure.curl(Protocol::Http1, "/https/hold")),
        ("HTTP/2", &|| secure.curl(Protocol::Http2, "/https/hold")),
        ("HTTP/1.1, verified", &|| secure.curl(Protocol::Http1, "/verified/hold")),
        ("HTTP/2, verified", &|| secure.curl(Protocol::Http2, "/verified/hold")),
        ("HTTP/1.1 by TLS", &|| Curl::start(&["-k", "--http1.1", &by_tls])),
        ("HTTP/2 by TLS", &|| Curl::start(&["-k", "--http2", &by_tls])),
    ];
    for (what, request) in requests {
        counted.gate.close();
        let (answered, gone) = (request(), request());
        counted.wait_for_open(2, what);
        gone.kill();
        counted.wait_for_open(1, what);
        counted.gate.open();
        assert_eq!(answered.status(), 200, "{what}");
        counted.assert_none_open(what);
    }
    counted.nginx.assert_calm();
}

#[test]
fn a_peer_that_does_not_come_to_a_handshake_fails_until_it_is_out_and_the_next_one_answers() {
    const REQUESTS: u64 = 10;
    let place = Place::new("handshakes");
    let secure = Secure::start(&place, 1, "retry_percent = 100, retry_floor = 1000");
    let counted = &secure.counted;
    let plain = Gated::start(&Gate::default());
    let closing = Gated::closing_at(place::free_address());
    let silent = place::listen(place::free_address());
    let untrusted = Authority::new(&place, "untrusted").sign(HOST);
    let untrusted = Fronts::start(&place, "ssl", &untrusted, &counted.backends);
    let cases = [
        ("nobody listens", place::free_address().to_string(), "/https/ok", 502),
        ("it speaks no TLS", plain.name.clone(), "/https/ok", 502),
        ("it closes", closing.name.clone(), "/https/ok", 502),
        ("it says nothing", silent.local_addr().expect("bound").to_string(), "/hurried/ok", 504),
        ("its certificate is of others", untrusted.names[0].clone(), "/verified/ok", 502),
    ];
    for protocol in PROTOCOLS {
        for (what, bad, path, status) in &cases {
            let before = counted.backends[0].requests();
            secure.post(&format!("server {bad} max_fails=2 fail_timeout=60s;\n"));
            for _ in 0..REQUESTS {
                assert_eq!(secure.curl(protocol, path).status(), 200, "{what}");
            }
            counted.assert_none_open(what);
            assert_eq!(counted.of_peers("fails"), [2, 0], "{protocol:?}, {what}");
            assert_eq!(counted.of_peers("out"), [true, false], "{protocol:?}, {what}");
            assert_eq!(counted.backends[0].requests() - before, REQUESTS, "{what}");

            counted.nginx.post(NAME, &format!("server {bad} max_fails=4 fail_timeout=60s;\n"));
            assert_eq!(secure.curl(protocol, path).status(), *status, "{what}, and there is no other");
            counted.assert_none_open(what);
            assert_eq!(counted.of_peers("fails"), [3], "{protocol:?}, {what}");
        }
    }
    counted.nginx.assert_calm();
}

#[test]
fn a_handshake_that_takes_its_time_is_counted_until_the_client_goes() {
    let place = Place::new("slow-handshake");
    let secure = Secure::start(&place, 1, "");
    let silent = place::listen(place::free_address());
    secure.counted.nginx.post(NAME, &format!("server {};\n", silent.local_addr().expect("bound")));
    for protocol in PROTOCOLS {
        let curl = secure.curl(protocol, "/https/ok");
        secure.counted.wait_for_open(1, "a handshake");
        curl.kill();
        secure.counted.assert_none_open("a client that went before the handshake was over");
    }
    assert_eq!(secure.counted.of_peers("fails"), [0], "nobody has seen the peer fail");
    secure.counted.nginx.assert_calm();
}

#[test]
fn a_backend_is_asked_for_the_name_that_proxy_ssl_name_says_if_proxy_ssl_server_name_is_on() {
    let place = Place::new("names");
    let secure = Secure::start(&place, 1, "");
    secure.post("");
    let mut client = Client::new(secure.counted.http1);
    let mut asked = |host, path| secure.asked(&mut client, host, path);
    assert_eq!(asked(HOST, "/https/ok"), None, "nginx sends none by itself");
    assert_eq!(asked(HOST, "/named-by-default/ok").as_deref(), Some("counted"), "the name in proxy_pass");
    assert_eq!(asked(HOST, "/named/ok").as_deref(), Some(HOST));
    assert_eq!(asked("shop.test", "/named/ok").as_deref(), Some("shop.test"));
    secure.counted.nginx.assert_calm();
}

#[test]
fn a_certificate_for_another_name_is_refused_where_names_are_verified() {
    let place = Place::new("wrong-name");
    let secure = Secure::start(&place, 1, "");
    secure.counted.nginx.post(NAME, &secure.fronts.servers("max_fails=5"));
    let mut client = Client::new(secure.counted.http1);
    assert_eq!(client.get(HOST, "/verified/ok").expect("an answer").status, 200);
    assert_eq!(client.get("shop.test", "/verified/ok").expect("an answer").status, 502);
    secure.counted.assert_none_open("a certificate for another name");
    assert_eq!(secure.counted.of_peers("fails"), [1]);
    secure.counted.nginx.wait_for_log("does not match \"shop.test\"");
    secure.counted.nginx.assert_calm();
}

#[test]
fn the_option_host_is_no_error_and_has_no_effect_where_ngx_lua_takes_no_name() {
    let place = Place::new("option-host");
    let secure = Secure::start(&place, 1, "host = \"shop.test\"");
    if secure.counted.nginx.eval("return require('ngx.balancer').set_upstream_tls") != "nil" {
        eprintln!("skipped: this ngx_lua takes a name");
        return;
    }
    secure.post("");
    let mut client = Client::new(secure.counted.http1);
    assert_eq!(secure.asked(&mut client, HOST, "/https/ok"), None);
    assert_eq!(secure.asked(&mut client, HOST, "/named/ok").as_deref(), Some(HOST));
    secure.counted.nginx.assert_calm();
}

/// Blocks that keep connections by address, by default or not, and one that does not.
const KEEPING: &str = r#"
    upstream line { server 127.0.0.1:1; balancer_by_lua_block { balance() } keepalive 8; }
    upstream default { server 127.0.0.1:1; balancer_by_lua_block { balance() } }
    upstream none { server 127.0.0.1:1; balancer_by_lua_block { balance() } @none@ }
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate @trusted@;
    proxy_ssl_server_name on;
"#;

const BALANCE: &str = r#"
    local hosts = {}
    function balance()
        local host = ngx.var.host
        hosts[host] = hosts[host] or { host = host, keepalive = true }
        return require("dyups").balance("api", nil, nil, hosts[host])
    end
"#;

#[test]
fn a_request_for_a_name_never_goes_out_over_a_connection_that_was_verified_for_another() {
    let place = Place::new("kept-by-address");
    let authority = Authority::new(&place, "trusted");
    let by_default = nginx_version() >= NginxVersion::new(1, 29, 7);
    let blocks = ["line", "default", "none"];
    let conf = Conf::new(&place, 1);
    let conf = Conf {
        locations: blocks.map(|name| format!("location /{name}/ {{ proxy_pass https://{name}; }}")).concat(),
        http: KEEPING
            .replace("@trusted@", &authority.file())
            .replace("@none@", if by_default { "keepalive 0;" } else { "" }),
        init_worker: conf.init_worker.clone() + BALANCE,
        ..conf
    };
    let counted = Counted::with(&place, 1, "", conf);
    let nginx = &counted.nginx;
    if nginx.eval("return require('ngx.balancer').enable_keepalive") == "nil" {
        eprintln!("skipped: this ngx_lua takes no name");
        return;
    }
    let fronts = Fronts::start(&place, "ssl", &authority.sign(HOST), &counted.backends);
    nginx.post(NAME, &fronts.servers("max_fails=0"));
    let mut client = Client::new(counted.http1);
    let mut get = |host, block| client.get(host, &format!("/{block}/ok")).expect("an answer").status;
    for _ in 0..3 {
        // Its own name goes over a connection that is kept, another one over a new one that is refused.
        assert_eq!([get(HOST, "none"), get("shop.test", "none")], [200, 502]);
    }
    let open = |what| match by_default {
        true => assert_eq!(what, [502, 502]),
        false => assert_eq!(what, [200, 502]),
    };
    open([get(HOST, "default"), get("shop.test", "default")]);
    assert_eq!([get(HOST, "line"), get("shop.test", "line")], [502, 502]);
    let mends =
        if by_default { "write `keepalive 0;` into the block" } else { "take the line `keepalive` out of the block" };
    nginx.wait_for_log(mends);
    assert!(nginx.log().contains("[error]") && nginx.log().contains("dyups: balance: host: nginx keeps connections"));
    counted.assert_none_open("refused requests");
    nginx.assert_calm();
}

/// As with any upstream{} of nginx, which looks for a connection by its address alone: docs/lua.md warns of it.
#[test]
fn a_connection_that_is_kept_stays_with_the_name_that_it_was_made_for() {
    let place = Place::new("kept-names");
    let secure = Secure::start(&place, 1, "");
    secure.post("");
    // One connection of the client's is one worker of nginx.
    let mut client = Client::new(secure.counted.http1);
    let mut asked = |host, path| secure.asked(&mut client, host, path);
    assert_eq!(asked("one.test", "/named-and-kept/ok").as_deref(), Some("one.test"));
    assert_eq!(asked("two.test", "/named-and-kept/ok").as_deref(), Some("one.test"));
    assert_eq!(asked("two.test", "/named/ok").as_deref(), Some("two.test"));
    secure.counted.assert_none_open("kept connections");
    secure.counted.nginx.assert_calm();
}

#[test]
fn a_websocket_over_tls_is_counted_until_either_side_closes_it() {
    let place = Place::new("secure-websocket");
    let secure = Secure::start(&place, 1, "");
    let counted = &secure.counted;
    secure.post("");
    let mut socket = secure.websocket("upgrade");
    for _ in 0..3 {
        socket.write_all(b"frame").expect("sent");
        assert_eq!(read_until(&mut socket, "frame"), "frame");
        assert_eq!(counted.open(), [1]);
    }
    drop(socket);
    counted.assert_none_open("a websocket that its client closed");

    let mut socket = secure.websocket("goodbye");
    assert_eq!(counted.open(), [1]);
    counted.gate.open();
    assert_eq!(socket.read_to_end(&mut Vec::new()).expect("its end"), 0);
    counted.assert_none_open("a websocket that its backend closed");
    counted.nginx.assert_calm();
}
