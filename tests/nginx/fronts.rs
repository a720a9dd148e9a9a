//! nginx speaks the protocols that gated backends do not: a server before each of them, in an nginx of their own.

use super::gated::Gated;
use super::place::{self, Place};
use super::server::Nginx;
use std::net::SocketAddr;

const SERVER: &str = "
        server {
            listen @address@ @how@;
            proxy_http_version 1.1;
            add_header X-Name-Asked $ssl_server_name always;
            add_trailer Grpc-Status 0;
            # What asks for no upgrade has no second of these headers, and gets none.
            proxy_set_header Connection upgrade;
            proxy_set_header Upgrade $http_upgrade;
            location / { proxy_pass http://@backend@; }
            location /drop/ { return 444; }
        }
";

pub struct Fronts {
    _nginx: Nginx,
    /// Where they listen, in the order of their backends.
    pub names: Vec<String>,
}

impl Fronts {
    /// `how` they listen: `ssl`, `http2` or both. They show `certificate`.
    pub fn start(place: &Place, how: &str, certificate: &str, backends: &[Gated]) -> Fronts {
        let addresses: Vec<SocketAddr> = backends.iter().map(|_| place::free_address()).collect();
        let servers: String =
            addresses.iter().zip(backends).map(|(address, backend)| server(*address, how, backend)).collect();
        let first = addresses[0];
        let prefix = place.path(&format!("fronts-{}", first.port()));
        let nginx = Nginx::plain(&prefix, &format!("{certificate}\n{servers}"), first);
        Fronts { _nginx: nginx, names: addresses.iter().map(SocketAddr::to_string).collect() }
    }

    /// `server` lines with these parameters.
    pub fn servers(&self, parameters: &str) -> String {
        self.names.iter().map(|name| format!("server {name} {parameters};\n")).collect()
    }
}

fn server(address: SocketAddr, how: &str, backend: &Gated) -> String {
    let server = SERVER.replace("@address@", &address.to_string()).replace("@how@", how);
    server.replace("@backend@", &backend.name)
}
