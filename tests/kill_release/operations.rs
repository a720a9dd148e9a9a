//! Every call of the C ABI that changes a region, on every way that it can go.

use super::image::{BASE, Image};
use super::operation::{Operation, PATH, image_after};
use super::support::changes::{CHANGES, Call, Change, backup, json, peer, set, subject};
use super::support::{SMALL, Scratch, in_bucket};
use dyups::upstream::{Method, Peer, Upstream};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::iter;
use std::path::{Path, PathBuf};

/// Functions that store nothing in a region.
pub const READ_ONLY: [&str; 32] = [
    "abi",
    "balance_options",
    "balancing",
    "by",
    "cdef",
    "changes",
    "close",
    "draft",
    "draft_add",
    "draft_end",
    "error",
    "give_up",
    "keeps_by_address",
    "look",
    "lost",
    "method",
    "next",
    "notes",
    "open",
    "plain",
    "probe_feed",
    "probe_left",
    "probe_listens",
    "probe_news",
    "probes_due",
    "probing",
    "report",
    "route_variable",
    "routes",
    "status",
    "status_slices",
    "version",
];

/// Functions that are not stepped. The counts of a request need nginx. The repeated work of a worker needs leavings of
/// requests, or time. The kill points have all their stores.
pub const NOT_STEPPED: [&str; 7] = ["balance", "probe_end", "probe_next", "probe_stop", "probe_tick", "sweep", "tick"];

/// `setup` of the region in `dir`, with more fields.
pub fn setup(dir: &Path, size: u64, more: &str) -> String {
    setup_of(dir.join(BASE).to_str().expect("UTF-8"), size, more)
}

fn setup_here(more: &str) -> String {
    setup_of(PATH, SMALL, more)
}

fn setup_of(path: &str, size: u64, more: &str) -> String {
    // The tests copy all files at each death, so that of statistics is a small one.
    format!("setup\t{{\"shm_path\": \"{path}\", \"shm_size\": {size}, \"stats_size\": \"64k\"{more}}}")
}

/// All of them; images and files are made below `scratch`.
pub fn operations(scratch: &Scratch) -> Vec<Operation> {
    let mut all = births(scratch);
    let chain = Chain::new(scratch);
    for method in [Method::Rr, Method::Chash] {
        all.extend(CHANGES.iter().flat_map(|change| chain.change(change, method)));
        all.extend(chain.requests(method));
    }
    all.push(chain.without_room());
    all.extend(files(scratch));
    all
}

/// A region is made, found, or made anew.
fn births(scratch: &Scratch) -> Vec<Operation> {
    let none = Image::default();
    let dir = scratch.file("base");
    let split = [0, 1].map(|i| line(&set(&subject(&format!("split-{i}"), 1, Method::Rr))));
    let route = "set_route\twww\t[[\"split-0\", 1], [\"split-1\", 2]]".to_owned();
    let led = image_after(&dir, &none, &[vec![setup_here("")], split.to_vec(), vec![route]].concat());
    let set = line(&set(&subject("api", 2, Method::Rr)));
    let found = image_after(&dir, &none, &[setup_here(""), set.clone()]);
    let larger = image_after(&dir, &none, &[setup_of(PATH, 2 * SMALL, ""), set]);
    let made = [setup_here("")];
    vec![
        Operation::new("setup makes a region", &none, &[], setup_here("")),
        Operation::new("setup finds a region", &found, &[], setup_here("")),
        Operation::new("setup finds one of another size", &larger, &[], setup_here("")),
        Operation::new("setup finds a damaged one", &found.clone().damaged(), &[], setup_here("")),
        Operation::new(
            "setup takes over layout 1",
            &Image::of_layout_1(&scratch.file("layout-1")),
            &[],
            setup_here(""),
        ),
        Operation::new("a slot is claimed", &none, &made, "start").unlocked().short(),
        Operation::new("the first pick", &found, &made, "find\tapi\t").unlocked().short(),
        Operation::new("a pick by a key", &found, &made, "find\tapi\tkey").unlocked(),
        Operation::new("a request takes its turn", &led, &made, "route\twww").unlocked(),
        Operation::new("a pick for a cache", &found, &made, "find_cached\tapi\t").unlocked(),
    ]
}

/// The call as the driver takes it.
fn line(call: &Call) -> String {
    format!("{}\t{}\t{}", call.function, call.name, call.json)
}

/// Operations on one upstream, whose record stands in a chain before another one.
struct Chain {
    name: String,
    /// Only the other one is there.
    without: Image,
    /// The images after calls.
    bases: RefCell<BTreeMap<Vec<String>, Image>>,
    dir: PathBuf,
}

impl Chain {
    fn new(scratch: &Scratch) -> Chain {
        let [neighbour, name] = in_bucket(5, 2).try_into().expect("two");
        let dir = scratch.file("base");
        let neighbour = line(&set(&subject(&neighbour, 1, Method::Rr)));
        let without = image_after(&dir, &Image::default(), &[setup_here(""), neighbour]);
        Chain { name, without, bases: RefCell::default(), dir }
    }

    /// An image with the upstream after `calls`, which many operations share.
    fn base(&self, calls: &[Call]) -> Image {
        let calls = iter::once(setup_here("")).chain(calls.iter().map(line)).collect();
        let mut bases = self.bases.borrow_mut();
        bases.entry(calls).or_insert_with_key(|calls| image_after(&self.dir, &self.without, calls)).clone()
    }

    /// The change of upstreams with the numbers of peers that it names.
    fn change(&self, change: &'static Change, method: Method) -> impl Iterator<Item = Operation> {
        change.stepped.iter().map(move |&size| {
            let subject = subject(&self.name, size, method);
            let name = format!("{}: {}, {size} peers", method.name(), change.name);
            let base = self.base(&(change.before)(&subject));
            let operation = Operation::new(name, &base, &[setup_here("")], line(&(change.call)(&subject)));
            Operation { fails: (change.refused)(&subject), short: change.short && method == Method::Rr, ..operation }
        })
    }

    /// Changes by requests of HTTP, and by a draft.
    fn requests(&self, method: Method) -> [Operation; 6] {
        let name = &self.name;
        let three = &self.base(&[set(&subject(name, 3, method))]);
        let on = |what: &str, base: &Image, call: String| {
            Operation::new(format!("{}: {what}", method.name()), base, &[setup_here("")], call)
        };
        let post = |by: &str| format!("{by}\tPOST\t/upstream/{name}\tserver 10.0.0.1 weight=2;");
        let delete = |by: &str| format!("{by}\tDELETE\t/upstream/{name}\t");
        let serve = on("serve replaces it", three, post("serve"));
        let drafted = set(&subject(name, 4, method));
        [
            on("a draft replaces it", three, format!("draft_{}", line(&drafted))),
            on("admin makes it", &self.without, post("admin")),
            on("admin replaces it", three, post("admin")),
            on("admin deletes it", three, delete("admin")),
            Operation { short: method == Method::Rr, ..serve },
            on("serve deletes it", three, delete("serve")),
        ]
    }

    /// The ring of the primaries has got its block when that of the backups gets none.
    fn without_room(&self) -> Operation {
        let three = subject(&self.name, 3, Method::Chash);
        let too_large = Peer { weight: 300, ..backup() };
        let larger = Upstream { peers: vec![peer(0), too_large], ..three.clone() };
        Operation::new("no room", &self.base(&[set(&three)]), &[setup_here("")], line(&set(&larger))).fails()
    }
}

/// The table follows its files.
fn files(scratch: &Scratch) -> Vec<Operation> {
    let write = |name: &str, text: &str| {
        let path = scratch.file(name);
        std::fs::write(&path, text).expect("write");
        path.display().to_string()
    };
    let [a, b, c] = [0, 1, 2].map(|i| json(&peer(i)));
    let one = write("one.json", &format!(r#"{{"upstreams": {{"a": {{"peers": [{a}]}}, "b": {{"peers": [{b}]}}}}}}"#));
    let other = write(
        "other.json",
        &format!(r#"{{"upstreams": {{"a": {{"peers": [{a}, {c}]}}, "c": {{"method": "chash", "peers": [{a}]}}}}}}"#),
    );
    let nginx = write(
        "nginx.conf",
        "upstream a { server 10.0.0.1; server [::1]:8080 weight=2 backup; }\nupstream b { server 10.0.0.7; }",
    );
    let load = |path: &str| setup_here(&format!(", \"files\": \"{path}\""));
    let overwrite = |path: &str| setup_here(&format!(", \"files\": \"{path}\", \"overwrite\": true"));
    let (dir, none) = (scratch.file("base"), Image::default());
    let followed = image_after(&dir, &none, &[load(&one)]);
    let touch = |name: &str| format!("add_peer\t{name}\t{}", json(&backup()));
    let touched = image_after(&dir, &none, &[load(&one), touch("a"), touch("b"), touch("own")]);
    let delete = |name: &str| format!("delete_upstream\t{name}\t{{\"force\": true}}");
    let deleted = image_after(&dir, &none, &[load(&one), delete("a"), delete("b")]);
    let (reload, again) = ([load(&one)], [setup_here("")]);
    vec![
        Operation::new("setup makes a region and loads", &none, &[], load(&one)),
        Operation::new("setup loads nginx's syntax", &none, &[], load(&nginx)),
        Operation::new("setup finds a region and loads", &followed, &[], load(&other)),
        Operation::new("a reload follows the file", &none, &reload, load(&other)),
        Operation::new("a reload leaves what was touched", &touched, &again, load(&other)),
        Operation::new("a reload overwrites", &touched, &again, overwrite(&other)),
        Operation::new("a deletion is remembered", &followed, &again, delete("a")),
        Operation::new("a reload forgets deletions", &deleted, &again, load(&other)),
        Operation::new("a peer of a deleted upstream", &deleted, &again, touch("a")),
    ]
}

/// The repairs of the region that `operation` left when it was killed at `image`. One is by the next change of a process that
/// lives on, the other by the next start.
pub fn repairs(operation: &str, image: &Image) -> [Operation; 2] {
    let change = format!("add_peer\tafterwards\t{}", json(&peer(0)));
    [
        Operation::new(format!("{operation}: a change repairs"), image, &[setup_here("")], change).after_crash(image),
        Operation::new(format!("{operation}: setup repairs"), image, &[], setup_here("")),
    ]
}
