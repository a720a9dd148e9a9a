//! Changes of upstreams in numbers, and of routes in words, for one line each in a log.
//!
//! A caller that wants to know has its changes recorded ([`record`]). Otherwise nothing is compared and nothing kept.

use crate::shm::history;
use crate::upstream::{HashId, Method, Peer, Route, Status, Upstream};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

/// The most peers of a change that have events in the history: entering one takes some 6 µs, and the worker waits.
pub const MOST_TURNED: usize = 512;

/// A peer that its operator has taken out or brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turned {
    /// The identity of its address.
    pub ident: u64,
    /// Its status before and after.
    pub statuses: [Status; 2],
}

/// The effect of one change on one upstream, or on one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The upstream, or the host of the route.
    pub upstream: String,
    /// Of a route: where it has led, and where it leads. All that follows is of an upstream, up to `turned`.
    pub route: Option<[String; 2]>,
    /// Its peers before; `None`: there was no such upstream or route.
    pub before: Option<usize>,
    /// Its peers after; `None`: there is no such upstream or route any more.
    pub after: Option<usize>,
    /// Peers that are new.
    pub added: usize,
    /// Peers that are no more.
    pub removed: usize,
    /// Peers that have another setting.
    pub changed: usize,
    /// The peers that stay stand in another order.
    pub reordered: bool,
    /// The methods before and after, where they differ.
    pub method: Option<[Option<Method>; 2]>,
    /// The hash ids before and after, where they differ.
    pub hash_id: Option<[HashId; 2]>,
    /// The change of its check, in a word.
    pub check: Option<&'static str>,
    /// Peers that drained, are still there, and do not drain any more.
    pub undrained: usize,
    /// Peers that are still there and have another status, at most [`MOST_TURNED`] of them.
    pub turned: Vec<Turned>,
    /// The version of the upstream before this change; 0: there was none.
    pub old_version: u64,
    /// The version of the upstream from this change on.
    pub version: u64,
    /// The origin of the change, where a part of the library knows it better than the caller.
    pub by: Option<String>,
}

impl Difference {
    /// The difference. `None`: an operator sees none.
    ///
    /// The caller knows that the first `alike` peers are the same before and after; `old` has the peers behind these only.
    pub(super) fn between(
        name: &str,
        alike: usize,
        old: Option<&Upstream>,
        new: Option<&Upstream>,
    ) -> Option<Difference> {
        let mut comparison = Comparison::new(alike);
        while !comparison.step(old, new, usize::MAX) {}
        comparison.finish(name, old, new)
    }

    /// The difference of a route; `None`: there is none.
    pub(super) fn of_route(host: &str, old: Option<&Route>, new: Option<&Route>) -> Option<Difference> {
        let words = |route: Option<&Route>| route.map_or("none".to_owned(), Route::in_words);
        let change = Difference {
            upstream: host.to_owned(),
            route: Some([words(old), words(new)]),
            before: old.map(|old| old.targets.len()),
            after: new.map(|new| new.targets.len()),
            ..Difference::default()
        };
        (old != new).then_some(change)
    }

    /// The upstream or route that has changed, with its kind.
    fn subject(&self) -> String {
        let kind = if self.route.is_some() { "route" } else { "upstream" };
        format!("{kind} {}", self.upstream)
    }

    fn says_something(&self) -> bool {
        self.before.is_some() != self.after.is_some()
            || self.added + self.removed + self.changed > 0
            || self.reordered
            || self.method.is_some()
            || self.hash_id.is_some()
            || self.check.is_some()
    }

    fn compare_one(&mut self, old: &Peer, new: &Peer) {
        let drains = |peer: &Peer| matches!(peer.status, Status::Drain | Status::Leaving);
        self.changed += usize::from(old != new);
        self.undrained += usize::from(drains(old) && new.status == Status::Up);
        let statuses = [old, new].map(|peer| peer.status);
        if statuses[0].to_stay() != statuses[1].to_stay() && self.turned.len() < MOST_TURNED {
            self.turned.push(Turned { ident: new.address.ident(), statuses });
        }
    }

    /// The line for the log. `by`: the origin of the change, unless that is known already.
    pub fn line(&self, by: &str) -> String {
        let by = self.by.as_deref().unwrap_or(by);
        format!("{}: {} by {by}: {self}", self.subject(), self.verb())
    }

    /// The same for the history of the region, at this time in milliseconds since the epoch.
    pub fn entry(&self, by: &str, time: u64) -> history::Change {
        history::Change {
            time,
            name: if self.route.is_some() { self.subject() } else { self.upstream.clone() },
            by: self.by.as_deref().unwrap_or(by).to_owned(),
            versions: [self.old_version, if self.after.is_some() { self.version } else { 0 }],
            summary: self.to_string(),
        }
    }

    fn verb(&self) -> &'static str {
        match (self.before, self.after) {
            (None, _) => "made",
            (Some(_), None) => "deleted",
            (Some(_), Some(_)) => "changed",
        }
    }
}

/// A comparison of two versions of an upstream, a part of the peers at a time. Mostly both lists have a long beginning and a long end
/// in common.
#[derive(Debug)]
pub(super) struct Comparison {
    difference: Difference,
    /// So many peers at the beginning are the same, and the old version is given without them.
    alike: usize,
    part: Part,
    /// Peers at the beginning, behind those that are alike, and at the end with the same addresses.
    begin: usize,
    end: usize,
    /// The next peer of this part.
    next: usize,
    /// By identity: where peers between beginning and end of the old list are.
    left: HashMap<u64, usize>,
    /// The last of them that was met in the new list.
    last: usize,
}

/// The part of the lists that is compared.
#[derive(Clone, Copy, Debug)]
enum Part {
    Begin,
    End,
    /// The old list, between both.
    Old,
    /// The new list, between both.
    New,
}

fn peers(upstream: Option<&Upstream>) -> &[Peer] {
    upstream.map_or(&[], |upstream| &upstream.peers)
}

impl Comparison {
    /// One of lists whose first `alike` peers are the same.
    pub(super) fn new(alike: usize) -> Comparison {
        Comparison {
            difference: Difference::default(),
            alike,
            part: Part::Begin,
            begin: 0,
            end: 0,
            next: 0,
            left: HashMap::new(),
            last: 0,
        }
    }

    /// Compares about `most` peers. True: those were the last.
    pub(super) fn step(&mut self, old: Option<&Upstream>, new: Option<&Upstream>, most: usize) -> bool {
        let (old, new) = (peers(old), &peers(new)[self.alike..]);
        for _ in 0..most {
            let (old_end, new_end) = (old.len() - self.end, new.len() - self.end);
            let at = self.next;
            match self.part {
                Part::Begin if at < old_end.min(new_end) && old[at].address.same_as(&new[at].address) => {
                    self.difference.compare_one(&old[at], &new[at]);
                    self.next += 1;
                }
                Part::Begin => (self.part, self.begin) = (Part::End, at),
                Part::End
                    if self.begin < old_end.min(new_end)
                        && old[old_end - 1].address.same_as(&new[new_end - 1].address) =>
                {
                    self.difference.compare_one(&old[old_end - 1], &new[new_end - 1]);
                    self.end += 1;
                }
                Part::End => {
                    self.left.reserve(old_end - self.begin);
                    (self.part, self.next) = (Part::Old, self.begin);
                }
                Part::Old if at < old_end => {
                    self.left.insert(old[at].address.ident(), at);
                    self.next += 1;
                }
                Part::Old => (self.part, self.next) = (Part::New, self.begin),
                Part::New if at < new_end => {
                    self.meet(old, &new[at]);
                    self.next += 1;
                }
                Part::New => return true,
            }
        }
        false
    }

    fn meet(&mut self, old: &[Peer], peer: &Peer) {
        match self.left.remove(&peer.address.ident()) {
            Some(index) => {
                self.difference.compare_one(&old[index], peer);
                self.difference.reordered |= index < self.last;
                self.last = self.last.max(index);
            }
            None => self.difference.added += 1,
        }
    }

    /// The difference, once all peers were compared; `None`: an operator sees none.
    pub(super) fn finish(self, name: &str, old: Option<&Upstream>, new: Option<&Upstream>) -> Option<Difference> {
        let none = Upstream::default();
        let (before, after) = (old.unwrap_or(&none), new.unwrap_or(&none));
        let mut change = Difference {
            upstream: name.to_string(),
            before: old.map(|old| self.alike + old.peers.len()),
            after: new.map(|new| new.peers.len()),
            removed: self.left.len(),
            ..self.difference
        };
        if new.is_some() {
            change.method = (before.method != after.method).then_some([before.method, after.method]);
            change.hash_id = (before.hash_id != after.hash_id).then_some([before.hash_id, after.hash_id]);
            change.check = match (&before.check, &after.check) {
                (None, Some(_)) => Some("on"),
                (Some(_), None) => Some("off"),
                (old, new) => (old != new).then_some("changed"),
            };
        }
        change.says_something().then_some(change)
    }
}

impl fmt::Display for Difference {
    /// `2 -> 3 peers (1 added, 0 removed, 0 changed), method none -> rr, version 7`; of a route `blue -> green, version 8`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some([old, new]) = &self.route {
            return write!(f, "{old} -> {new}, version {}", self.version);
        }
        let [before, after] = [self.before, self.after].map(Option::unwrap_or_default);
        let Difference { added, removed, changed, version, .. } = self;
        write!(f, "{before} -> {after} peers ({added} added, {removed} removed, {changed} changed)")?;
        if self.reordered {
            f.write_str(", another order")?;
        }
        if let Some([old, new]) = self.method.map(|pair| pair.map(|method| method.map_or("none", Method::name))) {
            write!(f, ", method {old} -> {new}")?;
        }
        if let Some([old, new]) = self.hash_id.map(|pair| pair.map(HashId::name)) {
            write!(f, ", hash_id {old} -> {new}")?;
        }
        if let Some(check) = self.check {
            write!(f, ", check {check}")?;
        }
        write!(f, ", version {version}")
    }
}

thread_local! {
    static RECORDED: RefCell<Option<Vec<Difference>>> = const { RefCell::new(None) };
}

/// Ends the recording, also where a panic does.
struct Recording;

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDED.set(None);
    }
}

/// Runs `body`. Answers its answer, and the changes that it made in this thread, in their order.
pub fn record<T>(body: impl FnOnce() -> T) -> (T, Vec<Difference>) {
    let recording = Recording;
    RECORDED.set(Some(Vec::new()));
    let answer = body();
    let changes = RECORDED.take().unwrap_or_default();
    drop(recording);
    (answer, changes)
}

/// Whether changes are recorded in this thread.
pub(super) fn records() -> bool {
    RECORDED.with_borrow(Option::is_some)
}

pub(super) fn add(change: Difference) {
    RECORDED.with_borrow_mut(|recorded| recorded.iter_mut().for_each(|changes| changes.push(change.clone())));
}

/// The last change that was recorded.
pub fn last() -> Option<Difference> {
    RECORDED.with_borrow(|recorded| recorded.as_ref()?.last().cloned())
}

/// Gives an origin to the recorded changes that have none.
pub fn came_from(origin: impl Fn(&Difference) -> String) {
    RECORDED.with_borrow_mut(|recorded| {
        for change in recorded.iter_mut().flatten().filter(|change| change.by.is_none()) {
            change.by = Some(origin(change));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Address, Check};

    fn peer(host: u8) -> Peer {
        Peer::new(Address::from_server(&format!("10.0.0.{host}")).unwrap())
    }

    fn with(peers: Vec<Peer>) -> Upstream {
        Upstream { name: "api".into(), peers, ..Upstream::default() }
    }

    fn of(hosts: &[u8]) -> Upstream {
        with(hosts.iter().map(|&host| peer(host)).collect())
    }

    fn line(old: Option<&Upstream>, new: Option<&Upstream>) -> Option<String> {
        Difference::between("api", 0, old, new).map(|change| change.line("Lua"))
    }

    fn numbers(old: &[u8], new: &[u8]) -> Option<String> {
        let line = line(Some(&of(old)), Some(&of(new)))?;
        Some(line.replace("upstream api: changed by Lua: ", "").replace(", version 0", ""))
    }

    #[test]
    fn what_becomes_of_an_upstream_is_one_line() {
        let (old, new) = (of(&[1, 2]), of(&[2, 3, 4]));
        assert_eq!(
            line(None, Some(&new)).unwrap(),
            "upstream api: made by Lua: 0 -> 3 peers (3 added, 0 removed, 0 changed), version 0"
        );
        assert_eq!(
            line(Some(&old), Some(&new)).unwrap(),
            "upstream api: changed by Lua: 2 -> 3 peers (2 added, 1 removed, 0 changed), version 0"
        );
        assert_eq!(
            line(Some(&new), None).unwrap(),
            "upstream api: deleted by Lua: 3 -> 0 peers (0 added, 3 removed, 0 changed), version 0"
        );
        assert!(line(None, Some(&of(&[]))).is_some() && line(Some(&of(&[])), None).is_some());
    }

    #[test]
    fn peers_are_counted_wherever_they_stand() {
        assert_eq!(numbers(&[1, 2, 3, 4], &[1, 3, 4]).unwrap(), "4 -> 3 peers (0 added, 1 removed, 0 changed)");
        assert_eq!(numbers(&[1, 2, 3], &[1, 9, 2, 3]).unwrap(), "3 -> 4 peers (1 added, 0 removed, 0 changed)");
        assert_eq!(
            numbers(&[1, 2, 3], &[3, 1, 2]).unwrap(),
            "3 -> 3 peers (0 added, 0 removed, 0 changed), another order"
        );
        assert_eq!(numbers(&[1, 2, 3], &[1, 2, 3]), None);
    }

    #[test]
    fn settings_that_differ_are_told() {
        let old = with(vec![peer(1), Peer { status: Status::Drain, ..peer(2) }]);
        let new = Upstream {
            method: Some(Method::Rr),
            hash_id: HashId::HostPort,
            check: Some(Check::default()),
            ..with(vec![Peer { weight: 3, ..peer(1) }, peer(2)])
        };
        let change = Difference::between("api", 0, Some(&old), Some(&new)).unwrap();
        assert_eq!(
            change.to_string(),
            "2 -> 2 peers (0 added, 0 removed, 2 changed), method none -> rr, hash_id nginx -> host:port, check on, version 0"
        );
        assert_eq!(change.undrained, 1);
        let off = Upstream { check: None, ..new.clone() };
        assert!(line(Some(&new), Some(&off)).unwrap().contains(", check off,"));
        let other = Upstream { check: Some(Check { fall: 9, ..Check::default() }), ..new.clone() };
        assert!(line(Some(&new), Some(&other)).unwrap().contains(", check changed,"));
    }

    #[test]
    fn what_becomes_of_a_route_is_one_line() {
        let to = |upstream: &str| Route {
            host: "www".into(),
            targets: vec![crate::upstream::Target { upstream: upstream.into(), weight: 1 }],
            key: None,
        };
        let line = |old: Option<&Route>, new: Option<&Route>| Some(Difference::of_route("www", old, new)?.line("Lua"));
        let (blue, green) = (to("blue"), to("green"));
        assert_eq!(line(None, Some(&blue)).unwrap(), "route www: made by Lua: none -> blue, version 0");
        assert_eq!(line(Some(&blue), Some(&green)).unwrap(), "route www: changed by Lua: blue -> green, version 0");
        assert_eq!(line(Some(&green), None).unwrap(), "route www: deleted by Lua: green -> none, version 0");
        assert_eq!(line(Some(&blue), Some(&blue)), None);
        let entry = Difference::of_route("www", None, Some(&blue)).unwrap().entry("Lua", 7);
        assert_eq!((entry.name.as_str(), entry.summary.as_str()), ("route www", "none -> blue, version 0"));
    }

    #[test]
    fn changes_are_kept_while_they_are_recorded_and_no_longer() {
        let change = || Difference { upstream: "a".into(), ..Difference::default() };
        add(change());
        assert!(!records());
        let ((), changes) = record(|| {
            assert!(records());
            add(change());
            came_from(|change| format!("file of {}", change.upstream));
            add(change());
        });
        assert_eq!(changes.iter().map(|change| change.by.as_deref()).collect::<Vec<_>>(), [Some("file of a"), None]);
        assert!(std::panic::catch_unwind(|| record(|| panic!("on purpose"))).is_err());
        assert!(!records());
    }
}
