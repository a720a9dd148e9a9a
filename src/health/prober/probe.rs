//! One probe: its address, the bytes that it sends, and the verdict about the answer.

use super::watch::Watched;
use crate::health::certificate::{self, Identity};
use crate::http::probe_request;
use crate::http::response::{Expect, Progress, Response, Rules};
use crate::quote::quote;
use crate::state::lease::{Lease, Millis};
use crate::upstream::check::CheckType;
use crate::upstream::{Address, Check, PeerCheck};
use std::rc::Rc;

/// How far the connection was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The exchange was complete.
    Done,
    /// The connection was being made.
    Connect,
    /// The TLS handshake was under way.
    Handshake,
    /// The request was being sent.
    Send,
    /// The answer was awaited.
    Receive,
    /// There was no connection, by a fault of this worker's own: nothing is known of the peer.
    NotMade,
}

/// A probe that is under way.
#[derive(Debug)]
pub struct Probe {
    /// The record of the upstream whose concurrency it counts towards.
    pub record: u32,
    /// The name of that upstream.
    pub upstream: Rc<str>,
    /// The key of the peers that it is for.
    pub key: u64,
    /// The cell of the peer that leads them.
    pub cell: u32,
    /// The leader's lease, as long as the probe counts.
    pub lease: Lease,
    /// Milliseconds since the boot: when it began.
    pub began: u64,
    /// Milliseconds that its lease is for.
    pub lease_time: Millis,
    /// How it is made.
    pub check: Rc<Check>,
    answer: Answer,
}

/// The reader of the answer.
#[derive(Debug)]
enum Answer {
    Http(Box<Response>),
    Tcp(Expect),
}

/// The data for a connection.
#[derive(Debug)]
pub struct Orders {
    /// As [`Address::host`].
    pub host: String,
    /// `None`: the host is a path.
    pub port: Option<u16>,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether the certificate is verified.
    pub verify: bool,
    /// The name that TLS asks for; empty: none.
    pub name: String,
    /// The certificate that is shown, and its key.
    pub identity: Option<Identity>,
    /// The bytes to send; may be none.
    pub request: Vec<u8>,
    /// Milliseconds for all of it.
    pub timeout: u32,
    /// Whether an answer is waited for.
    pub answers: bool,
}

impl Orders {
    /// For the peer at `address`, with the peer's own settings of the check. The error says why it cannot be probed.
    ///
    /// # Errors
    ///
    /// As [`certificate::of`].
    pub fn new(check: &Check, address: &Address, own: Option<&PeerCheck>) -> Result<Orders, String> {
        let port = address.port().map(|port| own.and_then(|own| own.port).or(check.port).unwrap_or(port));
        let host = address.host().to_string();
        let request = match check.kind {
            CheckType::Tcp => check.send.clone().unwrap_or_default().into_bytes(),
            CheckType::Http | CheckType::Https => {
                let host = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
                probe_request::request(check, &host, own)
            }
        };
        Ok(Orders {
            host,
            port,
            tls: check.kind == CheckType::Https,
            verify: check.ssl_verify,
            name: probe_request::server_name(check, own).unwrap_or_default().to_string(),
            identity: certificate::of(check)?,
            request,
            timeout: check.timeout,
            answers: check.kind != CheckType::Tcp || check.expect.is_some(),
        })
    }
}

impl Probe {
    /// One that begins now, whose answer is judged by `rules`.
    pub fn new(watched: &Watched, (record, key, cell): (u32, u64, u32), lease: Lease, now: u64, rules: Rules) -> Probe {
        let (check, upstream) = (watched.check.clone(), watched.name.clone());
        let answer = match check.kind {
            CheckType::Tcp => Answer::Tcp(Expect::new(&check)),
            CheckType::Http | CheckType::Https => Answer::Http(Box::new(Response::new(&check, rules))),
        };
        let lease_time = watched.lease_time();
        Probe { record, upstream, key, cell, lease, began: now, lease_time, check, answer }
    }

    /// Milliseconds that are left of its time.
    pub fn left(&self, now: u64) -> u32 {
        let spent = now.saturating_sub(self.began);
        u64::from(self.check.timeout).saturating_sub(spent) as u32
    }

    /// Takes the next bytes. Whether it is over: with none, one that expects no answer is.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        self.progress(bytes) != Progress::More
    }

    fn progress(&mut self, bytes: &[u8]) -> Progress {
        match &mut self.answer {
            Answer::Http(response) => response.feed(bytes),
            Answer::Tcp(expect) => expect.feed(bytes),
        }
    }

    /// The peer's failure, if any, once the connection has ended: at which stage, and by which error (`closed`, `timeout`, or
    /// another).
    ///
    /// # Errors
    ///
    /// The failure, in words for the operator.
    pub fn end(mut self, stage: Stage, error: &[u8]) -> Result<(), String> {
        let is_connected = matches!(stage, Stage::Done | Stage::Receive);
        if let (true, Progress::Done(result)) = (is_connected, self.progress(b"")) {
            return result.map(|_| ()).map_err(|failure| failure.to_string());
        }
        let during = match stage {
            Stage::Done | Stage::Receive => "answer",
            Stage::Connect | Stage::NotMade => "connect",
            Stage::Handshake => "TLS",
            Stage::Send => "send",
        };
        match (stage, error) {
            // A probe whose time is over ends in a timeout, with any last error.
            (Stage::Done, _) | (_, b"timeout") => Err(format!("{during}: not within {} ms", self.check.timeout)),
            (Stage::Receive, b"closed") => {
                let result = match &mut self.answer {
                    Answer::Http(response) => response.closed(),
                    Answer::Tcp(expect) => expect.closed(),
                };
                result.map_err(|failure| failure.to_string())
            }
            (_, error) => Err(format!("{during}: {}", shown(error))),
        }
    }
}

/// The error of nginx or TLS, on one line.
pub(super) fn shown(error: &[u8]) -> String {
    let quoted = quote(error);
    quoted[1..quoted.len() - 1].to_string()
}
