//! The one backend: it listens on every address of 127.0.0.0/8, and answers with the one that was asked.

use crate::place::Place;
use crate::server::Nginx;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

pub struct Backend {
    _nginx: Nginx,
    pub port: u16,
}

impl Backend {
    pub fn start(place: &Place) -> Backend {
        // Below the ports that connections go out from.
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
        let port = (20_000..30_000).find(free).expect("a free port");
        let text = include_str!("backend.conf").replace("@PORT@", &port.to_string());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Backend { _nginx: Nginx::with_text(&place.path("backend"), &text, 1, address, address), port }
    }
}
