//! Every call of the C ABI that changes a region, on every way that it can go.

use super::image::{BASE, Image};
use super::operation::{Operation, PATH, image_after};
use super::support::{SMALL, Scratch, in_bucket};
use std::path::{Path, PathBuf};

/// Functions that store nothing in a region.
pub const READ_ONLY: [&str; 23] = [
    "abi",
    "balance_options",
    "balancing",
    "by",
    "cdef",
    "changes",
    "close",
    "error",
    "keeps_by_address",
    "look",
    "lost",
    "method",
    "notes",
    "open",
    "plain",
    "probe_feed",
    "probe_left",
    "probe_listens",
    "probe_news",
    "probes_due",
    "probing",
    "status",
    "version",
];

/// Functions that are not stepped. The counts of a request need nginx. The repeated work of a worker needs leavings of
/// requests, or time. The kill points have all their stores.
pub const NOT_STEPPED: [&str; 7] = ["balance", "probe_end", "probe_next", "probe_stop", "probe_tick", "sweep", "tick"];

const ONE: &str = r#"{"server": "10.0.0.1:80"}"#;
const TWO: &str = r#"{"server": "[::1]:8080", "weight": 2}"#;
/// Its text does not fit into the words of a peer.
const THREE: &str = r#"{"server": "unix:/a/long/path/that/stands/behind/the/words/of/the/peers.sock"}"#;
const BACKUP: &str = r#"{"server": "10.0.0.4:80", "backup": true}"#;

/// `setup` of the region in `dir`, with more fields.
pub fn setup(dir: &Path, size: u64, more: &str) -> String {
    setup_of(dir.join(BASE).to_str().expect("UTF-8"), size, more)
}

fn setup_here(more: &str) -> String {
    setup_of(PATH, SMALL, more)
}

fn setup_of(path: &str, size: u64, more: &str) -> String {
    format!("setup\t{{\"shm_path\": \"{path}\", \"shm_size\": {size}{more}}}")
}

/// All of them; images and files are made below `scratch`.
pub fn operations(scratch: &Scratch) -> Vec<Operation> {
    let mut all = births(scratch);
    for method in ["rr", "chash"] {
        all.extend(Upstream::new(scratch, method).operations());
    }
    all.push(Upstream::new(scratch, "chash").without_room());
    all.extend(files(scratch));
    all
}

/// A region is made, found, or made anew.
fn births(scratch: &Scratch) -> Vec<Operation> {
    let none = Image::default();
    let dir = scratch.file("base");
    let set = format!("set_upstream\tapi\t{{\"peers\": [{ONE}, {TWO}]}}");
    let found = image_after(&dir, &none, &[setup_here(""), set.clone()]);
    let larger = image_after(&dir, &none, &[setup_of(PATH, 2 * SMALL, ""), set]);
    let made = [setup_here("")];
    vec![
        Operation::new("setup makes a region", &none, &[], setup_here("")),
        Operation::new("setup finds a region", &found, &[], setup_here("")),
        Operation::new("setup finds one of another size", &larger, &[], setup_here("")),
        Operation::new("setup finds a damaged one", &found.clone().damaged(), &[], setup_here("")),
        Operation::new("a slot is claimed", &none, &made, "start").unlocked().short(),
        Operation::new("the first pick", &found, &made, "find\tapi\t").unlocked().short(),
        Operation::new("a pick by a key", &found, &made, "find\tapi\tkey").unlocked(),
        Operation::new("a pick for a cache", &found, &made, "find_cached\tapi\t").unlocked(),
    ]
}

/// Operations on one upstream, whose record stands in a chain before another one.
struct Upstream {
    method: &'static str,
    name: String,
    /// Only the other one is there.
    without: Image,
    dir: PathBuf,
}

impl Upstream {
    fn new(scratch: &Scratch, method: &'static str) -> Upstream {
        let [neighbour, name] = in_bucket(5, 2).try_into().expect("two");
        let neighbour = format!("set_upstream\t{neighbour}\t{{\"peers\": [{ONE}]}}");
        let dir = scratch.file("base");
        let without = image_after(&dir, &Image::default(), &[setup_here(""), neighbour]);
        Upstream { method, name, without, dir }
    }

    fn set(&self, peers: &[&str]) -> String {
        let (name, method, peers) = (&self.name, self.method, peers.join(", "));
        format!("set_upstream\t{name}\t{{\"method\": \"{method}\", \"peers\": [{peers}]}}")
    }

    fn peer(&self, function: &str, peer: &str) -> String {
        format!("{function}\t{}\t{peer}", self.name)
    }

    /// An image with the upstream after `calls`.
    fn base(&self, calls: &[String]) -> Image {
        image_after(&self.dir, &self.without, &[&[setup_here("")], calls].concat())
    }

    fn operations(&self) -> Vec<Operation> {
        let name = &self.name;
        let made = [setup_here("")];
        let on = |what: &str, base: &Image, call: String| {
            Operation::new(format!("{}: {what}", self.method), base, &made, call)
        };
        let none = &self.without;
        let empty = &self.base(&[self.set(&[])]);
        let one = &self.base(&[self.set(&[ONE])]);
        let three = &self.base(&[self.set(&[ONE, TWO, THREE])]);
        let checked = &self.base(&[self.set(&[ONE]), self.peer("healthcheck", r#"{"default_down": true}"#)]);
        let undeclared = &self.base(&[format!("set_upstream\t{name}\t{{\"peers\": [{ONE}, {TWO}]}}")]);
        let short = |operation: Operation| if self.method == "rr" { operation.short() } else { operation };
        vec![
            on("set_upstream makes it", none, self.set(&[ONE, TWO, THREE, BACKUP])),
            on("set_upstream makes an empty one", none, self.set(&[])),
            on("set_upstream replaces it", one, self.set(&[TWO, THREE, BACKUP])),
            on("set_upstream makes it smaller", three, self.set(&[TWO])),
            on("set_upstream empties it", three, self.set(&[])),
            short(on("add_peer makes it", none, self.peer("add_peer", ONE))),
            on("add_peer adds the first", empty, self.peer("add_peer", ONE)),
            short(on("add_peer adds the second", one, self.peer("add_peer", THREE))),
            on("add_peer adds a backup", three, self.peer("add_peer", BACKUP)),
            on("add_peer changes one", three, self.peer("add_peer", r#"{"server": "[::1]:8080", "weight": 5}"#)),
            on("set_peer: weight", three, self.peer("set_peer", r#"{"server": "10.0.0.1", "weight": 3}"#)),
            on("set_peer: no weight", one, self.peer("set_peer", r#"{"server": "10.0.0.1", "weight": 0}"#)),
            on("set_peer: down", three, self.peer("set_peer", r#"{"server": "10.0.0.1", "status": "down"}"#)),
            on("set_peer: drain", three, self.peer("set_peer", r#"{"server": "[::1]:8080", "status": "drain"}"#)),
            on("set_peer: backup", three, self.peer("set_peer", r#"{"server": "10.0.0.1", "backup": true}"#)),
            on(
                "set_peer: what no ring shows",
                three,
                self.peer("set_peer", r#"{"server": "10.0.0.1", "max_fails": 7}"#),
            ),
            on("delete_peer: one of three", three, self.peer("delete_peer", TWO)),
            on("delete_peer: the last", one, self.peer("delete_peer", ONE)),
            short(on("delete_upstream with peers", three, self.peer("delete_upstream", r#"{"force": true}"#))),
            on("delete_upstream without", empty, self.peer("delete_upstream", "null")),
            on("healthcheck begins", three, self.peer("healthcheck", r#"{"default_down": true}"#)),
            short(on("healthcheck changes", checked, self.peer("healthcheck", r#"{"type": "tcp"}"#))),
            short(on("healthcheck ends", checked, self.peer("healthcheck", "false"))),
            on("add_peer to one that is checked", checked, self.peer("add_peer", TWO)),
            on("build_ring", undeclared, format!("build_ring\t{name}")),
            on("admin makes it", none, format!("admin\tPOST\t/upstream/{name}\tserver 10.0.0.1 weight=2;")),
            on("admin replaces it", three, format!("admin\tPOST\t/upstream/{name}\tserver 10.0.0.1 weight=2;")),
            on("admin deletes it", three, format!("admin\tDELETE\t/upstream/{name}\t")),
            short(on("serve replaces it", three, format!("serve\tPOST\t/upstream/{name}\tserver 10.0.0.1 weight=2;"))),
            on("serve deletes it", three, format!("serve\tDELETE\t/upstream/{name}\t")),
        ]
    }

    /// The ring of the primaries has got its block when that of the backups gets none.
    fn without_room(&self) -> Operation {
        let three = &self.base(&[self.set(&[ONE, TWO, THREE])]);
        let too_large = r#"{"server": "10.0.0.9", "backup": true, "weight": 300}"#;
        Operation::new("no room", three, &[setup_here("")], self.set(&[ONE, too_large])).fails()
    }
}

/// The table follows its files.
fn files(scratch: &Scratch) -> Vec<Operation> {
    let write = |name: &str, text: &str| {
        let path = scratch.file(name);
        std::fs::write(&path, text).expect("write");
        path.display().to_string()
    };
    let one =
        write("one.json", &format!(r#"{{"upstreams": {{"a": {{"peers": [{ONE}]}}, "b": {{"peers": [{TWO}]}}}}}}"#));
    let other = write(
        "other.json",
        &format!(
            r#"{{"upstreams": {{"a": {{"peers": [{ONE}, {THREE}]}}, "c": {{"method": "chash", "peers": [{ONE}]}}}}}}"#
        ),
    );
    let nginx = write(
        "nginx.conf",
        "upstream a { server 10.0.0.1; server [::1]:8080 weight=2 backup; }\nupstream b { server 10.0.0.7; }",
    );
    let load = |path: &str| setup_here(&format!(", \"files\": \"{path}\""));
    let overwrite = |path: &str| setup_here(&format!(", \"files\": \"{path}\", \"overwrite\": true"));
    let (dir, none) = (scratch.file("base"), Image::default());
    let followed = image_after(&dir, &none, &[load(&one)]);
    let touch = |name: &str| format!("add_peer\t{name}\t{BACKUP}");
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

/// The repairs of the region that `operation` left when it was killed at `image`: by the next change of a process that lives
/// on, and by the next start.
pub fn repairs(operation: &str, image: &Image) -> [Operation; 2] {
    let change = format!("add_peer\tafterwards\t{ONE}");
    [
        Operation::new(format!("{operation}: a change repairs"), image, &[setup_here("")], change).after_crash(image),
        Operation::new(format!("{operation}: setup repairs"), image, &[], setup_here("")),
    ]
}
