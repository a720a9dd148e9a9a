//! An nginx whose requests go through balance(), over every way that a request of nginx can take; and its clients.

use super::client::Client;
use super::gated::{Gate, Gated};
use super::place::{self, Place};
use super::server::{Conf, Nginx};
use super::system::{PATIENCE, wait_for, wait_until};
use super::test_answers::nginx_version;
use dyups::version::NginxVersion;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

/// The upstream that all of it goes to.
pub const NAME: &str = "api";

const SERVER: &str = r#"
    upstream counted {
        server 127.0.0.1:1;
        balancer_by_lua_block { require("dyups").balance("api", nil, nil, options) }
        @unkept@
    }
    upstream kept {
        server 127.0.0.1:1;
        balancer_by_lua_block { require("dyups").balance("api", nil, nil, options) }
        keepalive 8;
    }
    upstream stock { server @stock@; keepalive 8; }
    server {
        listen @http1@ reuseport;
        listen @http2@ http2 reuseport;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Request-Id $request_id;
        proxy_set_header X-Worker $pid;
        add_header X-Worker $pid always;
        default_type text/html;
        location / { proxy_pass http://counted; }
        location /stock/ { proxy_pass http://stock; }
        location /kept/ { proxy_pass http://kept; }
        location /timeout/ { proxy_read_timeout 100ms; proxy_pass http://counted; }
        location /by-uri/ { proxy_intercept_errors on; error_page 500 = /pass/hold; proxy_pass http://counted; }
        location /by-name/ { proxy_intercept_errors on; error_page 500 = @hold; proxy_pass http://counted; }
        location @hold { rewrite ^ /pass/hold break; proxy_pass http://counted; }
        location = /exec { auth_request /check/ok; content_by_lua_block { ngx.exec("/pass/hold") } }
        location = /capture {
            content_by_lua_block { ngx.print(ngx.location.capture("/pass/ok").body, ngx.location.capture("/pass/hold").body) }
        }
        location /auth/ { auth_request /check/ok; proxy_pass http://counted; }
        location /auth-held/ { auth_request /check/hold; proxy_pass http://counted; }
        location /check/ { internal; proxy_pass http://counted; }
        location /mirrored/ { mirror /mirror/hold; proxy_pass http://counted; }
        location /mirror/ { internal; proxy_pass http://counted; }
        location = /ssi {
            ssi on;
            content_by_lua_block {
                ngx.print('<!--#include virtual="/pass/ok"-->, <!--#include virtual="/pass/hold"-->')
            }
        }
        location /upgrade/ {
            proxy_set_header Connection upgrade;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header X-Request-Id $request_id;
            proxy_set_header X-Worker $pid;
            proxy_pass http://counted;
        }
        location /non-idempotent/ {
            proxy_next_upstream error timeout non_idempotent;
            proxy_pass http://counted;
        }
        location /unbuffered/ { proxy_request_buffering off; proxy_pass http://counted; }
        location /covered/ { error_page 502 = /stock/ok; proxy_pass http://counted; }
        location /masked/ { error_page 502 504 =404 /gone; proxy_pass http://counted; }
        location = /gone { internal; return 404; }
        location = /requests { stub_status; }
        @locations@
    }
"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

pub const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// nginx, the gated backends, and their gate.
pub struct Counted {
    pub nginx: Nginx,
    pub http1: SocketAddr,
    pub http2: SocketAddr,
    pub backends: Vec<Gated>,
    pub gate: Gate,
}

impl Counted {
    /// Over 2 workers and `backends` backends, which are not peers yet; `options` are those of balance, `main` is more of nginx.conf.
    pub fn start(place: &Place, backends: usize, options: &str, main: &str) -> Counted {
        Counted::with(place, backends, options, Conf { main: main.into(), ..Conf::new(place, 2) })
    }

    /// The same with a configuration that has more in it; its locations are of the server that counts.
    pub fn with(place: &Place, backends: usize, options: &str, mut conf: Conf) -> Counted {
        let (http1, http2) = (place::free_address(), place::free_address());
        conf.http += &SERVER.replace("@http1@", &http1.to_string()).replace("@http2@", &http2.to_string());
        // Newer ones keep connections by default, and older ones refuse the line.
        let keeps = nginx_version() >= NginxVersion::new(1, 29, 7);
        conf.http = conf.http.replace("@unkept@", if keeps { "keepalive 0;" } else { "" });
        conf.http = conf.http.replace("@locations@", &std::mem::take(&mut conf.locations));
        let gate = Gate::default();
        let backends: Vec<_> = (0..backends).map(|_| Gated::start(&gate)).collect();
        let servers: String = backends.iter().map(|backend| format!("server {};\n", backend.name)).collect();
        conf.http = conf.http.replace("@servers@", &servers);
        conf.http = conf.http.replace("@stock@", backends.first().map_or("127.0.0.1:1", |backend| &backend.name));
        conf.init_worker += &format!(" options = {{ {options} }}");
        Counted { nginx: Nginx::start(place, &conf), http1, http2, backends, gate }
    }

    /// All backends as peers with these parameters, and one where nothing listens if `dead`.
    pub fn post(&self, parameters: &str, dead: bool) {
        let mut servers: String =
            self.backends.iter().map(|backend| format!("server {} {parameters};\n", backend.name)).collect();
        if dead {
            servers += &format!("server {} {parameters};\n", place::free_address());
        }
        self.nginx.post(NAME, &servers);
    }

    pub fn address(&self, protocol: Protocol) -> SocketAddr {
        match protocol {
            Protocol::Http1 => self.http1,
            Protocol::Http2 => self.http2,
        }
    }

    /// A request for `path` under way.
    pub fn curl(&self, protocol: Protocol, path: &str, more: &[&str]) -> Curl {
        let version = if protocol == Protocol::Http1 { "--http1.1" } else { "--http2-prior-knowledge" };
        Curl::start(&[&[version], more, &[&format!("http://{}{path}", self.address(protocol))]].concat())
    }

    /// A connection for HTTP/1.1.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http1).expect("nginx listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// A websocket, open.
    pub fn websocket(&self) -> TcpStream {
        let mut socket = self.connect();
        let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
        write!(socket, "GET /upgrade/upgrade HTTP/1.1\r\nHost: {NAME}\r\n{upgrade}\r\n").expect("sent");
        assert!(read_until(&mut socket, "\r\n\r\n").starts_with("HTTP/1.1 101 "));
        socket
    }

    /// `total` requests for these paths in turn, until they have ended in any way. Answers how many were begun: those of a connection
    /// that ends are not all.
    pub fn h2load(&self, protocol: Protocol, total: usize, paths: &[&str]) -> u64 {
        let mut command = Command::new("h2load");
        match protocol {
            Protocol::Http1 => command.args(["--h1", "-c", "20"]),
            Protocol::Http2 => command.args(["-c", "5", "-m", "5"]),
        };
        command.args(["-n", &total.to_string()]);
        command.args(paths.iter().map(|path| format!("http://{}{path}", self.address(protocol))));
        let out = command.stdin(Stdio::null()).output().expect("h2load: make deps installs it");
        let said = String::from_utf8_lossy(&out.stdout);
        let numbers = said.lines().find_map(|line| line.strip_prefix(&format!("requests: {total} total, ")));
        let begun = numbers.and_then(|numbers| numbers.split_once(" started")).map(|(begun, _)| begun.parse());
        begun.unwrap_or_else(|| panic!("{said}")).expect("a number")
    }

    /// Connections that are counted as open, by peer.
    pub fn open(&self) -> Vec<u64> {
        self.of_peers("conns").iter().map(|conns| conns.as_u64().expect("a number")).collect()
    }

    pub fn total(&self) -> u64 {
        self.open().iter().sum()
    }

    pub fn of_peers(&self, field: &str) -> Vec<serde_json::Value> {
        let status = self.nginx.status();
        let peers = status["upstreams"][NAME]["peers"].as_array().expect("peers");
        peers.iter().map(|peer| peer[field].clone()).collect()
    }

    pub fn wait_for_open(&self, total: u64, what: &str) {
        let mut last = Vec::new();
        let met = wait_until(PATIENCE, || {
            last = self.open();
            last.iter().sum::<u64>() == total
        });
        assert!(met, "{what}: {last:?} are counted as open, not {total}");
    }

    /// So many requests wait for the gate, and as many connections are counted.
    pub fn wait_for_held(&self, total: u64, what: &str) {
        wait_for("requests are held", || self.backends.iter().map(Gated::at_once).sum::<u64>() == total);
        self.wait_for_open(total, what);
    }

    /// Nothing is counted, and no worker remembers a request.
    pub fn assert_none_open(&self, what: &str) {
        self.wait_for_open(0, what);
        let mut workers = BTreeSet::new();
        wait_for(&format!("{what}: each worker holds nothing"), || {
            let lua = "return ngx.worker.pid() .. ' ' .. require('dyups.library').C.dyups_balancing()";
            let answer = self.nginx.eval(lua);
            let (pid, held) = answer.split_once(' ').expect("two numbers");
            if held == "0" {
                workers.insert(pid.to_owned());
            }
            workers.len() == self.nginx.worker_pids().len()
        });
    }

    /// Requests that this nginx has read. Asked again where the worker that we ask dies.
    pub fn requests(&self) -> u64 {
        let mut answer = None;
        wait_for("an answer of a worker that lives", || {
            answer = Client::new(self.http1).get_fresh(NAME, "/requests").ok();
            answer.is_some()
        });
        let body = answer.expect("waited for").body;
        let numbers = body.lines().nth(2).expect("three numbers");
        numbers.split_whitespace().nth(2).and_then(|number| number.parse().ok()).expect("a number")
    }
}

/// A request of curl's.
pub struct Curl(Child);

impl Curl {
    pub fn start(args: &[&str]) -> Curl {
        let mut command = Command::new("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "20"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Curl(command.spawn().expect("curl: make deps installs it"))
    }

    /// Its whole output when it has ended: the parts that more arguments asked for, and then its status.
    pub fn said(mut self) -> String {
        let mut said = String::new();
        self.0.stdout.as_mut().expect("piped").read_to_string(&mut said).expect("text");
        said
    }

    /// Its status when it has ended; 0: there was none.
    pub fn status(self) -> u16 {
        self.said().parse().expect("a status")
    }

    /// The client goes.
    pub fn kill(self) {}
}

impl Drop for Curl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The bytes up to `end`.
pub fn read_until(stream: &mut impl Read, end: &str) -> String {
    let (mut read, mut buffer) = (String::new(), [0; 4096]);
    while !read.ends_with(end) {
        match stream.read(&mut buffer).expect("an answer") {
            0 => panic!("closed after {read:?}"),
            size => read += std::str::from_utf8(&buffer[..size]).expect("text"),
        }
    }
    read
}
