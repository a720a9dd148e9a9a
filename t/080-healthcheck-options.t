# The checks of upstreams by healthcheck(), the default of setup and files, through a real nginx. All rules: tests/checks.rs.

use lib 't/lib';
use Dyups;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
no_long_string();
Dyups::defaults();

our $Init = q{
    -- The check of an upstream as status() has it, or one option of it.
    function check(name, option)
        local check = dyups.status(name).upstreams[name].healthcheck
        if type(check) == "table" and option then
            return check[option]
        end
        return check
    end
    assert(dyups.add_peer("api", { host = "10.0.0.1", port = 81 }))
};

run_tests();

__DATA__

=== TEST 1: options are merged with what is set, in both workers; false switches off
--- http_config eval: Dyups::proxy(init => $::Init)
--- config
    location = /t {
        content_by_lua_block {
            T.say(check("api"))
            T.say(dyups.healthcheck("api", { type = "tcp", send = "PING\r\n", expect = "+PONG", interval = 500 }))
            T.say(dyups.healthcheck("api", { rise = 1, expect = false }))
            local _, body = T.request(T.port + 8, "GET", "/status")
            ngx.say(body:match('"healthcheck":(%b{})'))
            ngx.say(T.in_other_worker("return check('api', 'interval')"))
            T.say(dyups.healthcheck("api", false))
            ngx.say(T.in_other_worker("return check('api')"))
            T.say(dyups.healthcheck("nope", {}))
        }
    }
--- response_body
nil
true
true
{"type":"tcp","send":"PING\r\n","interval":500,"timeout":2000,"rise":1,"fall":3,"concurrency":10,"default_down":false,"panic_threshold":0}
500
true
false
nil upstream nope: not found


=== TEST 2: what every worker says when it starts changes the table once
--- http_config eval
Dyups::proxy(init => $::Init, init_worker => q{
    assert(dyups.healthcheck("api", { type = "http", http_req = "GET /up HTTP/1.0\r\n\r\n", fall = 5 }))
})
--- config
    location = /t {
        content_by_lua_block {
            local generation = dyups.status("api").upstreams.api.generation
            T.say(dyups.healthcheck("api", { type = "http", http_req = "GET /up HTTP/1.0\r\n\r\n", fall = 5 }))
            -- One is the peer's.
            T.say(generation, dyups.status("api").upstreams.api.generation, check("api", "fall"))
        }
    }
--- response_body
true
2 2 5


=== TEST 3: a bad option is named with its value and what is allowed, and the check goes on as it was
--- http_config eval: Dyups::proxy(init => $::Init)
--- config
    location = /t {
        content_by_lua_block {
            local function said(options)
                local done, ok, err = pcall(dyups.healthcheck, "api", options)
                return not done and "thrown: " .. tostring(ok) or ok == nil and err or "taken"
            end
            local day, text = "an integer from 10 to 86400000", "a text of 1 to 8192 bytes, or false for none"
            local row = "an integer from 1 to 255"
            local statuses = "a list of 1 to 500 statuses, integers from 100 to 599"
            local rows = {
                -- option, value, how it is shown, what is allowed; with another type of check
                { "type", "icmp", '"icmp"', '"http", "https" or "tcp"' },
                { "interval", 9, "9", day },
                { "interval", "1s", '"1s"', day },
                { "interval", 1 / 0, "inf", day },
                { "interval_down", 86400001, "86400001", day .. ", or false for none" },
                { "timeout", 0, "0", "an integer from 1 to 86400000" },
                { "rise", 0, "0", row },
                { "fall", 256, "256", row },
                { "fall", 1.5, "1.5", row },
                { "concurrency", 10001, "10001", "an integer from 1 to 10000" },
                { "port", 65536, "65536", "an integer from 1 to 65535, or false for none" },
                { "valid_statuses", 200, "200", statuses },
                { "valid_statuses", {}, "0 statuses: too few or too many;", statuses },
                { "ssl_verify", "no", '"no"', "true or false", "https" },
                { "expect_body", "", '"": empty;', text },
                { "send", 5, "5", text, "tcp" },
                { "expect", print, "function", text, "tcp" },
                { "default_down", 1, "1", "true or false" },
                { "panic_threshold", 101, "101", "an integer from 0 to 100" },
                { "url", "up", '"up": it does not begin with /;',
                    "a path from / without spaces and control bytes, of at most 8192 bytes" },
            }
            local function compact(message)
                return message:gsub("; allowed", ": allowed")
            end
            assert(dyups.healthcheck("api", { url = "/up", fall = 7 }))
            local _, before = T.request(T.port + 8, "GET", "/status")
            local good = 0
            for _, bad in ipairs(rows) do
                local expected = "healthcheck." .. bad[1] .. ": " .. bad[3]:gsub(";$", "") .. ": allowed: " .. bad[4]
                local answer = compact(said{ type = bad[1] ~= "type" and (bad[5] or "http") or bad[2], [bad[1]] = bad[2] })
                if answer == expected then
                    good = good + 1
                else
                    ngx.say(expected, "\n    ", answer)
                end
            end
            ngx.say(good == #rows and "each said so" or good)
            ngx.say(said())
            ngx.say(said(true))
            ngx.say(said{ upstream = "api" })
            ngx.say((said{ intervall = 1 }:gsub("known: .*", "known: ...")))
            ngx.say(said{ type = "tcp", url = "/up" })
            ngx.say(said{ http_req = "GET / HTTP/1.0\r\n\r\nGET /admin HTTP/1.0\r\n\r\n" }:match("CR LF") or "nothing")
            local _, after = T.request(T.port + 8, "GET", "/status")
            ngx.say(after == before and "unchanged" or after)
            T.say(check("api", "fall"), check("api", "url"))
        }
    }
--- response_body
each said so
healthcheck: null: allowed: an object, or false for none
healthcheck: true: allowed: an object, or false for none
healthcheck.upstream: "api": not an option; the upstream is the first argument: dyups.healthcheck(upstream, {...})
healthcheck.intervall: not known to this version; known: ...
healthcheck.url: "/up": makes no sense with type "tcp"; allowed: with "http" or "https"
CR LF
unchanged
7 /up


=== TEST 4: the default of setup is that of all upstreams without a check of their own, and changes with a reload
--- http_config eval
my $file = Dyups::file('checked.json', '{"upstreams": {"own": {"peers": [], "healthcheck": {"interval": 200}},
    "none": {"peers": [], "healthcheck": false}, "quiet": {"peers": []}}}');
Dyups::proxy(init => $::Init . qq{
    load = function(healthcheck)
        local conf = { shm_path = T.shm_path, shm_size = "1m", files = "$file", healthcheck = healthcheck }
        local ok, err = dyups.setup(conf)
        local said = { ok and "set up" or err }
        for _, name in ipairs { "own", "none", "quiet", "api" } do
            said[#said + 1] = name .. "=" .. tostring(check(name, "interval"))
        end
        return table.concat(said, ", ")
    end
    out = { load(nil), load({ interval = 100 }), load({ interval = 300 }), load({ interval = 9 }), load(false) }
    out[#out + 1] = load({ interval = 100 })
})
--- config
    location = /t {
        content_by_lua_block {
            ngx.say(table.concat(out, "\n"))
            -- Workers inherit it.
            T.say(dyups.add_peer("new", { host = "10.0.0.1" }))
            T.say(check("new", "interval"), check("new", "default"), check("own", "default"))
            T.say(dyups.healthcheck("new", { fall = 9 }))
            T.say(check("new", "interval"), check("new", "fall"), check("new", "default"))
        }
    }
--- response_body
set up, own=200, none=false, quiet=nil, api=nil
set up, own=200, none=false, quiet=100, api=100
set up, own=200, none=false, quiet=300, api=300
setup.healthcheck.interval: 9: allowed: an integer from 10 to 86400000, own=200, none=false, quiet=300, api=300
set up, own=200, none=false, quiet=nil, api=nil
set up, own=200, none=false, quiet=100, api=100
true
100 true nil
true
100 9 nil


=== TEST 5: what status() answers can be given back
--- http_config eval: Dyups::proxy(setup => 'healthcheck = { interval = 100 }', init => $::Init)
--- config
    location = /t {
        content_by_lua_block {
            assert(dyups.set_peer("api", { host = "10.0.0.1", port = 81, check_port = 8081, check_url = "/up" }))
            local function same(name)
                local before = dyups.status(name).upstreams[name]
                T.say(dyups.set_upstream(name, before))
                local after = dyups.status(name).upstreams[name]
                before.generation, after.generation, before.origin, after.origin = nil, nil, nil, nil
                return T.show(before) == T.show(after) and "the same" or T.show(before) .. "\n" .. T.show(after)
            end
            T.say(same("api"))
            T.say(dyups.healthcheck("api", { headers = { "X-A: 1", ["X-B"] = nil }, valid_statuses = { 204 } }))
            T.say(same("api"))
            local peer = dyups.status("api").upstreams.api.peers[1]
            T.say(peer.check_port, peer.check_url)
            assert(dyups.set_peer("api", { host = "10.0.0.1", port = 81, check_port = false }))
            peer = dyups.status("api").upstreams.api.peers[1]
            T.say(peer.check_port, peer.check_url)
        }
    }
--- response_body
true
the same
true
true
the same
8081 /up
nil /up
