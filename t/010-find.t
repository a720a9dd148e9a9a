# find picks peers: in every phase, by every method, through real proxying.

use lib 't/lib';
use Dyups;
use Test::Nginx::Socket 'no_plan';

sub has_ipv6 { require IO::Socket::IP; defined IO::Socket::IP->new(LocalHost => '::1', LocalPort => 0, Listen => 1) }

repeat_each(2);
master_on();
workers(2);
no_long_string();
Dyups::defaults();
run_tests();

__DATA__

=== TEST 1: rr proxies in nginx's order over both workers
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            dyups.delete_upstream("api", { force = true })
            T.set("api", { n = 1, weight = 5 }, { n = 2, weight = 1 }, { n = 3, weight = 1 })
            local answers, workers = {}, {}
            for i = 1, 14 do
                answers[i] = T.get("api")
            end
            ngx.say(table.concat(answers, " "))
        }
    }
--- response_body
1 1 2 1 3 1 1 1 1 2 1 3 1 1


=== TEST 2: rr counts on over finds of both workers
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            dyups.delete_upstream("api", { force = true })
            T.set("api", 1, 2, 3, 4)
            local here, there = T.finds(2, "api"), T.in_other_worker([[ return T.finds(2, "api") ]])
            ngx.say(here, " ", there, " ", T.finds(4, "api"))
        }
    }
--- response_body
1 2 3 4 1 2 3 4


=== TEST 3: chash gives a key the same peer in both workers, and all peers some keys
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 1, 2, 3, 4)
            local code = [=[
                local all, seen, n = {}, {}, 0
                for i = 1, 200 do
                    all[i] = assert(dyups.find("api", "key" .. i, "chash"))
                    n = n + (seen[all[i]] and 0 or 1)
                    seen[all[i]] = true
                end
                return n .. table.concat(all)
            ]=]
            local here = loadstring(code)()
            ngx.say(here:sub(1, 1), " ", here == T.in_other_worker(code), " ", here == loadstring(code)())
        }
    }
--- response_body
4 true true


=== TEST 4: chash moves no key of the peers that stay when one goes
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 1, 2, 3, 4)
            local before = {}
            for i = 1, 500 do
                before[i] = dyups.find("api", "key" .. i, "chash")
            end
            assert(dyups.delete_peer("api", { host = "127.0.0.1", port = T.port + 2 }))
            local moved, wrong = 0, 0
            for i = 1, 500 do
                local now = dyups.find("api", "key" .. i, "chash")
                if before[i] == "127.0.0.1:" .. T.port + 2 then
                    moved = moved + 1
                elseif now ~= before[i] then
                    wrong = wrong + 1
                end
            end
            ngx.say(moved > 50 and moved < 250, " ", wrong)
        }
    }
--- response_body
true 0


=== TEST 5: chash proxies a key to one peer
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 1, 2, 3, 4)
            local seen, n = {}, 0
            for i = 1, 40 do
                local key = "key" .. i % 4
                local answer = T.get("api", "/?key=" .. key)
                if (seen[key] or answer) ~= answer or not answer:match("^[1-4]$") then
                    ngx.say(key, ": ", seen[key], " ", answer)
                end
                seen[key] = answer
            end
            ngx.say("same")
        }
    }
--- response_body
same


=== TEST 6: without a method the upstream's own counts, else chash with a key; without a key it is rr, as in nginx
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            for _, name in ipairs { "plain", "rr", "chash" } do
                local peers = {}
                for i = 1, 4 do
                    peers[i] = { host = "127.0.0.1", port = T.port + i }
                end
                local method = name ~= "plain" and name or nil
                assert(dyups.set_upstream(name, { method = method, peers = peers }))
            end
            local function kind(...)
                local seen, n = {}, 0
                for _ = 1, 8 do
                    local peer = assert(dyups.find(...))
                    n = n + (seen[peer] and 0 or 1)
                    seen[peer] = true
                end
                return n == 1 and "chash" or n == 4 and "rr" or n
            end
            ngx.say("nil:   ", kind("plain"), " ", kind("plain", "k"), " ", kind("plain", ""))
            ngx.say("own:   ", kind("rr", "k"), " ", kind("chash"), " ", kind("chash", "k"))
            ngx.say("given: ", kind("chash", "k", "rr"), " ", kind("rr", nil, "chash"), " ", kind("plain", nil, "chash"))
            -- As of a variable that is not set: no method was given.
            ngx.say("empty: ", kind("plain", "k", ""), " ", kind("rr", "k", ""), " ", kind("chash", "k", ""))
        }
    }
--- response_body
nil:   rr chash rr
own:   rr rr chash
given: rr rr rr
empty: chash rr chash


=== TEST 7: an unknown method is refused with the known ones
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 1)
            T.say(dyups.find("api", nil, "ip-hash"))
            T.say(dyups.find("api", nil, "RR"))
            T.say(dyups.find("api", nil, 1))
            T.say(dyups.find("api", nil, "rr") ~= nil)
        }
    }
--- response_body
nil method: "ip-hash": allowed: rr, chash, least_conn, random, random two, ip_hash
nil method: "RR": allowed: rr, chash, least_conn, random, random two, ip_hash
nil method: 1: allowed: a string
true


=== TEST 8: an upstream that is not there is an error, and no peer gets its requests
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.say(dyups.find("nope"))
            T.say(dyups.find("nope", "key", "chash"))
            T.say(T.get("nope"))
        }
    }
--- response_body
nil upstream nope: not found
nil upstream nope: not found
502
--- no_error_log
[alert]
[crit]


=== TEST 9: an upstream that goes and comes back is found anew, in both workers
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            local there = [[ return T.finds(1, "api") ]]
            for i = 1, 3 do
                T.set("api", i)
                ngx.say(T.finds(1, "api"), " ", T.in_other_worker(there))
                assert(dyups.delete_upstream("api", { force = true }))
                ngx.say(T.finds(1, "api"), " ", T.in_other_worker(there))
            end
        }
    }
--- response_body
1 1
upstream api: not found upstream api: not found
2 2
upstream api: not found upstream api: not found
3 3
upstream api: not found upstream api: not found


=== TEST 10: tried peers are passed over until none is left
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", { n = 1, weight = 100 }, 2, 3)
            for _, method in ipairs { "rr", "chash" } do
                local tried, seen = dyups.tried(), {}
                for i = 1, 3 do
                    seen[i] = assert(dyups.find("api", "key", method, tried))
                end
                table.sort(seen)
                ngx.say((table.concat(seen, " "):gsub("127.0.0.1:(%d+)", function(port) return port - T.port end)))
                T.say(dyups.find("api", "key", method, tried))
                T.say(dyups.find("api", "key", method) ~= nil)
            end
        }
    }
--- response_body
1 2 3
nil upstream api: no live upstreams: all of its peers were tried
true
1 2 3
nil upstream api: no live upstreams: all of its peers were tried
true


=== TEST 11: tried peers stay tried when the upstream changes between the tries
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 1)
            local tried = dyups.tried()
            ngx.say(T.finds(1, "api", nil, "rr", tried))
            T.set("api", 3, 1, 2)
            ngx.say(T.finds(3, "api", nil, "rr", tried))
        }
    }
--- response_body_like
^1
(2 3|3 2) upstream api: no live upstreams: all of its peers were tried$


=== TEST 12: a request tries at most 64 peers
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            local peers = {}
            for i = 1, 100 do
                peers[i] = { host = "10.0.0." .. i }
            end
            assert(dyups.set_upstream("api", { peers = peers }))
            local tried, n, seen = dyups.tried(), 0, {}
            while true do
                local peer, err = dyups.find("api", nil, "rr", tried)
                if not peer then
                    ngx.say(n, " ", err)
                    break
                end
                assert(not seen[peer], peer)
                seen[peer], n = true, n + 1
                if n == 100 then
                    ngx.say("no end")
                    break
                end
            end
        }
    }
--- response_body_like
^64 upstream api: no live upstreams: .*$


=== TEST 13: a retry goes to another peer
--- http_config eval
Dyups::proxy(more => q{
    upstream retry {
        server 127.0.0.1:1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            local tried = ngx.ctx.tried
            if not tried then
                tried = dyups.tried()
                ngx.ctx.tried = tried
                assert(balancer.set_more_tries(2))
            end
            assert(balancer.set_current_peer(assert(dyups.find("api", nil, "rr", tried))))
        }
    }
})
--- config
    location = /proxied {
        proxy_pass http://retry;
    }
    location = /t {
        content_by_lua_block {
            -- 7 and 9 have no listener.
            T.set("api", 7, 9, 1)
            local answers = {}
            for i = 1, 6 do
                local status, body = T.request(T.port, "GET", "/proxied")
                answers[i] = status == 200 and tonumber(body) - T.port or status
            end
            ngx.say(table.concat(answers, " "))
        }
    }
--- response_body
1 1 1 1 1 1
--- no_error_log
[alert]
no live upstreams


=== TEST 14: backups are picked when no primary can be
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 1, { n = 2, backup = true }, { n = 3, backup = true })
            ngx.say("up:    ", T.finds(4, "api", nil, "rr"))
            local tried = dyups.tried()
            ngx.say("tried: ", T.finds(1, "api", nil, "rr", tried), " then ",
                    #T.finds(2, "api", nil, "rr", tried):gsub("[23 ]", "") == 0 and "backups")
            for _, status in ipairs { "down", "drain" } do
                assert(dyups.set_peer("api", { host = "127.0.0.1", port = T.port + 1, status = status }))
                local finds = T.finds(4, "api", nil, "rr")
                ngx.say(status, ": ", (finds == "2 3 2 3" or finds == "3 2 3 2") and "backups" or finds)
                ngx.say("chash: ", #T.finds(4, "api", "key", "chash"):gsub("[23 ]", "") == 0 and "backups")
            end
        }
    }
--- response_body
up:    1 1 1 1
tried: 1 then backups
down: backups
chash: backups
drain: backups
chash: backups


=== TEST 15: no peer to pick is said so
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            local none = {
                {},
                { { host = "127.0.0.1", weight = 0 } },
                { { host = "127.0.0.1", status = "down" } },
                { { host = "127.0.0.1", status = "drain" }, { host = "127.0.0.2", status = "down", backup = true } },
            }
            for _, peers in ipairs(none) do
                assert(dyups.set_upstream("api", { peers = peers }))
                T.say(dyups.find("api"))
                T.say(dyups.find("api", "key", "chash"))
            end
            T.say(T.get("api"))
        }
    }
--- response_body
nil upstream api: no live upstreams: none of its peers is up with a weight
nil upstream api: no live upstreams: none of its peers is up with a weight
nil upstream api: no live upstreams: none of its peers is up with a weight
nil upstream api: no live upstreams: none of its peers is up with a weight
nil upstream api: no live upstreams: none of its peers is up with a weight
nil upstream api: no live upstreams: none of its peers is up with a weight
nil upstream api: no live upstreams: none of its peers is up with a weight
nil upstream api: no live upstreams: none of its peers is up with a weight
502
--- no_error_log
[alert]
[crit]


=== TEST 16: an address is found in the form that set_current_peer takes
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            local peers = {
                { host = "10.0.0.1" },
                { host = "10.0.0.1", port = 8080 },
                { host = "[::1]" },
                { host = "[2001:DB8::1]", port = 65535 },
                { host = "unix:/run/a.sock" },
                { server = "10.0.0.2" },
                { server = "10.0.0.2:81" },
                { server = "[fe80::1]:82" },
                { server = "unix:/run/b.sock" },
            }
            for _, peer in ipairs(peers) do
                assert(dyups.set_upstream("api", { peers = { peer } }))
                ngx.say(dyups.find("api"), " ", dyups.find("api"), " ", dyups.find("api", "k", "chash"))
            end
        }
    }
--- response_body
10.0.0.1:80 10.0.0.1:80 10.0.0.1:80
10.0.0.1:8080 10.0.0.1:8080 10.0.0.1:8080
[::1]:80 [::1]:80 [::1]:80
[2001:DB8::1]:65535 [2001:DB8::1]:65535 [2001:DB8::1]:65535
unix:/run/a.sock unix:/run/a.sock unix:/run/a.sock
10.0.0.2:80 10.0.0.2:80 10.0.0.2:80
10.0.0.2:81 10.0.0.2:81 10.0.0.2:81
[fe80::1]:82 [fe80::1]:82 [fe80::1]:82
unix:/run/b.sock unix:/run/b.sock unix:/run/b.sock


=== TEST 17: a unix peer is proxied to
--- http_config eval
my $socket = Dyups::socket("backend.sock");
Dyups::proxy(init_worker => qq{
    assert(dyups.set_upstream("api", { peers = { { host = "unix:$socket" } } }))
}, more => qq{
    server {
        listen unix:$socket;
        location / { return 200 "unix\\n"; }
    }
})
--- config
    location = /t {
        content_by_lua_block {
            local status, body = T.request(T.port + 6, "GET", "/", nil, "api")
            ngx.print(status, " ", body)
        }
    }
--- response_body
200 unix


=== TEST 18: an IPv6 peer is proxied to
--- skip_eval: 5: !main::has_ipv6()
--- http_config eval
my $port = Dyups::port(7);
Dyups::proxy(more => qq{
    server {
        listen [::1]:$port;
        location / { return 200 "v6\\n"; }
    }
})
--- config
    location = /t {
        content_by_lua_block {
            assert(dyups.set_upstream("api", { peers = { { host = "[::1]", port = T.port + 7 } } }))
            local status, body = T.request(T.port + 6, "GET", "/", nil, "api")
            ngx.print(status, " ", body)
        }
    }
--- response_body
200 v6


=== TEST 19: a key is any text, and nothing else
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 1, 2, 3, 4)
            for _, key in ipairs { "a\0b", "a\0c", "\255\254", ("x"):rep(100000) } do
                local a, b = dyups.find("api", key, "chash"), dyups.find("api", key, "chash")
                ngx.say(a == b and a ~= nil)
            end
            T.say(dyups.find("api", 5))
            T.say(dyups.find("api", 5, "rr"))
            T.say(dyups.find("api", true))
            T.say(dyups.find("api", {}))
            T.say(dyups.find("api", print))
        }
    }
--- response_body
true
true
true
true
nil key: 5: allowed: a string
nil key: 5: allowed: a string
nil key: a boolean: allowed: a string
nil key: a table: allowed: a string
nil key: a function: allowed: a string


=== TEST 20: find works in rewrite, access and content, and where nginx cannot wait
--- http_config eval
Dyups::proxy(init_worker => q{
    found_in_init_worker = dyups.find("static") or "none"
}, setup => 'files = "' . Dyups::file('static.conf', 'upstream static { server 127.0.0.1:' . Dyups::port(2) . '; }') . '"')
--- config
    location = /rewrite {
        set $target "";
        rewrite_by_lua_block { ngx.var.target = assert(dyups.find("static")) }
        proxy_pass http://$target;
    }
    location = /access {
        set $target "";
        access_by_lua_block { ngx.var.target = assert(dyups.find("static", "key", "chash")) }
        proxy_pass http://$target;
    }
    location = /set {
        set_by_lua_block $target { return dyups.find("static") }
        proxy_pass http://$target;
    }
    location = /filters {
        return 200 "";
        header_filter_by_lua_block { ngx.header.peer = dyups.find("static") }
    }
    location = /t {
        content_by_lua_block {
            for _, path in ipairs { "/rewrite", "/access", "/set" } do
                local status, body = T.request(T.port, "GET", path)
                ngx.say(path, " ", status, " ", tonumber(body) - T.port)
            end
            local _, _, headers = T.request(T.port, "GET", "/filters")
            local expected = "127.0.0.1:" .. T.port + 2
            ngx.say("/filters ", headers.peer == expected)
            ngx.say("content ", dyups.find("static") == expected)
            ngx.say("init_worker ", found_in_init_worker == expected)
            ngx.timer.at(0, function() found_in_timer = dyups.find("static") end)
            ngx.sleep(0.01)
            ngx.say("timer ", found_in_timer == expected)
        }
    }
--- response_body
/rewrite 200 2
/access 200 2
/set 200 2
/filters true
content true
init_worker true
timer true


=== TEST 21: find of an upstream that only differs in case or is a prefix finds nothing
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 1)
            T.say(dyups.find("API"))
            T.say(dyups.find("ap"))
            T.say(dyups.find("api2"))
        }
    }
--- response_body
nil upstream API: not found
nil upstream ap: not found
nil upstream api2: not found
