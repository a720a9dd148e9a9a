//! Backends: an nginx of its own, whose servers answer with their names and count the requests that arrive.

use super::place::{self, Place};
use super::server::Nginx;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

pub struct Backends {
    nginx: Nginx,
    /// A line for each request of [`super::wrk`]: when it began, when it arrived, and where.
    pub log: PathBuf,
    /// Where they listen, as a `server` line and `listen` spell it; each answers with just this text.
    pub names: Vec<String>,
}

const HEAD: &str = r#"
worker_processes 1;
daemon off;
pid nginx.pid;
error_log error.log warn;
events { worker_connections 8192; }
http {
    log_format arrivals "$http_x_begun $arrived $server_addr:$server_port";
    map $http_x_begun $from_wrk { "" 0; default 1; }
    access_log requests.log arrivals if=$from_wrk;
    keepalive_requests 10000000;
    client_body_temp_path body;
    proxy_temp_path       proxy;
    fastcgi_temp_path     fastcgi;
    uwsgi_temp_path       uwsgi;
    scgi_temp_path        scgi;
    lua_shared_dict counts 1m;
"#;

impl Backends {
    /// `count` of them on free ports.
    pub fn start(place: &Place, count: usize) -> Backends {
        Backends::at(place, (0..count).map(|_| place::free_address().to_string()).collect())
    }

    pub fn at(place: &Place, names: Vec<String>) -> Backends {
        let admin = place::free_address();
        let mut text: String = place::nginx().1.iter().map(|module| format!("load_module {module};\n")).collect();
        text += HEAD;
        text += &format!(
            "lua_package_path \"{}/?.lua;;\"; init_by_lua_block {{ require \"clock\" }}\n",
            place.clock().parent().expect("a directory").display()
        );
        for name in &names {
            text += &format!(
                "server {{ listen {name}; location / {{ set $arrived 0; content_by_lua_block {{
                     if ngx.var.from_wrk == \"1\" then ngx.var.arrived = require(\"clock\")() end
                     ngx.shared.counts:incr(\"{name}\", 1, 0)
                     ngx.header.content_length = {}
                     ngx.print(\"{name}\")
                 }} }} }}\n",
                name.len()
            );
        }
        text += &format!(
            "server {{ listen {admin}; location / {{ content_by_lua_block {{
                 local counts = ngx.shared.counts
                 for _, name in ipairs(counts:get_keys(0)) do
                     ngx.say(name, \" \", counts:get(name))
                 end
                 counts:flush_all()
                 counts:flush_expired()
             }} }} }}\n}}\n"
        );
        let prefix = place.path("backends");
        Backends { nginx: Nginx::with_text(&prefix, &text, 1, admin, admin), log: prefix.join("requests.log"), names }
    }

    /// Requests that arrived since the last call, in the order of `names`.
    pub fn take_counts(&self) -> Vec<u64> {
        let answer = self.nginx.admin("GET", "/", "");
        let counts: BTreeMap<&str, u64> =
            answer.body.lines().filter_map(|line| line.split_once(' ')).map(|(k, n)| (k, n.parse().unwrap())).collect();
        self.names.iter().map(|name| counts.get(name.as_str()).copied().unwrap_or(0)).collect()
    }

    /// `server` lines of an upstream; the parameters go with the backends in order.
    pub fn servers(&self, parameters: &[&str]) -> String {
        self.names.iter().zip(parameters).map(|(name, parameter)| format!("server {name} {parameter};\n")).collect()
    }

    /// One of them as Lua's peer table, with more fields.
    pub fn peer(&self, index: usize, more: &str) -> String {
        let address: SocketAddr = self.names[index].parse().expect("an address");
        format!("{{ host = \"{}\", port = {}, {more} }}", address.ip(), address.port())
    }
}
