//! A backend that speaks TLS: an nginx of its own, which notes its clients and their requests.

use super::client::Client;
use super::place::{self, Place};
use super::server::Nginx;
use std::net::SocketAddr;
use std::path::PathBuf;

const HTTP: &str = r#"
    log_format asked "$ssl_server_name $request_method $request_uri";
    keepalive_requests 1000000;
    server { listen @tls@ ssl; @certificate@ access_log asked.log asked; location / { return 200 well; } }
    server { listen @admin@; location / { stub_status; } }
"#;

pub struct Https {
    _nginx: Nginx,
    /// Where it listens, as a `server` line spells it.
    pub name: String,
    pub address: SocketAddr,
    admin: Client,
    /// Connections that are this test's own.
    own: u64,
    log: PathBuf,
}

impl Https {
    /// It shows this certificate, as nginx.conf says it.
    pub fn start(place: &Place, certificate: &str) -> Https {
        let [address, admin] = [(); 2].map(|()| place::free_address());
        let http = HTTP.replace("@tls@", &address.to_string()).replace("@admin@", &admin.to_string());
        let prefix = place.path(&format!("https-{}", address.port()));
        let nginx = Nginx::plain(&prefix, &http.replace("@certificate@", certificate), admin);
        let (log, admin) = (prefix.join("asked.log"), Client::new(admin));
        let mut https = Https { _nginx: nginx, name: address.to_string(), address, admin, own: 0, log };
        https.own = https.accepted();
        https
    }

    /// Connections that were made to it, with any handshake.
    pub fn accepted(&mut self) -> u64 {
        let status = self.admin.get("localhost", "/").expect("an answer").body;
        assert_eq!(self.admin.resent, 0, "a second connection of the test's own");
        let accepts = status.lines().nth(2).and_then(|line| line.split_whitespace().next());
        accepts.and_then(|accepts| accepts.parse::<u64>().ok()).expect("a count") - self.own
    }

    /// A line for each request that it answered: the name in the handshake, or `-`, the method, and the path.
    pub fn asked(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).expect("a log");
        log.lines().map(str::to_owned).collect()
    }
}
