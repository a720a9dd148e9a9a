//! Files that are damaged, foreign or unfit, or go away.

use super::backends::Backends;
use super::load::{Connections, requests};
use super::place::Place;
use super::server::{Conf, Nginx};
use super::system::{is_root, worker_user};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

fn cannot_be_used(name: &str, message: &str, spoil: impl Fn(&Place, &Path)) {
    let place = Place::new(name);
    let backends = Backends::start(&place, 1);
    let file = place.write("upstreams.conf", &format!("upstream api {{ {} }}", backends.servers(&[""])));
    let mut conf = Conf::new(&place, 2).files(&[&file]);
    let region = conf.region_file();
    spoil(&place, &region);
    conf.init = Some(format!(
        r#"local ok, err = require("dyups").setup{{ shm_path = "{}", {} }}
           if not ok then ngx.log(ngx.ERR, "setup: ", err) end
           require "dyups.admin"
           require "ngx.balancer""#,
        conf.shm_path.display(),
        conf.setup
    ));
    conf.init_worker = r#"
        local ok, err = require("dyups").start()
        if not ok then ngx.log(ngx.ERR, "start: ", err) end"#
        .into();
    let before = fs::read(&region).ok();
    let nginx = Nginx::start(&place, &conf);
    let log = nginx.log();
    let line = log.lines().find(|line| line.contains("setup: ")).unwrap_or_else(|| panic!("no message:\n{log}"));
    assert!(line.contains(message) && line.contains(place.path("region").to_str().expect("UTF-8")), "{line}");

    const NOT_SET_UP: &str = "dyups.setup has not succeeded in this process";
    let worker_said = nginx.error_log();
    assert!(worker_said.contains(&format!("start: {NOT_SET_UP}")), "{worker_said}");
    for call in ["find('api')", "add_peer('api', { host = '10.0.0.1' })", "delete_upstream('api')", "status()"] {
        let answer = nginx.eval(&format!("return require('dyups').{call}"));
        assert!(answer.starts_with(&format!("nil {NOT_SET_UP}")), "{call}: {answer}");
    }
    for _ in 0..10 {
        assert_eq!(nginx.get("api", "/").status, 502);
    }
    let log = nginx.error_log();
    assert!(log.contains(&format!("dyups: {NOT_SET_UP}")), "{log}");
    let answer = nginx.admin("GET", "/list", "");
    assert_eq!(answer.status, 500);
    assert!(answer.header("x-dyups-error").is_some_and(|why| why.contains(NOT_SET_UP)), "{answer:?}");
    // A reload says it again, by now in the error log.
    nginx.reload();
    let log = nginx.error_log();
    assert!(log.lines().any(|line| line.contains("setup: ") && line.contains(message)), "{log}");
    assert_eq!(nginx.get("api", "/").status, 502);
    assert_eq!(fs::read(&region).ok(), before, "what is there is left alone");
    nginx.assert_calm();
}

#[test]
fn nginx_starts_where_the_region_is_a_symbolic_link_and_says_so() {
    cannot_be_used("symlink", "is a symbolic link", |place, path| {
        place.write("precious", "precious");
        symlink(place.path("precious"), path).expect("symlink");
    });
}

#[test]
fn nginx_starts_where_the_lock_file_is_a_symbolic_link_and_says_so() {
    cannot_be_used("symlink-lock", "is a symbolic link", |place, path| {
        symlink(place.path("nothing"), path.with_extension("lock")).expect("symlink");
    });
}

#[test]
fn nginx_starts_where_the_region_is_somebody_elses_kind_of_file_and_leaves_it_alone() {
    cannot_be_used("foreign", "is not a dyups region", |_, path| {
        fs::write(path, "a file of some other program, and long enough to have a header ".repeat(100)).expect("write");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
    });
}

#[test]
fn nginx_starts_where_the_region_belongs_to_another_user_and_says_whose_it_is() {
    if !is_root() {
        eprintln!("SKIPPED: only root can give a file away");
        return;
    }
    let (_, uid, _) = worker_user();
    cannot_be_used("owner", &format!("belongs to uid {uid}, not to uid 0"), |_, path| {
        fs::write(path, "").expect("write");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
        chown(path, Some(uid), None).expect("chown");
    });
}

#[test]
fn nginx_starts_where_others_may_open_the_region_and_says_so() {
    cannot_be_used("mode", "has mode 644", |_, path| {
        fs::write(path, "").expect("write");
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("chmod");
    });
}

#[test]
fn nginx_starts_where_the_region_is_a_directory_and_says_so() {
    cannot_be_used("directory", "is not a regular file", |_, path| fs::create_dir(path).expect("mkdir"));
}

fn served(nginx: &Nginx, backends: &Backends, counts: &[u64]) {
    let total = counts.iter().sum::<u64>() as usize;
    requests(nginx.traffic, "api", total, 4, Connections::Fresh).assert_all_good();
    assert_eq!(backends.take_counts(), counts);
}

#[test]
fn when_the_region_is_deleted_underneath_a_reload_warns_and_service_and_changes_go_on() {
    let place = Place::new("lost");
    let backends = Backends::start(&place, 2);
    let conf = Conf::new(&place, 2);
    let nginx = Nginx::start(&place, &conf);
    nginx.post("api", &backends.servers(&["weight=3", ""]));
    fs::remove_file(conf.region_file()).expect("unlink");
    served(&nginx, &backends, &[30, 10]);
    assert!(!nginx.log().contains("was deleted or replaced"));
    nginx.reload();
    nginx.wait_for_log(&format!("{} was deleted or replaced", conf.region_file().display()));
    served(&nginx, &backends, &[30, 10]);
    nginx.post("api", &backends.servers(&["", ""]));
    served(&nginx, &backends, &[20, 20]);
    nginx.reload();
    served(&nginx, &backends, &[20, 20]);
    assert_eq!(nginx.status()["region"]["lost"], true);
}

/// Where the descriptors of a process lead.
fn descriptors(pid: u32) -> Vec<String> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).expect("/proc").flatten();
    all.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned())).collect()
}

#[test]
fn a_worker_has_the_region_mapped_and_a_descriptor_of_its_lock_file_alone() {
    let place = Place::new("descriptors");
    let conf = Conf::new(&place, 2);
    let nginx = Nginx::start(&place, &conf);
    let region = conf.region_file().display().to_string();
    let lock = place.text("region.lock");
    nginx.reload();
    for pid in nginx.worker_pids().into_iter().chain([nginx.master()]) {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("/proc");
        assert!(maps.lines().any(|line| line.ends_with(&region) && line.contains(" rw-s ")), "{maps}");
        let mut open = descriptors(pid);
        open.retain(|path| path.starts_with(&place.text("region")));
        assert_eq!(open, [lock.as_str()], "pid {pid}");
    }
}

#[test]
fn another_shm_size_is_a_warning_at_reload_and_done_at_restart_with_the_table_kept() {
    let place = Place::new("size");
    let backends = Backends::start(&place, 2);
    let mut conf = Conf::new(&place, 2);
    let mut nginx = Nginx::start(&place, &conf);
    nginx.post("api", &backends.servers(&["weight=3", ""]));
    nginx.post("other", &backends.servers(&["backup"]));
    let small = 8 << 20;
    assert_eq!(nginx.status()["region"]["size"], small);
    let upstreams = |nginx: &Nginx| nginx.admin("GET", "/detail", "").body;
    let before = upstreams(&nginx);

    // Later fields win in Lua.
    conf.setup += "shm_size = \"16m\", ";
    nginx.configure(&conf);
    nginx.reload();
    let large = 16 << 20;
    nginx.wait_for_log(&format!("shm_size is {large}, but {} has {small} bytes", conf.region_file().display()));
    assert_eq!(nginx.status()["region"]["size"], small);
    served(&nginx, &backends, &[30, 10]);

    nginx.kill_all();
    nginx.start_again();
    assert_eq!(nginx.status()["region"]["size"], large);
    assert_eq!(upstreams(&nginx), before);
    served(&nginx, &backends, &[30, 10]);
    assert_eq!(fs::metadata(conf.region_file()).expect("the region").len(), large);
    nginx.assert_calm();
}

#[test]
fn without_init_by_lua_the_workers_make_the_region_and_share_one_table() {
    let place = Place::new("workers");
    let backends = Backends::start(&place, 3);
    let mut conf = Conf::new(&place, 2);
    conf.shm_path = place.workers_dir("shm").join("region");
    conf.init = Some("-- nothing".into());
    conf.init_worker = format!(
        "assert(require('dyups').setup{{ shm_path = '{}', shm_size = '1m' }})
         assert(require('dyups').start())",
        conf.shm_path.display()
    );
    let mut nginx = Nginx::start(&place, &conf);
    nginx.post("api", &backends.servers(&["weight=5", "", ""]));
    for _ in 0..5 {
        let seen = requests(nginx.traffic, "api", 140, 8, Connections::Fresh);
        seen.assert_all_good();
        assert_eq!(seen.workers.len(), 2, "both serve");
        assert_eq!(backends.take_counts(), [100, 20, 20]);
    }
    if is_root() {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(conf.region_file()).expect("the region");
        assert_eq!((meta.uid(), meta.mode() & 0o777), (worker_user().1, 0o600));
    }
    assert_eq!(nginx.status()["workers"].as_array().expect("workers").len(), 2);
    nginx.reload();
    served(&nginx, &backends, &[100, 20, 20]);
    nginx.kill_workers(&nginx.worker_pids());
    served(&nginx, &backends, &[100, 20, 20]);
    nginx.kill_all();
    nginx.start_again();
    served(&nginx, &backends, &[100, 20, 20]);
    nginx.assert_calm();
}
