# setup and start: their options, their files, what they refuse and what they warn of.

use lib 't/lib';
use Dyups;
use Test::Nginx::Socket 'no_plan';

# The files that a region by the default name leaves behind.
sub default_regions { my $dir = "/dev/shm/dyups-$>"; glob "$dir/*t-servroot* $dir/.*t-servroot*" }
my $owner = $$;
END { unlink default_regions() if $$ == $owner }
unlink default_regions();

master_on();
workers(2);
no_long_string();
# The last two blocks are one test.
no_shuffle();
Dyups::defaults();
run_tests();

__DATA__

=== TEST 1: a JSON file fills the table, a path is relative to nginx's prefix
--- http_config eval: Dyups::proxy(setup => 'files = "html/up.json"')
--- user_files
>>> up.json
{"upstreams": {"api": {"peers": [{"host": "10.0.0.1", "port": 81, "weight": 3}], "method": "chash"}, "b": {"peers": []}}}
--- config
    location = /t {
        content_by_lua_block {
            ngx.say(T.peers("api"))
            local upstreams = dyups.status().upstreams
            T.say(upstreams.api.method, upstreams.api.origin, upstreams.b.peers)
            ngx.say(T.in_other_worker([[ return T.peers("api") ]]))
        }
    }
--- response_body
10.0.0.1:81 3 up
chash file {}
10.0.0.1:81 3 up


=== TEST 2: a file in nginx's syntax fills the table
--- http_config eval: Dyups::proxy(setup => 'files = { "html/up.conf" }')
--- user_files
>>> up.conf
# A comment; with a { brace
upstream api {
    server 10.0.0.1:81 weight=3 max_conns=5 max_fails=7 fail_timeout=1m slow_start=30s;
    server 10.0.0.2 backup;
    server unix:/run/a.sock down;
    server [::1] drain;
    hash $remote_addr consistent;
}
upstream "b" { server 10.0.0.3; }
--- config
    location = /t {
        content_by_lua_block {
            for peer in (T.peers("api") .. ", "):gmatch("(.-), ") do
                ngx.say(peer)
            end
            ngx.say(dyups.status("api").upstreams.api.method, " ", T.peers("b"))
        }
    }
--- response_body
10.0.0.1:81 3 up max_conns=5 max_fails=7 fail_timeout=60 slow_start=30
10.0.0.2:80 1 up server=10.0.0.2 backup=true
unix:/run/a.sock 1 down
[::1]:80 1 drain server=[::1]
chash 10.0.0.3:80 1 up server=10.0.0.3


=== TEST 3: files of both kinds add up
--- http_config eval: Dyups::proxy(setup => 'files = { "html/up.json", "html/up.conf" }')
--- user_files
>>> up.json

  {"upstreams": {"a": {"peers": [{"server": "10.0.0.1:81"}]}}}
>>> up.conf
upstream b { server 10.0.0.2:81; }
--- config
    location = /t {
        content_by_lua_block {
            ngx.say(T.peers("a"), ", ", T.peers("b"))
        }
    }
--- response_body
10.0.0.1:81 1 up, 10.0.0.2:81 1 up


=== TEST 4: a file that cannot be used is named with its line, and changes nothing
--- http_config eval
my %file = (
    'not-json.json'  => qq({"upstreams": {\n "a": 1,\n}}),
    'twice.json'     => qq({"upstreams": {"a": {"peers": []}, "a": {"peers": []}}}),
    'field.json'     => qq({"upstreams": {"a": {"peers": [{"host": "10.0.0.1"}, {"host": "10.0.0.2", "weight": -1}]}}}),
    'unknown.json'   => qq({"upstreams": {"a": {"peers": [{"host": "10.0.0.1", "wieght": 1}]}}}),
    'name.json'      => qq({"upstreams": {"a b": {"peers": []}}}),
    'server.conf'    => qq(upstream a {\n    server 10.0.0.1;\n    server api.local;\n}\n),
    'weight.conf'    => qq(upstream a {\n    server 10.0.0.1\n        weight=-1;\n}\n),
    'semicolon.conf' => qq(upstream a {\n    server 10.0.0.1\n}\n),
    'open.conf'      => qq(\nupstream a {\n    server 10.0.0.1;\n),
    'method.conf'    => qq(upstream a {\n    least_time header;\n    server 10.0.0.1;\n}\n),
    'none.conf'      => qq(upstream a {\n}\n),
    'other.conf'     => qq(http {\n}\n),
    'again.conf'     => qq(upstream static { server 10.0.0.9; }\n),
    'empty.conf'     => '',      # No upstreams, so nothing is wrong.
);
my $good = Dyups::file('static.conf', 'upstream static { server 10.0.0.1:81; }');
my $bad  = CORE::join "\n", map { my $path = Dyups::file($_, $file{$_}); qq(try("$path");) } sort keys %file;
my $dir  = Dyups::dir();
Dyups::proxy(setup => qq(files = "$good"), init => qq{
    out = {}
    local path = T.shm_path
    local before = T.show(dyups.status())
    local function try(...)
        local ok, err = dyups.setup{ shm_path = path, shm_size = "1m", files = { "$good", ... } }
        out[#out + 1] = tostring(ok) .. " " .. tostring(err)
        if T.show(dyups.status()) ~= before then
            out[#out + 1] = "changed"
            before = T.show(dyups.status())
        end
    end
    $bad
    try("$dir/absent")
    try("$dir")
})
--- config
    location = /t {
        content_by_lua_block {
            for _, line in ipairs(out) do
                -- The directory, and what the system says.
                ngx.say((line:gsub("/[%w/_.-]*/", "")))
            end
        }
    }
--- response_body_like eval
qr{^nil again\.conf: upstream static is in static\.conf already
nil empty\.conf: empty: allowed: JSON, .*
nil field\.json: upstreams\.a\.peers\[1\]\.weight: -1: allowed: an integer from 0 to 65535
nil method\.conf:2: "least_time": not in this version; until it is: least_conn; or, where there are many peers, random two
nil name\.json: upstream "a b": allowed: a name of 1 to 255 bytes .*
nil none\.conf:1: no servers are inside upstream "a"
nil not-json\.json: not JSON: .* at line 3 column 1
nil open\.conf:2: upstream "a" is not closed by "\}"
nil other\.conf:1: "http": allowed: upstream NAME \{ \.\.\. \}, include FILE
nil semicolon\.conf:2: "server" is not (?:ended|terminated) by ";"
nil server\.conf:3: server: "api\.local": a name that needs DNS; allowed: .*
nil twice\.json: JSON: key "a" is there twice at line 1 column \d+
nil unknown\.json: upstreams\.a\.peers\[0\]\.wieght: not known to this version; known: host, port, .*
nil weight\.conf:3: weight: "-1": allowed: an integer from 0 to 65535
nil absent: No such file.*
nil .*: not a regular file: allowed: a file with upstreams$}


=== TEST 5: what belongs into nginx.conf is ignored with a warning
--- http_config eval: Dyups::proxy(setup => 'files = "html/up.conf"')
--- user_files
>>> up.conf
upstream api {
    zone api 64k;
    server 10.0.0.1:81;
    keepalive 32;
    keepalive_timeout 60s;
}
--- config
    location = /t {
        content_by_lua_block {
            ngx.say(T.peers("api"))
        }
    }
--- response_body
10.0.0.1:81 1 up
--- error_log eval
[
qr{\[warn\] .*dyups: .*html/up\.conf:2: zone belongs into nginx\.conf's upstream block: ignored},
qr{\[warn\] .*dyups: .*html/up\.conf:4: keepalive belongs into nginx\.conf's upstream block: ignored},
qr{\[warn\] .*dyups: .*html/up\.conf:5: keepalive_timeout belongs into nginx\.conf's upstream block: ignored},
]
--- no_error_log
[error]
[alert]


=== TEST 6: start and setup may be called again
--- http_config eval
my $file = Dyups::file('again.json', '{"upstreams": {"api": {"peers": [{"host": "10.0.0.1", "port": 81}]}}}');
Dyups::proxy(setup => qq(files = "$file"), init => qq{
    again = function()
        return dyups.setup{ shm_path = T.shm_path, shm_size = "1m", files = "$file" }
    end
    assert(again())
}, init_worker => q{
    assert(dyups.start())
})
--- config
    location = /t {
        content_by_lua_block {
            local before = T.show(dyups.status().upstreams)
            for _ = 1, 3 do
                T.say(dyups.start(), again())
                ngx.say(T.in_other_worker([[ return T.show(dyups.start()) .. " " .. T.show(again()) ]]))
            end
            ngx.say(#dyups.status().workers, " ", T.show(dyups.status().upstreams) == before)
        }
    }
--- response_body
true true
true true
true true
true true
true true
true true
2 true


=== TEST 7: setup with another region or size keeps the one that is mapped, and says so
--- http_config eval
my $other = Dyups::shm_path('other');
Dyups::proxy(init => qq{
    local path = dyups.status().region.path
    assert(dyups.add_peer("api", { host = "10.0.0.1" }))
    out = {
        T.show(dyups.setup{ shm_path = "$other", shm_size = "1m" }),
        T.show(dyups.setup{ shm_path = T.shm_path, shm_size = "2m" }),
        tostring(dyups.status().region.path == path),
        T.peers("api"),
    }
})
--- config
    location = /t {
        content_by_lua_block {
            ngx.say(table.concat(out, "\n"))
        }
    }
--- response_body
true
true
true
10.0.0.1:80 1 up server=10.0.0.1
--- error_log eval
[
qr{\[warn\] .*dyups: .*/other},
qr{\[warn\] .*dyups: .*shm_size is 2097152, but .* has 1048576},
]


=== TEST 8: an untouched upstream follows its file, a changed or deleted one only with overwrite
--- http_config eval
my $first  = Dyups::file('first.conf',  CORE::join '', map "upstream $_ { server 10.0.0.1:81; }\n", qw(calm changed deleted gone));
my $second = Dyups::file('second.conf', CORE::join '', map "upstream $_ { server 10.0.0.2:81; }\n", qw(calm changed deleted new));
Dyups::proxy(setup => qq(files = "$first"), init => qq{
    load = function(overwrite, ...)
        local conf = { shm_path = T.shm_path, shm_size = "1m", files = { ... }, overwrite = overwrite }
        assert(dyups.setup(conf))
        local names = { "calm", "changed", "deleted", "gone", "new", "runtime" }
        for i, name in ipairs(names) do
            names[i] = T.peers(name):gsub("upstream ", ""):gsub(":81 1 up", ""):gsub("10.0.0.", name .. "=")
        end
        return table.concat(names, ", ")
    end
    out = { load(nil, "$first") }
    assert(dyups.add_peer("changed", { host = "10.0.0.3", port = 81 }))
    assert(dyups.delete_upstream("deleted", { force = true }))
    assert(dyups.add_peer("runtime", { host = "10.0.0.4", port = 81 }))
    table.insert(out, load(nil, "$first"))
    table.insert(out, load(false, "$second"))
    table.insert(out, load(true, "$second"))
    assert(dyups.delete_upstream("deleted", { force = true }))
    table.insert(out, load(nil))
    table.insert(out, load(nil, "$second"))
})
--- config
    location = /t {
        content_by_lua_block {
            ngx.say(table.concat(out, "\n"))
        }
    }
--- response_body
calm=1, changed=1, deleted=1, gone=1, new: not found, runtime: not found
calm=1, changed=1, changed=3, deleted: not found, gone=1, new: not found, runtime=4
calm=2, changed=1, changed=3, deleted: not found, gone: not found, new=2, runtime=4
calm=2, changed=2, deleted=2, gone: not found, new=2, runtime=4
calm: not found, changed: not found, deleted: not found, gone: not found, new: not found, runtime=4
calm=2, changed=2, deleted=2, gone: not found, new=2, runtime=4


=== TEST 9: without shm_path the region lies in /dev/shm by the first 48 characters of nginx's prefix, for this user alone
--- http_config eval
my $prefix = substr Cwd::realpath($Test::Nginx::Util::ServRoot), 1, 48;
$prefix =~ s/[^A-Za-z0-9._-]/-/g;
Dyups::http_config(init => qq{
    prefix = "$prefix"
    assert(require("dyups").setup())
    assert(require("dyups").setup{})
})
--- config
    location = /t {
        content_by_lua_block {
            local region = require("dyups").status().region
            local before, after = region.path:match("^/dev/shm/dyups%-%d+/(.*)%-%x%x%x%x%x%x%x%x%.v(%d+)$")
            ngx.say(before == prefix and after and "by its prefix" or region.path)
            ngx.say(region.size)
        }
    }
--- response_body
by its prefix
134217728


=== TEST 10: the region is its owner's alone, and so is its directory
--- http_config eval: Dyups::http_config(init => q{ assert(require("dyups").setup()) })
--- config
    location = /t {
        content_by_lua_block {
            local path = require("dyups").status().region.path
            local pipe = io.popen("stat -c %A " .. path:match("^(.*)/") .. "; id -u")
            ngx.say(pipe:read("*l"))
            local is_root = pipe:read("*l") == "0"
            pipe:close()
            ngx.say(not is_root and io.open(path) and "open to all" or "closed")
        }
    }
--- response_body
drwx------
closed


=== TEST 11: before setup every function says what is missing
--- http_config eval: Dyups::http_config()
--- config
    location = /t {
        content_by_lua_block {
            local dyups = require "dyups"
            local peer = { host = "10.0.0.1" }
            for _, call in ipairs {
                { "start" }, { "find", "api" }, { "find", "api", "key", "chash" }, { "status" }, { "status", "api" },
                { "add_peer", "api", peer }, { "set_peer", "api", peer }, { "delete_peer", "api", peer },
                { "set_upstream", "api", { peers = {} } }, { "delete_upstream", "api" }, { "healthcheck", "api", {} },
            } do
                local ok, err = dyups[call[1]](unpack(call, 2))
                ngx.say(call[1], " ", ok, " ", err:match("^dyups%.setup has not succeeded in this process") or err)
            end
        }
    }
--- response_body
start nil dyups.setup has not succeeded in this process
find nil dyups.setup has not succeeded in this process
find nil dyups.setup has not succeeded in this process
status nil dyups.setup has not succeeded in this process
status nil dyups.setup has not succeeded in this process
add_peer nil dyups.setup has not succeeded in this process
set_peer nil dyups.setup has not succeeded in this process
delete_peer nil dyups.setup has not succeeded in this process
set_upstream nil dyups.setup has not succeeded in this process
delete_upstream nil dyups.setup has not succeeded in this process
healthcheck nil dyups.setup has not succeeded in this process


=== TEST 12: without the library every function says where it was looked for
--- http_config eval
Dyups::http_config(init => q{
    package.cpath = "/nowhere/?.so"
    dyups = require "dyups"
    admin = require "dyups.admin"
})
--- config
    location = /t {
        content_by_lua_block {
            local said = {}
            for name, call in pairs(dyups) do
                if type(call) == "function" then
                    local ok, err = call("api", {})
                    said[#said + 1] = name .. ": " .. tostring(ok) .. " " .. err:gsub("%s+", " "):gsub("%d+%.%d+%.%d+", "V")
                end
            end
            table.sort(said)
            ngx.say(table.concat(said, "\n"))
        }
    }
--- response_body
add_peer: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
balance: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
delete_peer: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
delete_route: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
delete_upstream: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
find: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
healthcheck: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
log: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
on: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
report: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
route: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
routes: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
set_peer: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
set_route: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
set_upstream: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
setup: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
start: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
status: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'
tried: nil dyups: libdyups-V.so is not in lua_package_cpath; looked for no file '/nowhere/libdyups-V.so'


=== TEST 13: with lua_code_cache off, when setup runs in every request, the table stays
--- http_config eval: Dyups::proxy(more => 'lua_code_cache off;')
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 1, 2)
            ngx.say(T.get("api"), " ", T.get("api"), " ", T.in_other_worker("return #dyups.status('api').upstreams.api.peers"))
        }
    }
--- response_body
1 2 2
--- no_error_log
[error]
[crit]


=== TEST 14: the table outlives nginx: what was set is there after a restart
--- http_config eval: Dyups::proxy(shm => 'kept')
--- config
    location = /t {
        content_by_lua_block {
            T.say(dyups.set_upstream("api", { peers = { { host = "10.0.0.1", port = 81, weight = 4 } } }))
        }
    }
--- response_body
true


=== TEST 15: the table outlives nginx, second part
--- http_config eval: Dyups::proxy(shm => 'kept', more => '# another configuration, another nginx')
--- config
    location = /t {
        content_by_lua_block {
            ngx.say(T.peers("api"))
        }
    }
--- response_body
10.0.0.1:81 4 up
