# balance: a request from its first try to its last, through a real nginx.

use lib 't/lib';
use Dyups;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
no_long_string();
Dyups::defaults();

# Port 7 of this file proxies to the peer that balance gives: the upstream is the Host, the method and the key are
# arguments. Errors in the log go into a dictionary as well, which T.logged() empties.
our $Balance = q{
    upstream balanced {
        server 127.0.0.1:1;
        balancer_by_lua_block {
            dyups.balance(ngx.var.host, ngx.var.arg_key, ngx.var.arg_method, options[ngx.var.arg_options or "none"])
        }
    }
};

our $Init = q{
    options = { none = nil, two = { tries = 2 }, one = { tries = 1 }, free = { retry_percent = 0, retry_floor = 0 } }

    -- The answer of this server to T.get, over and over.
    function gets(n, port, host, args)
        local answers = {}
        for i = 1, n do
            local status, body = T.request(port, "GET", "/?" .. (args or ""), nil, host)
            answers[i] = status == 200 and tonumber(body) - T.port or tostring(status)
        end
        return table.concat(answers, " ")
    end

    -- Connections and failures of the peers.
    function states(upstream)
        local parts = {}
        for i, peer in ipairs(dyups.status(upstream).upstreams[upstream].peers) do
            parts[i] = (peer.conns or 0) .. "/" .. (peer.fails or 0) .. (peer.out and "/out" or "")
        end
        return table.concat(parts, " ")
    end
};

sub balance {
    my %arg = (init => '', more => '', location => '', @_);
    return Dyups::proxy(init => $Init . $arg{init}, more => $Balance . qq[
        server {
            listen 127.0.0.1:] . Dyups::port(7) . qq[;
            set_real_ip_from 127.0.0.1;
            real_ip_header X-Real-IP;
            proxy_next_upstream error timeout http_503;
            location / { proxy_pass http://balanced; }
            $arg{location}
        }
        $arg{more}
    ]);
}

run_tests();

__DATA__

=== TEST 1: in turn over both workers, and nothing is open when all is over
--- http_config eval: main::balance()
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", { n = 1, weight = 5 }, { n = 2, weight = 1 }, { n = 3, weight = 1 })
            ngx.say(gets(14, T.port + 7, "api"))
            ngx.say(states("api"))
        }
    }
--- response_body
1 1 2 1 3 1 1 1 1 2 1 3 1 1
0/0 0/0 0/0


=== TEST 2: a retry goes to another peer, and the peer that failed is out for both workers
--- http_config eval: main::balance()
--- config
    location = /t {
        content_by_lua_block {
            -- 9 and 10 have no listener.
            T.set("api", 9, 10, 1)
            ngx.say(gets(12, T.port + 7, "api"))
            ngx.say(states("api"))
        }
    }
--- response_body
1 1 1 1 1 1 1 1 1 1 1 1
0/1/out 0/1/out 0/0
--- grep_error_log eval: qr/connect\(\) failed/
--- grep_error_log_out
connect() failed
connect() failed
--- no_error_log
[alert]
[crit]
no live upstreams


=== TEST 3: where there is no peer it is 502 and one line, and never the placeholder
--- http_config eval: main::balance()
--- config
    location = /t {
        content_by_lua_block {
            T.set("down", { n = 1, status = "down" })
            ngx.say(gets(1, T.port + 7, "none"))
            ngx.say(gets(1, T.port + 7, "down"))
        }
    }
--- response_body
502
502
--- grep_error_log eval: qr/no live upstreams while|127\.0\.0\.1:1\/|\[alert\]/
--- grep_error_log_out
no live upstreams while
no live upstreams while
--- no_error_log
[alert]
[crit]
127.0.0.1:1/


=== TEST 4: where all have failed it is 502, one line for each try, and all are tried again the next time
--- http_config eval: main::balance()
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 9, 10)
            ngx.say(gets(2, T.port + 7, "api"))
            ngx.say(states("api"))
        }
    }
--- response_body
502 502
0/2/out 0/2/out
--- grep_error_log eval: qr/connect\(\) failed|\[alert\]|no live/
--- grep_error_log_out
connect() failed
connect() failed
connect() failed
connect() failed
--- no_error_log
[alert]
[crit]


=== TEST 5: as many tries as the options say, and no fewer where no peer was reached
--- http_config eval: main::balance()
--- config
    location = /t {
        content_by_lua_block {
            for _, options in ipairs { "none", "two", "one", "free" } do
                ngx.log(ngx.WARN, "with ", options)
                T.set(options, { n = 9, max_fails = 0 }, { n = 10, max_fails = 0 }, { n = 11, max_fails = 0 })
                ngx.say(gets(1, T.port + 7, options, "options=" .. options))
            end
        }
    }
--- response_body
502
502
502
502
--- grep_error_log eval: qr/connect\(\) failed|with \w+(?=,)|no live/
--- grep_error_log_out
with none
connect() failed
connect() failed
connect() failed
with two
connect() failed
connect() failed
with one
connect() failed
with free
connect() failed
connect() failed
connect() failed
--- no_error_log
[alert]
[crit]


=== TEST 6: a bad option is named with its value and what is allowed
--- http_config eval
main::balance(init => q{
    local time = "an integer from 1 to 86400000"
    local number = {
        tries = "an integer from 0 to 64", retry_percent = "an integer from 0 to 100, or false for no limit",
        retry_floor = "an integer from 0 to 1000000", keepalive_requests = "an integer from 1 to 1000000000",
        connect_timeout = time, send_timeout = time, read_timeout = time, keepalive_timeout = time,
    }
    -- name, value, how it is shown, what is allowed, what is wrong with it
    rows = {
        { "keepalive", "yes", '"yes"', "true or false", "type" }, { "keepalive", 1, "1", "true or false", "type" },
        { "host", 7, "7", "a host name", "type" }, { "host", true, "true", "a host name", "type" },
    }
    for name, allowed in pairs(number) do
        local min, max = allowed:match("from (%d+) to (%d+)")
        local below, above = tonumber(min) - 1, tonumber(max) + 1
        local function add(value, shown, class)
            rows[#rows + 1] = { name, value, shown, allowed, class }
        end
        add("much", '"much"', "type")
        add(true, "true", "type")
        add(below, ("%.0f"):format(below), "below")
        add(above, ("%.0f"):format(above), "above")
        add(1.5, "1.5", "type")
    end
    for i, row in ipairs(rows) do
        options["row" .. i] = { [row[1]] = row[2] }
    end
    options.unknown, options.number, options.text = { trys = 1 }, 5, "tries"

    -- Errors in a worker's log are in a dictionary as well.
    local log = ngx.log
    ngx.log = function(level, ...)
        if level == ngx.ERR then
            ngx.shared.logged:rpush("lines", table.concat { ... })
        end
        return log(level, ...)
    end
    function logged(...)
        local status = gets(1, T.port + 7, ...)
        local line, none = ngx.shared.logged:lpop("lines"), ngx.shared.logged:lpop("lines")
        return status .. " " .. tostring(line) .. (none and " and " .. none or "")
    end
}, more => "lua_shared_dict logged 1m;")
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", 1)
            local function said(args)
                return logged("api", args)
            end
            local seen = {}
            for i, row in ipairs(rows) do
                seen[row[1] .. " " .. row[5]] = true
                local expected = "502 dyups: balance: options." .. row[1] .. ": " .. row[3] .. ": allowed: " .. row[4]
                local got = said("options=row" .. i)
                if got ~= expected then
                    ngx.say(got, " not ", expected)
                end
            end
            local unknown = said("options=unknown")
            ngx.say(unknown)
            for name in unknown:match("known: (.*)$"):gmatch("[%w_]+") do
                for _, class in ipairs(name == "host" and { "type" } or name == "keepalive" and { "type" }
                                       or { "type", "below", "above" }) do
                    if not seen[name .. " " .. class] then
                        ngx.say("no row for ", name, ": ", class)
                    end
                end
            end
            ngx.say(said("options=number"))
            ngx.say(said("options=text"))
            ngx.say((said("method=fair"):gsub("allowed: .*", "allowed: ...")))
            ngx.say(gets(1, T.port + 7, "api"))
        }
    }
--- response_body
502 dyups: balance: options.trys: not known to this version; known: tries, retry_percent, retry_floor, connect_timeout, send_timeout, read_timeout, keepalive, keepalive_timeout, keepalive_requests, host
502 dyups: balance: opts: a number: allowed: a table
502 dyups: balance: opts: a string: allowed: a table
502 dyups: balance: method: "fair": allowed: ...
1
--- no_error_log
[alert]


=== TEST 7: ip_hash sends 20 clients where nginx's own does, whether a call asks for it or the upstream has it
--- http_config eval
my @ports = map { Dyups::port($_) } 1 .. 4;
main::balance(location => 'location /own { proxy_pass http://own; }', more => qq[
    upstream own {
        ip_hash;
        server 127.0.0.1:$ports[0] weight=3;
        server 127.0.0.1:$ports[1];
        server 127.0.0.1:$ports[2] weight=2 down;
        server 127.0.0.1:$ports[3] weight=2;
    }
])
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", { n = 1, weight = 3 }, 2, { n = 3, weight = 2, status = "down" }, { n = 4, weight = 2 })
            local peers = dyups.status("api").upstreams.api.peers
            assert(dyups.set_upstream("declared", { method = "ip_hash", peers = peers }))
            local seen = {}
            for i = 1, 20 do
                local client = (i % 2 == 0 and "10.%d.%d.7" or "192.0.%d.%d"):format(i * 11, i * 5)
                if i > 17 then
                    client = "2001:db8::" .. i
                end
                local header = "X-Real-IP: " .. client .. "\r\n"
                local _, own = T.request(T.port + 7, "GET", "/own", nil, "api", header)
                for host, args in pairs { api = "/?method=ip_hash", declared = "/" } do
                    local _, mine = T.request(T.port + 7, "GET", args, nil, host, header)
                    if own ~= mine then
                        ngx.say(client, " ", host, ": ", mine, " not ", own)
                    end
                end
                seen[own] = true
            end
            local n = 0
            for _ in pairs(seen) do
                n = n + 1
            end
            ngx.say(n)
        }
    }
--- response_body
3


=== TEST 8: least_conn takes turns as nginx's own while all are idle
--- http_config eval
my @ports = map { Dyups::port($_) } 1 .. 4;
main::balance(location => 'location /own { proxy_pass http://own; }', more => qq[
    upstream own {
        zone own 64k;
        least_conn;
        server 127.0.0.1:$ports[0] weight=3;
        server 127.0.0.1:$ports[1];
        server 127.0.0.1:$ports[2] weight=2;
    }
])
--- config
    location = /t {
        content_by_lua_block {
            T.set("api", { n = 1, weight = 3 }, 2, { n = 3, weight = 2 })
            local own, mine = {}, {}
            for i = 1, 24 do
                local _, body = T.request(T.port + 7, "GET", "/own", nil, "api")
                own[i] = tonumber(body) - T.port
                mine[i] = gets(1, T.port + 7, "api", "method=least_conn")
            end
            own, mine = table.concat(own, " "), table.concat(mine, " ")
            ngx.say(own == mine and "the same" or own .. "\n" .. mine)
            ngx.say(states("api"))
        }
    }
--- response_body
the same
0/0 0/0 0/0


=== TEST 9: a peer's own 503 is passed on where no other peer takes traffic, and a first try may go to another peer
--- http_config eval
my $busy = Dyups::port(12);
main::balance(more => qq{
    server { listen 127.0.0.1:$busy; location / { return 503 "busy"; } }
    upstream begun_elsewhere {
        server 127.0.0.1:1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            if balancer.get_last_failure() then
                return dyups.balance(ngx.var.host)
            end
            assert(balancer.set_current_peer("127.0.0.1", 1))
            assert(balancer.set_more_tries(1))
        }
    }
}, location => 'location /elsewhere { proxy_pass http://begun_elsewhere; }')
--- config
    location = /t {
        content_by_lua_block {
            T.set("busy", 12, { n = 2, status = "down" })
            T.set("down", { n = 1, status = "down" })
            local status, body = T.request(T.port + 7, "GET", "/", nil, "busy")
            ngx.say(status, " ", body)
            T.set("api", 1)
            for _, host in ipairs { "api", "down" } do
                ngx.say((T.request(T.port + 7, "GET", "/elsewhere", nil, host)))
            end
            for id = 0, 1 do
                ngx.say(T.in_worker(id, "return require('dyups.library').C.dyups_balancing()"))
            end
            ngx.say(states("api"))
        }
    }
--- response_body
503 busy
200
502
0
0
0/0
--- no_error_log
[alert]
[crit]
