//! The Lua side: its library, and lua_code_cache.

use super::backends::Backends;
use super::load::{Connections, requests};
use super::place::{self, Place};
use super::server::{Conf, Nginx};

/// Logs an error of setup and lets nginx start.
const INIT: &str = r#"
    local ok, err = require("dyups").setup{}
    if not ok then ngx.log(ngx.ERR, "setup: ", err) end
    require "dyups.admin"
    require "ngx.balancer"
"#;

const INIT_WORKER: &str = r#"
    local ok, err = require("dyups").start()
    if not ok then ngx.log(ngx.ERR, "start: ", err) end
"#;

const FUNCTIONS: [&str; 10] = [
    "setup",
    "start",
    "find",
    "tried",
    "add_peer",
    "set_peer",
    "delete_peer",
    "set_upstream",
    "delete_upstream",
    "status",
];

/// Nothing works, nothing throws, and `message` is everywhere that a user would look.
fn assert_says(nginx: &Nginx, message: &str) {
    for function in FUNCTIONS {
        let answer = nginx.eval(&format!("return require('dyups').{function}('x', {{}})"));
        assert!(answer.starts_with("nil ") && answer.contains(message), "{function}: {answer}");
    }
    assert!(nginx.log().contains("setup: dyups: ") && nginx.log().contains(message), "{}", nginx.log());
    assert_eq!(nginx.get("api", "/").status, 502);
    let answer = nginx.admin("GET", "/list", "");
    assert_eq!(answer.status, 500);
    assert!(answer.header("x-dyups-error").is_some_and(|why| why.contains(message)), "{answer:?}");
    nginx.assert_calm();
}

#[test]
fn without_the_library_nginx_starts_and_every_function_says_where_it_was_looked_for() {
    let place = Place::new("no-library");
    let mut conf = Conf::new(&place, 1);
    conf.cpath = format!("{}/?.so", place.text("nowhere"));
    (conf.init, conf.init_worker) = (Some(INIT.into()), INIT_WORKER.into());
    let nginx = Nginx::start(&place, &conf);
    assert_says(&nginx, "is not in lua_package_cpath; looked for");
    let library = place::library().file_name().expect("a name").to_str().expect("UTF-8").to_owned();
    assert_says(&nginx, &format!("{}/{library}", place.text("nowhere")));
}

#[test]
fn a_library_of_another_abi_is_refused_with_the_advice_to_restart() {
    let place = Place::new("abi");
    let mut conf = Conf::new(&place, 1);
    place::copy(place::root(), &place.path("other"), &["lua"]);
    conf.lua = place.path("other/lua");
    let library_lua = conf.lua.join("dyups/library.lua");
    let text = std::fs::read_to_string(&library_lua).expect("library.lua");
    let line = text.lines().find(|line| line.starts_with("local ABI = ")).expect("the ABI").to_owned();
    std::fs::write(&library_lua, text.replace(&line, "local ABI = 999")).expect("write");
    (conf.init, conf.init_worker) = (Some(INIT.into()), INIT_WORKER.into());
    let nginx = Nginx::start(&place, &conf);
    assert_says(&nginx, "lua/dyups needs 999: restart nginx, or upgrade it by USR2");
}

#[test]
fn with_lua_code_cache_off_setup_runs_in_every_request_and_all_works() {
    let place = Place::new("no-cache");
    let backends = Backends::start(&place, 3);
    let file =
        place.write("upstreams.conf", &format!("upstream api {{ {} }}", backends.servers(&["weight=5", "", ""])));
    let mut conf = Conf::new(&place, 2).files(&[&file]);
    conf.code_cache = false;
    // The workers run setup themselves, as their own user.
    conf.shm_path = place.workers_dir("shm").join("region");
    let nginx = Nginx::start(&place, &conf);
    let seen = requests(nginx.traffic, "api", 140, 4, Connections::Fresh);
    seen.assert_all_good();
    assert_eq!(backends.take_counts(), [100, 20, 20]);
    // A change is met by all workers, and stays when setup loads the file again.
    nginx.post("api", &backends.servers(&["", "", ""]));
    nginx.change(&format!("add_peer('other', {})", backends.peer(2, "")));
    requests(nginx.traffic, "api", 150, 4, Connections::Fresh).assert_all_good();
    assert_eq!(backends.take_counts(), [50, 50, 50]);
    assert_eq!(nginx.get("other", "/").body, backends.names[2]);
    assert_eq!(nginx.get("no-such", "/").status, 502);
    let status = nginx.status();
    assert_eq!(status["upstreams"]["api"]["origin"], "runtime");
    assert_eq!(status["upstreams"].as_object().expect("upstreams").len(), 2);
    assert_eq!(status["workers"].as_array().expect("workers").len(), 2);
    assert_eq!(nginx.admin("DELETE", "/upstream/other", "").body, "success");
    assert_eq!(nginx.admin("GET", "/list", "").body, "api\n");
}
