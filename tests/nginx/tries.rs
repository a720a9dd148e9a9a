//! Tries, in the words of nginx's access log; and their sums by peer, to compare them with dyups's statistics.

use serde_json::Value;
use std::collections::BTreeMap;

/// The directives of a server that logs its tries to `@log@`, those of subrequests too.
pub const LOG: &str = "access_log @log@ tries; log_subrequest on;";

/// What [`LOG`] needs in `http {}`.
pub const FORMAT: &str = "log_format tries '$request_id|$pid|$msec|$upstream_addr|$upstream_status|$upstream_connect_time|\
    $upstream_header_time|$upstream_response_time|$upstream_bytes_sent|$upstream_bytes_received';\n";

/// One try.
#[derive(Clone, Debug)]
pub struct Try {
    /// The number of its request. Subrequests have the same.
    pub id: String,
    pub worker: u32,
    /// When its request ended, in seconds since the epoch.
    pub logged: f64,
    pub server: String,
    /// It comes after another one of its request.
    retry: bool,
    /// Of the answer, or the one that nginx put in its place; none: the client had gone.
    pub status: Option<u16>,
    /// Milliseconds.
    connect: Option<u64>,
    header: Option<u64>,
    response: Option<u64>,
    pub sent: u64,
    pub received: u64,
}

impl Try {
    /// The status that the peer answered with.
    pub fn answered(&self) -> Option<u16> {
        self.status.filter(|_| self.header.is_some())
    }
}

/// One value for each try, and whether it is not the first one of its upstream. A redirect inside of nginx begins another.
fn values(text: &str) -> Vec<(&str, bool)> {
    let of_upstream = |part| str::split(part, ", ").enumerate().map(|(nth, value)| (value, nth != 0));
    text.split(" : ").flat_map(of_upstream).collect()
}

fn milliseconds(text: &str) -> Option<u64> {
    let (seconds, rest) = text.split_once('.')?;
    Some(seconds.parse::<u64>().expect("a number") * 1000 + rest.parse::<u64>().expect("a number"))
}

/// All tries of a log.
pub fn logged(log: &str) -> Vec<Try> {
    log.lines().flat_map(of_line).collect()
}

fn of_line(line: &str) -> Vec<Try> {
    let fields: Vec<&str> = line.split('|').collect();
    let [id, worker, logged, of_tries @ ..] = fields.as_slice() else { panic!("{line}") };
    let fields: Vec<Vec<(&str, bool)>> = of_tries.iter().copied().map(values).collect();
    let [addresses, statuses, connects, headers, responses, sent, received] = fields.as_slice() else {
        panic!("{line}")
    };
    // Answers of nginx itself, and redirects, have no address.
    let tries = addresses.iter().enumerate().filter(|(_, (address, _))| !["-", ""].contains(address));
    let one = |(nth, (address, retry)): (usize, &(&str, bool))| Try {
        id: (*id).to_owned(),
        worker: worker.parse().expect("a pid"),
        logged: logged.parse().expect("a time"),
        server: (*address).to_owned(),
        retry: *retry,
        status: statuses[nth].0.parse().ok(),
        connect: milliseconds(connects[nth].0),
        header: milliseconds(headers[nth].0),
        response: milliseconds(responses[nth].0),
        sent: sent[nth].0.parse().expect("a number"),
        received: received[nth].0.parse().expect("a number"),
    };
    tries.map(one).collect()
}

/// The numbers of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    pub requests: u64,
    pub retries: u64,
    pub failed: u64,
    pub timeouts: u64,
    pub refused: u64,
    pub sent: u64,
    pub received: u64,
    pub codes: BTreeMap<String, u64>,
    /// Count, sum and greatest in milliseconds, until headers and until ends.
    pub header: [u64; 3],
    pub response: [u64; 3],
}

fn add_time(all: &mut [u64; 3], ms: u64) {
    *all = [all[0] + 1, all[1] + ms, all[2].max(ms)];
}

impl Book {
    pub fn add(&mut self, one: &Try) {
        self.requests += 1;
        self.retries += u64::from(one.retry);
        self.sent += one.sent;
        self.received += one.received;
        match (one.header, one.status) {
            (Some(ms), Some(status)) => {
                *self.codes.entry(status.to_string()).or_default() += 1;
                add_time(&mut self.header, ms);
            }
            (_, Some(status)) => {
                self.failed += 1;
                self.timeouts += u64::from(status == 504);
                self.refused += u64::from(status == 502 && one.connect.is_none());
            }
            (_, None) => {}
        }
        if let Some(ms) = one.response {
            add_time(&mut self.response, ms);
        }
    }

    /// The sums of these tries, by peer.
    pub fn of_peers<'a>(tries: impl IntoIterator<Item = &'a Try>) -> BTreeMap<String, Book> {
        let mut books: BTreeMap<String, Book> = BTreeMap::new();
        tries.into_iter().for_each(|one| books.entry(one.server.clone()).or_default().add(one));
        books
    }

    /// The numbers of dyups, of a peer or of the upstream.
    pub fn reported(report: &Value) -> Book {
        let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"));
        let times = |name: &str| {
            let times = &report[name];
            let count = times["count"].as_u64().expect("a count");
            let sum = times["mean"].as_f64().expect("a mean") * count as f64;
            [count, sum.round() as u64, times["max"].as_u64().expect("a time")]
        };
        let codes = report["codes"].as_object().expect("codes");
        Book {
            requests: number("requests"),
            retries: number("retries"),
            failed: number("failed"),
            timeouts: number("timeouts"),
            refused: number("refused"),
            sent: number("sent"),
            received: number("received"),
            codes: codes.iter().map(|(code, count)| (code.clone(), count.as_u64().expect("a count"))).collect(),
            header: times("header_time"),
            response: times("response_time"),
        }
    }

    /// Its counts by name, without times.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let named = [
            ("requests", self.requests),
            ("retries", self.retries),
            ("failed", self.failed),
            ("timeouts", self.timeouts),
            ("refused", self.refused),
            ("sent", self.sent),
            ("received", self.received),
            ("headers", self.header[0]),
            ("responses", self.response[0]),
        ];
        let named = named.into_iter().map(|(name, count)| (name.to_owned(), count));
        named.chain(self.codes.iter().map(|(code, count)| (code.clone(), *count))).collect()
    }
}
