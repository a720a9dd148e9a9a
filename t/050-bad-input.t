# Bad input through a real nginx: nothing throws, nothing is half done. The values that each field refuses are in
# tests/lua/bad_input.rs.

use lib 't/lib';
use Dyups;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
no_long_string();
Dyups::defaults();

# Values of every kind, and attempts that must not throw and, where they fail, must say why.
our $Attempts = q{
    local self = {}
    self.self = self
    hostile = setmetatable({}, {
        __index = error, __newindex = error, __len = error, __pairs = error, __tostring = error, __call = error,
    })
    values = {
        nil, false, 5, 0 / 0, 1 / 0, -1, "", "api", "a b", "a/b", "\0", "\255", ("x"):rep(256), {}, { 1 }, { [3] = 1 },
        { {} }, { host = {} }, { peers = { {} } }, { [true] = 1 }, print, coroutine.create(print), newproxy(true),
        ngx.null, require("ffi").new("int", 1), self, hostile, dyups.tried(),
    }
    values.n = 28

    -- With both workers in it: one of them may start late.
    function table_as_text()
        local body
        for _ = 1, 100 do
            body = select(2, T.request(T.port + 8, "GET", "/status"))
            if select(2, body:gsub('"slot":', "")) == 2 then
                break
            end
            ngx.sleep(0.05)
        end
        return body
    end

    local function described(value)
        return rawequal(value, hostile) and "hostile" or tostring(value)
    end

    -- Calls that are right, and change the table.
    local function switches(name, upstream, options)
        local empty = type(options) == "table" and next(options) == nil
        return name == "healthcheck" and upstream == "api" and (options == false or empty)
            or name == "set_route" and upstream == "api" and options == "api"
    end

    -- attempts(most_arguments[, but]) -> whether there were calls, and what was wrong with the first that was wrong
    function attempts(most_arguments, but)
        local calls, wrong = 0, nil
        local function try(name, ...)
            calls = calls + 1
            local done, value, message = pcall(dyups[name], ...)
            if not done or value == nil and (type(message) ~= "string" or message == "") then
                wrong = wrong or name .. "(" .. described((...)) .. ", " .. described((select(2, ...))) .. "): "
                    .. tostring(done and message or value)
            end
        end
        for name, call in pairs(dyups) do
            if type(call) == "function" and name ~= but then
                try(name)
                for a = 1, values.n do
                    try(name, values[a])
                    for b = 1, most_arguments > 1 and values.n or 0 do
                        if not switches(name, values[a], values[b]) then
                            try(name, values[a], values[b])
                        end
                    end
                end
            end
        end
        for a = 1, values.n do
            for b = 1, values.n do
                try("find", "api", values[a], values[b], values[(a + b) % values.n + 1])
                try("find", "api", nil, values[a], values[b])
            end
        end
        return calls > 100 and "all" or calls, wrong or "good"
    end
};

run_tests();

__DATA__

=== TEST 1: no function throws, whatever it is given, in a request and in its worker's timers
--- http_config eval: Dyups::proxy(init => $::Attempts)
--- config
    location = /t {
        content_by_lua_block {
            assert(dyups.set_upstream("api", { method = "chash", peers = { { host = "10.0.0.1", weight = 3 } } }))
            local before = table_as_text()
            T.say(attempts(2))
            local calls, wrong
            ngx.timer.at(0, function() calls, wrong = attempts(2) end)
            for _ = 1, 500 do
                if wrong then
                    break
                end
                ngx.sleep(0.01)
            end
            T.say(calls, wrong)
            local after = table_as_text()
            ngx.say(after == before and "unchanged" or after)
        }
    }
--- timeout: 20
--- response_body
all good
all good
unchanged
--- no_error_log
[alert]
[crit]


=== TEST 2: nor where nginx cannot wait, nor before it runs
--- http_config eval
Dyups::proxy(init => "$::Attempts in_init = { attempts(2, 'setup') }", init_worker => 'in_init_worker = { attempts(2) }')
--- config
    location = /phases {
        set_by_lua_block $set { return T.show(attempts(1)) }
        rewrite_by_lua_block { ngx.ctx.rewrite = T.show(attempts(1)) }
        access_by_lua_block { ngx.ctx.access = T.show(attempts(1)) }
        content_by_lua_block { ngx.say("") }
        header_filter_by_lua_block {
            ngx.header.phases = table.concat({ ngx.var.set, ngx.ctx.rewrite, ngx.ctx.access, T.show(attempts(1)) }, ", ")
        }
    }
    location = /t {
        content_by_lua_block {
            T.say(in_init[1], in_init[2])
            T.say(in_init_worker[1], in_init_worker[2])
            local _, _, headers = T.request(T.port, "GET", "/phases")
            ngx.say(headers.phases)
        }
    }
--- timeout: 20
--- response_body
all good
all good
all good, all good, all good, all good
--- no_error_log
[alert]
[crit]


=== TEST 3: setup and start say what is wrong, and the region in use stays
--- http_config eval
Dyups::proxy(init => q{
    T.out = {}
    for _, conf in ipairs {
        5, "x", true, print, { 1 }, { shm = 1 }, { shm_size = -1 }, { shm_size = "1k" }, { shm_path = 5 },
        { files = 5 }, { files = { 5 } }, { files = "/nowhere" }, { overwrite = "yes" }, { [1] = 2, files = {} },
    } do
        T.out[#T.out + 1] = T.show(pcall(dyups.setup, conf))
    end
    T.in_init = T.show(pcall(dyups.start))
})
--- config
    location = /t {
        content_by_lua_block {
            for _, line in ipairs(T.out) do
                ngx.say(line)
            end
            T.say(T.in_init)
            T.say(pcall(dyups.start, {}, 5))
            T.say(dyups.status().region.size)
        }
    }
--- response_body
true nil setup: 5: allowed: an object
true nil setup: "x": allowed: an object
true nil setup: true: allowed: an object
true nil setup: function: allowed: an object
true nil setup: mixed: allowed: an object
true nil setup.shm: not known to this version; known: shm_path, shm_size, statistics, stats_size, files, overwrite, routes, healthcheck, admin, prefix, nginx_version
true nil setup.shm_size: -1: allowed: bytes or a text like "64m", from 256 KiB to 4 GiB
true nil setup.shm_size: "1k": allowed: bytes or a text like "64m", from 256 KiB to 4 GiB
true nil setup.shm_path: 5: allowed: a path
true nil setup.files: 5: allowed: a path or a list of paths
true nil setup.files: 5: allowed: a path or a list of paths
true nil /nowhere: No such file or directory (os error 2)
true nil setup.overwrite: "yes": allowed: true or false
true nil setup: mixed: allowed: an object
true nil start: called in init_by_lua: allowed: init_worker_by_lua, and later
true true
1048576


=== TEST 4: a first setup that fails leaves functions that say so, and nginx runs
--- http_config eval
Dyups::http_config(init => q{
    dyups = require "dyups"
    out = { pcall(dyups.setup, { shm_path = "$shm_path", shm_size = "1k" }) }
}, more => q{
    init_worker_by_lua_block { started = { pcall(dyups.start) } }
})
--- config
    location = /t {
        content_by_lua_block {
            ngx.say(tostring(out[1]), " ", tostring(out[2]), " ", out[3])
            ngx.say(tostring(started[1]), " ", tostring(started[2]), " ", started[3])
            local peer, err = dyups.find("api")
            ngx.say(tostring(peer), " ", err)
        }
    }
--- response_body_like
^true nil setup\.shm_size: "1k": allowed: .*
true nil dyups\.setup has not succeeded in this process: .*
nil dyups\.setup has not succeeded in this process: .*$


=== TEST 5: a body that stops halfway changes nothing
--- http_config eval: Dyups::proxy(init => $::Attempts)
--- config
    location = /t {
        content_by_lua_block {
            assert(dyups.set_upstream("api", { peers = { { host = "10.0.0.1", weight = 3 } } }))
            local before = table_as_text()
            local head = "POST /upstream/api HTTP/1.1\r\nHost: localhost\r\n"
            for _, text in ipairs {
                head .. "Content-Length: 100\r\n\r\nserver 10.0.0.2;",
                head .. "Content-Length: 17\r\n\r\nserver 10.0.0.2;",
                head .. "Content-Length: 1000000\r\n\r\n" .. ("server 10.0.0.2;\n"):rep(20000),
                head .. "Transfer-Encoding: chunked\r\n\r\n10\r\nserver 10.0.0.2;\r\n",
                head .. "Transfer-Encoding: chunked\r\n\r\n20\r\nserver 10.0.0.2;",
                head .. "Transfer-Encoding: chunked\r\n\r\nx\r\nserver 10.0.0.2;",
                head,
                "POST /upstream/api",
            } do
                local sock = ngx.socket.tcp()
                assert(sock:connect("127.0.0.1", T.port + 8))
                sock:send(text)
                ngx.sleep(0.02)
                sock:close()
            end
            ngx.sleep(0.05)
            ngx.say(table_as_text() == before and "unchanged" or table_as_text())
            ngx.say((T.request(T.port + 8, "POST", "/upstream/api", "server 10.0.0.2;")))
        }
    }
--- response_body
unchanged
200
--- no_error_log
[alert]
[crit]


=== TEST 6: bodies that are no servers, small and large, change nothing
--- http_config eval: Dyups::proxy(init => $::Attempts)
--- config
    location = /t {
        content_by_lua_block {
            assert(dyups.set_upstream("api", { peers = { { host = "10.0.0.1", weight = 3 } } }))
            local before = table_as_text()
            local megabytes = 10 * 1024 * 1024
            for _, body in ipairs {
                "\0", "\255\254", "\n", ";", "{}", '{"peers":[]}', "server 10.0.0.1", ("server "):rep(1000),
                "server 10.0.0.1 weight=-1;", "server 10.0.0.1 weight=65536;", "server 10.0.0.1 weight=x;",
                "server 10.0.0.1 backup backup=1;", "server 10.0.0.1:0;", "server 10.0.0.1:65536;", "server ::1;",
                "server localhost;", "server 1.2.3.999;", "server 'a b';", "server \"10.0.0.1;", "upstream a { }",
                ("x"):rep(megabytes), ("{"):rep(megabytes), ("server 10.0.0.1;"):rep(megabytes / 16),
            } do
                local status, text, headers = T.request(T.port + 8, "POST", "/upstream/api", body)
                local header = headers and headers["x-dyups-error"] or ""
                if status ~= 500 or text ~= "add server failed" or not header:match("^body:%d+: ") or #header > 1000 then
                    T.say(body:sub(1, 50), status, text, header)
                end
            end
            -- nginx's own limit.
            ngx.say((T.request(T.port + 8, "POST", "/upstream/api", ("x"):rep(17 * 1024 * 1024))))
            ngx.say(table_as_text() == before and "unchanged" or table_as_text())
        }
    }
--- timeout: 20
--- response_body
413
unchanged
--- no_error_log
[alert]
[crit]


=== TEST 7: what a client sends cannot break out of the header that names it
--- http_config eval: Dyups::proxy(init => $::Attempts)
--- config
    location = /t {
        content_by_lua_block {
            for _, name in ipairs { "a%0d%0aX-Evil:%201", "a%0aX-Evil:%201", "%ff%fe", "%22", ("%0a"):rep(100), ("%c3"):rep(300) } do
                for _, method in ipairs { "GET", "DELETE", "POST" } do
                    local body = method == "POST" and "server 10.0.0.1;" or nil
                    local status, _, headers = T.request(T.port + 8, method, "/upstream/" .. name, body)
                    if not (status == 404 or status == 500 or status == 200 and name == "%22") or headers["x-evil"] then
                        T.say(name, method, status, headers)
                    end
                end
            end
            for _, body in ipairs { "server a\r\nX-Evil: 1;", "\r\nX-Evil: 1;", "server \"a\nX-Evil: 1\";", "server 10.0.0.1 \r\nX-Evil: 1;" } do
                local status, _, headers = T.request(T.port + 8, "POST", "/upstream/api", body)
                if status ~= 500 or headers["x-evil"] then
                    T.say(body, status, headers)
                end
            end
            ngx.say("good")
        }
    }
--- response_body
good
--- no_error_log
[alert]
[crit]


=== TEST 8: a prefix that is no text is refused
--- http_config eval: Dyups::proxy(init => $::Attempts)
--- config
    location ~ ^/as/(?<kind>\w+)/list {
        content_by_lua_block {
            local prefixes = { number = 5, table = {}, boolean = true, ["function"] = print }
            require("dyups.admin").serve(prefixes[ngx.var.kind])
        }
    }
    location = /t {
        content_by_lua_block {
            for _, kind in ipairs { "number", "table", "boolean", "function" } do
                local status, body, headers = T.request(T.port, "GET", "/as/" .. kind .. "/list")
                T.say(status, headers["x-dyups-error"], body == "")
            end
        }
    }
--- response_body_like
^500 prefix: a number: allowed: a string .*
500 prefix: a table: allowed: a string .*
500 prefix: a boolean: allowed: a string .*
500 prefix: a function: allowed: a string .*$
--- no_error_log
[alert]
[crit]


=== TEST 9: a find for names that clients make up keeps nothing of them
--- http_config eval: Dyups::proxy(init => $::Attempts)
--- config
    location = /t {
        content_by_lua_block {
            local function flood(n)
                for i = 1, n do
                    assert(not dyups.find("no-such-upstream-" .. i .. ".example.com"))
                    assert(not dyups.find(("%c"):rep(3):format(i % 32, i % 7, i % 5)))
                end
                collectgarbage()
                collectgarbage()
                return collectgarbage("count")
            end
            flood(1000)
            local few = flood(1000)
            local many = flood(50000)
            ngx.say(many - few < 64 and "steady" or many - few)
        }
    }
--- timeout: 20
--- response_body
steady
