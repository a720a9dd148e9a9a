//! The one backend: it listens on every address of 127.0.0.0/8, and answers with the one that was asked.

use crate::place::Place;
use crate::server::Nginx;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

pub struct Backend {
    nginx: Nginx,
    pub port: u16,
}

impl Backend {
    pub fn start(place: &Place) -> Backend {
        Backend::named(place, "backend")
    }

    /// In a directory of its own.
    pub fn named(place: &Place, name: &str) -> Backend {
        // Below the ports that connections go out from.
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
        let port = (20_000..30_000).find(free).expect("a free port");
        let text = include_str!("backend.conf").replace("@PORT@", &port.to_string());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Backend { nginx: Nginx::with_text(&place.path(name), &text, 1, address, address), port }
    }

    /// How many requests it was asked, this question not among them, but for those of this kind before it.
    pub fn count(&self) -> usize {
        let text = self.nginx.get("bench", "/count").body;
        // Accepted and handled connections, and requests, stand alone in the line below their names.
        let requests = text.lines().nth(2).and_then(|line| line.split_whitespace().nth(2)?.parse::<usize>().ok());
        requests.unwrap_or_else(|| panic!("stub_status: {text}")) - 1
    }
}
