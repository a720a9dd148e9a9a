# find and balance in a real worker: compiled, and without garbage.

use lib 't/lib';
use Dyups;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
no_long_string();
Dyups::defaults();

# Upstreams, and rounds: functions that do n finds each. measure(round, n) runs one after a warm-up. It names
# the faults: a trace aborted in dyups, no trace at all, more than 16 KB of garbage.
our $Measure = q{
    local MOST_KB = 16
    local lead = require "dyups.lead"
    local hosts = {}
    local jit_util = require "jit.util"

    function fill()
        T.set("rr", 1, 2, 3, 4)
        T.set("weighted", { n = 1, weight = 5 }, { n = 2, weight = 3 }, { n = 3, backup = true })
        local peers = {}
        for i = 1, 1000 do
            peers[i] = { host = "10.0." .. math.floor(i / 250) .. "." .. i % 250 + 1, port = 8080 }
        end
        assert(dyups.set_upstream("chash", { method = "chash", peers = peers }))
        for i = 1, 8 do
            T.set("many" .. i, 1, 2)
        end
        for i = 1, 64 do
            hosts[i] = "www" .. i .. ".example.com"
            if i % 2 == 0 then
                assert(dyups.set_route(hosts[i], "many" .. i % 8 + 1))
            end
        end
        assert(dyups.set_route("*.example.com", { { "rr", 2 }, { "many1", 1 } }))
        assert(dyups.set_route("www3.example.com", { { "rr", 2 }, { "many1", 1 } }, { key = "$arg_user" }))
    end

    local keys = {}
    for i = 1, 4096 do
        keys[i] = "key" .. i
    end

    rounds = {
        rr = function(n)
            for _ = 1, n do
                if not dyups.find("rr") then return end
            end
            return true
        end,
        weighted = function(n)
            for _ = 1, n do
                if not dyups.find("weighted", nil, "rr") then return end
            end
            return true
        end,
        chash = function(n)
            for i = 1, n do
                if not dyups.find("chash", keys[i % 4096 + 1], "chash") then return end
            end
            return true
        end,
        ["own method"] = function(n)
            for i = 1, n do
                if not dyups.find("chash", keys[i % 4096 + 1]) then return end
            end
            return true
        end,
        many = function(n)
            for i = 1, n do
                if not dyups.find("many" .. i % 8 + 1) then return end
            end
            return true
        end,
        -- A set of tried peers may be kept and used again; count starts it anew.
        tried = function(n)
            local tried = dyups.tried()
            for i = 1, n do
                if i % 2 == 1 then
                    tried.count = 0
                end
                if not dyups.find("rr", nil, "rr", tried) then return end
            end
            return true
        end,
        -- By route: to one upstream, by turns, and by the value of a variable. Hosts have no handle each.
        routes = function(n)
            lead.first = true
            for i = 1, n do
                if not dyups.find(hosts[i % 64 + 1]) then return end
            end
            lead.first = false
            return true
        end,
        mixed = function(n)
            for i = 1, n do
                local peer
                if i % 3 == 0 then
                    peer = dyups.find("rr")
                elseif i % 3 == 1 then
                    peer = dyups.find("chash", keys[i % 4096 + 1], "chash")
                else
                    peer = dyups.find("weighted", nil, "rr")
                end
                if not peer then return end
            end
            return true
        end,
    }

    local function in_dyups(func, pc)
        local info = jit_util.funcinfo(func, pc or 0)
        return info and info.source and info.source:find("/lua/dyups", 1, true) and info.loc
    end

    function measure(round, n)
        local traces, aborts, warm = 0, {}, false
        local function on_trace(what, _, func, pc, code, extra)
            if what == "stop" then
                traces = traces + 1
            elseif what == "abort" and warm then
                local at = in_dyups(func, pc)
                if at then
                    aborts[#aborts + 1] = at .. " " .. tostring(code) .. " " .. tostring(extra)
                end
            end
        end
        jit.flush()
        jit.attach(on_trace, "trace")
        assert(round(100000))
        warm = true
        collectgarbage()
        collectgarbage("stop")
        local before = collectgarbage("count")
        local done = round(n)
        local grown = collectgarbage("count") - before
        collectgarbage("restart")
        jit.attach(on_trace)
        local wrong = {}
        if not done then
            wrong[#wrong + 1] = "a find failed"
        end
        if traces == 0 then
            wrong[#wrong + 1] = "nothing was compiled"
        end
        if grown > MOST_KB then
            wrong[#wrong + 1] = "grew by " .. grown .. " KB"
        end
        if #aborts > 0 then
            wrong[#wrong + 1] = #aborts .. " aborts, such as " .. aborts[1]
        end
        return #wrong == 0 and "good" or table.concat(wrong, ", ")
    end
};

run_tests();

__DATA__

=== TEST 1: a million finds are compiled and make no garbage
--- http_config eval: Dyups::proxy(init => $::Measure)
--- config
    location = /t {
        content_by_lua_block {
            fill()
            for _, name in ipairs { "rr", "weighted", "chash", "own method", "many", "tried", "routes", "mixed" } do
                ngx.say(name, ": ", measure(rounds[name], 1000000))
            end
        }
    }
--- timeout: 20
--- response_body
rr: good
weighted: good
chash: good
own method: good
many: good
tried: good
routes: good
mixed: good


=== TEST 2: the measurement finds what it is for
--- http_config eval: Dyups::proxy(init => $::Measure)
--- config
    location = /t {
        content_by_lua_block {
            fill()
            local find = dyups.find
            -- Garbage.
            local keep
            ngx.say(measure(function(n)
                for i = 1, n do
                    keep = { find("rr") }
                end
                return keep
            end, 10000):match("grew"))
            -- Code that is not compiled.
            jit.off(find)
            ngx.say(measure(function(n)
                for _ = 1, n do
                    find("rr")
                end
                return true
            end, 10000):match("nothing was compiled"))
            jit.on(find)
            -- Aborts behind the warm-up: closures are what no trace makes, here in code that says it is dyups's.
            local calls = {}
            for i = 1, 100 do
                calls[i] = assert(loadstring("return function() for i = 1, 100 do local _ = function() return i end end end",
                                             "@/x/lua/dyups.lua"))()
            end
            ngx.say(measure(function(n)
                for i = 1, n > 10000 and 0 or #calls do
                    calls[i]()
                end
                for _ = 1, 200 do
                    find("rr")
                end
                return true
            end, 10000):match("aborts"))
        }
    }
--- timeout: 20
--- response_body
grew
nothing was compiled
aborts


=== TEST 3: finds in the balancer leave no more garbage than a request does
--- http_config eval: Dyups::proxy(init => $::Measure)
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 1, 2, 3, 4)
            -- The same requests to the same worker's Lua VM, ten times as many: what a find kept would show.
            local function memory(n)
                for _ = 1, n do
                    T.get("api")
                end
                T.in_other_worker("collectgarbage() collectgarbage()")
                collectgarbage()
                collectgarbage()
                return collectgarbage("count") + tonumber(T.in_other_worker("return collectgarbage('count')"))
            end
            memory(100)
            local few = memory(100)
            local many = memory(1000)
            ngx.say(many - few < 64 and "steady" or many - few)
        }
    }
--- timeout: 20
--- response_body
steady


=== TEST 4: an upstream that changes all the time costs strings, and no memory in the end
--- http_config eval: Dyups::proxy(init => $::Measure)
--- config
    location = /t {
        content_by_lua_block {
            local function churn(n)
                for i = 1, n do
                    T.set("api", i % 4 + 1, (i + 1) % 4 + 1)
                    assert(dyups.find("api"))
                    assert(dyups.find("api", "key", "chash"))
                    assert(dyups.delete_upstream("api", { force = true }))
                    assert(not dyups.find("api"))
                end
                collectgarbage()
                collectgarbage()
                return collectgarbage("count"), dyups.status().region.used
            end
            churn(200)
            local lua, used = churn(200)
            local more_lua, more_used = churn(2000)
            ngx.say(more_lua - lua < 64 and "steady" or more_lua - lua, " ", more_used - used)
        }
    }
--- timeout: 20
--- response_body
steady 0


=== TEST 5: balance is compiled and makes no garbage
--- http_config eval
my $port = Dyups::port(7);
Dyups::proxy(init => q{
    grown, calls, traces, aborts = 0, 0, 0, {}

    -- The growth of memory by each call; nothing is collected meanwhile.
    function balanced()
        local before = collectgarbage("count")
        dyups.balance("api", nil, nil, options)
        grown, calls = grown + collectgarbage("count") - before, calls + 1
    end

    options = { retry_percent = 50 }
    local funcinfo = require("jit.util").funcinfo

    function on_trace(what, _, func, pc, code, extra)
        local info = func and funcinfo(func, pc or 0)
        if what == "stop" then
            traces = traces + 1
        elseif what == "abort" and info.source and info.source:find("/lua/dyups", 1, true)
            -- Timers of the same worker run between the requests.
            and not info.source:find("/prober.lua", 1, true) then
            aborts[#aborts + 1] = info.loc .. " " .. tostring(code) .. " " .. tostring(extra)
        end
    end
}, init_worker => q{
    collectgarbage("stop")
    jit.attach(on_trace, "trace")
}, more => qq[
    upstream balanced {
        server 127.0.0.1:1;
        balancer_by_lua_block { balanced() }
        keepalive 16;
    }
    server { listen 127.0.0.1:$port; location / { proxy_pass http://balanced; } }
])
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 1, 2, 3, 4)
            local function requests(n)
                for _ = 1, n do
                    assert(T.request(T.port + 7, "GET", "/", nil, "api") == 200)
                end
            end
            local function of_both(code)
                return T.in_worker(0, code) + T.in_worker(1, code)
            end
            requests(1500)
            -- A trace that is made late takes memory too, once. So the calls that count are those while none is made.
            local before
            for _ = 1, 10 do
                for id = 0, 1 do
                    T.in_worker(id, "grown, calls, aborts = 0, 0, {}")
                end
                before = of_both("return traces")
                requests(1000)
                if of_both("return traces") == before then
                    break
                end
            end
            -- The smallest thing takes 16 bytes of each call.
            local grown = of_both("return grown")
            ngx.say(of_both("return calls"), " calls, ", grown < 8 and "no" or grown .. " KB of", " garbage, ",
                    of_both("return #aborts"), " aborts")
            ngx.say(of_both("return traces") > 0)
            ngx.say(T.in_worker(0, "return aborts[1]"), T.in_worker(1, "return aborts[1]"))
        }
    }
--- timeout: 30
--- response_body
1000 calls, no garbage, 0 aborts
true
nilnil
--- no_error_log
[error]


=== TEST 6: of upstreams that were found and deleted nothing is kept, and of many others no more than so many texts
--- http_config eval: Dyups::proxy(size => '16m')
--- config
    location = /t {
        content_by_lua_block {
            local C = require("dyups.library").C
            local peers = {}
            for i = 1, 10000 do
                peers[i] = '{"host":"10.0.' .. math.floor(i / 250) .. "." .. i % 250 + 1 .. '"}'
            end
            local json = '{"peers":[' .. table.concat(peers, ",") .. "]}"
            local function count()
                collectgarbage()
                collectgarbage()
                return collectgarbage("count")
            end
            peers = nil
            local function name(i) return "u" .. i end
            local function delete(i) assert(dyups.delete_upstream(name(i), { force = true })) end
            local before = count()
            -- In one turn, so that no timer runs: 150 tables of 10,000 places, of 80 KB each.
            for i = 1, 150 do
                assert(C.dyups_set_upstream(name(i), #name(i), json, #json, 0) == 0)
                assert(dyups.find(name(i)))
                if i > 10 then
                    delete(i - 10)
                end
            end
            local most = count() - before
            ngx.say(most < 9 * 1024 and "bounded" or most)
            for i = 141, 149 do
                delete(i)
            end
            local left
            for _ = 1, 40 do
                left = count() - before
                if left < 256 then
                    break
                end
                ngx.sleep(0.1)
            end
            ngx.say(left < 256 and "gone" or left)
            -- The one that is there is found as before.
            ngx.say(dyups.find(name(150)), " ", dyups.find(name(150)))
        }
    }
--- timeout: 20
--- response_body
bounded
gone
10.0.0.3:80 10.0.0.4:80
