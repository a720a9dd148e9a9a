# The HTTP interface: what ngx_http_dyups_module answers, byte for byte, and /status.

use lib 't/lib';
use Dyups;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
no_long_string();
Dyups::defaults();

# ask(METHOD, PATH, BODY): an answer as a line; newlines as "|", so that one at the end is seen.
our $Ask = q{
    function ask(method, path, body, headers)
        local status, text, got = T.request(T.port + 8, method, path, body, nil, headers)
        if not status then
            return ngx.say(method, " ", path, ": ", text)
        end
        ngx.say(method, " ", path, ": ", status, " [", (text:gsub("\n", "|")), "]",
                got["x-dyups-error"] and " " .. got["x-dyups-error"] or "")
        return status, text, got
    end
    function empty()
        for name in pairs(dyups.status().upstreams) do
            assert(dyups.delete_upstream(name, { force = true }))
        end
    end
};

run_tests();

__DATA__

=== TEST 1: with no upstreams the lists are 204
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            ask("GET", "/list")
            ask("GET", "/detail")
            ask("GET", "/upstream/api")
        }
    }
--- response_body
GET /list: 204 []
GET /detail: 204 []
GET /upstream/api: 404 [] upstream api: not found


=== TEST 2: POST, list, detail, GET and DELETE of an upstream
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            ask("POST", "/upstream/host1", "server 127.0.0.1:8088;")
            ask("POST", "/upstream/host2", "server 127.0.0.1:8089 weight=3 max_conns=2 max_fails=0 fail_timeout=1m; server 127.0.0.1:8090 backup; server [::1] down; server unix:/p drain;")
            ask("GET", "/list")
            ask("GET", "/detail")
            ask("GET", "/upstream/host1")
            ask("GET", "/upstream/host2")
            ask("DELETE", "/upstream/host1")
            ask("DELETE", "/upstream/host1")
            ask("GET", "/list")
            ask("POST", "/upstream/host2", "server 127.0.0.1:9999;")
            ask("GET", "/upstream/host2")
        }
    }
--- response_body
POST /upstream/host1: 200 [success]
POST /upstream/host2: 200 [success]
GET /list: 200 [host1|host2|]
GET /detail: 200 [host1|server 127.0.0.1:8088 weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=0 down=0||host2|server 127.0.0.1:8089 weight=3 max_conns=2 max_fails=0 fail_timeout=60 backup=0 down=0|server 127.0.0.1:8090 weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=1 down=0|server [::1]:80 weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=0 down=1|server unix:/p weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=0 down=0||]
GET /upstream/host1: 200 [server 127.0.0.1:8088|]
GET /upstream/host2: 200 [server 127.0.0.1:8089|server 127.0.0.1:8090|server [::1]:80|server unix:/p|]
DELETE /upstream/host1: 200 [success]
DELETE /upstream/host1: 404 [not found uptream] upstream host1: not found
GET /list: 200 [host2|]
POST /upstream/host2: 200 [success]
GET /upstream/host2: 200 [server 127.0.0.1:9999|]


=== TEST 3: what does not parse is 500, changes nothing, and the header says why
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            ask("POST", "/upstream/api", "server 127.0.0.1:8088;")
            for _, body in ipairs {
                "server", "server ;", "server 127.0.0.1:8089", "server 127.0.0.1:8089 weight=-1;",
                "server 127.0.0.1:8089; server api.local;", "hello", "server 127.0.0.1:8089; }", "ip_hash;",
                "server 127.0.0.1; server 127.0.0.1:80;", "server 127.0.0.1:0;", "\0", "server 127.0.0.1:8089;\0",
                " ", "# nothing",
            } do
                ask("POST", "/upstream/api", body)
            end
            ask("GET", "/upstream/api")
        }
    }
--- response_body_like eval
qr{^POST /upstream/api: 200 \[success\]
(?:POST /upstream/api: 500 \[add server failed\] body:\d+: [^\n]+\n){14}GET /upstream/api: 200 \[server 127\.0\.0\.1:8088\|\]$}


=== TEST 4: an empty body is 204 and changes nothing
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            ask("POST", "/upstream/api", "server 127.0.0.1:8088;")
            ask("POST", "/upstream/api", "")
            ask("POST", "/upstream/new", "")
            ask("POST", "/elsewhere", "")
            T.say(T.http(T.port + 8, "POST /upstream/new HTTP/1.0\r\n\r\n"))
            ask("GET", "/list")
        }
    }
--- response_body_like
^POST /upstream/api: 200 \[success\]
POST /upstream/api: 204 \[\]
POST /upstream/new: 204 \[\]
POST /elsewhere: 204 \[\]
204 .*
GET /list: 200 \[api\|\]$


=== TEST 5: what is not there has the module's words
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            for _, method in ipairs { "GET", "DELETE", "POST" } do
                for _, path in ipairs { "/", "/upstream", "/upstream/", "/nothing", "/list/x", "/a/b", "/a/b/c", "/upstream/a/b" } do
                    ask(method, path, method == "POST" and "server 127.0.0.1:1;" or nil)
                end
            end
            ask("GET", "/list")
        }
    }
--- response_body
GET /: 404 []
GET /upstream: 404 []
GET /upstream/: 404 []
GET /nothing: 404 []
GET /list/x: 204 []
GET /a/b: 404 []
GET /a/b/c: 404 []
GET /upstream/a/b: 404 []
DELETE /: 405 [not support this interface]
DELETE /upstream: 405 [not support this interface]
DELETE /upstream/: 405 [not support this interface]
DELETE /nothing: 405 [not support this interface]
DELETE /list/x: 405 [not support this api]
DELETE /a/b: 405 [not support this api]
DELETE /a/b/c: 405 [not support this interface]
DELETE /upstream/a/b: 405 [not support this interface]
POST /: 404 [not support this interface]
POST /upstream: 404 [not support this interface]
POST /upstream/: 404 [not support this interface]
POST /nothing: 404 [not support this interface]
POST /list/x: 404 [not support this api]
POST /a/b: 404 [not support this api]
POST /a/b/c: 404 [not support this interface]
POST /upstream/a/b: 404 [not support this interface]
GET /list: 204 []


=== TEST 6: other methods are 405 without a body
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            ask("PUT", "/upstream/api", "server 127.0.0.1:8088;")
            ask("PATCH", "/upstream/api", "server 127.0.0.1:8088;")
            ask("OPTIONS", "/list")
            ask("BREW", "/list")
            T.say(dyups.find("api"))
        }
    }
--- response_body
PUT /upstream/api: 405 []
PATCH /upstream/api: 405 []
OPTIONS /list: 405 []
BREW /list: 405 []
nil upstream api: not found


=== TEST 7: words of the path ignore case, names do not
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            ask("POST", "/UPSTREAM/Api", "server 127.0.0.1:8088;")
            ask("GET", "/List")
            ask("GET", "/DETAIL")
            ask("GET", "/Upstream/Api")
            ask("GET", "/upstream/api")
            ask("DELETE", "/uPSTREAM/Api")
            ask("GET", "/LIST")
        }
    }
--- response_body
POST /UPSTREAM/Api: 200 [success]
GET /List: 200 [Api|]
GET /DETAIL: 200 [Api|server 127.0.0.1:8088 weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=0 down=0||]
GET /Upstream/Api: 200 [server 127.0.0.1:8088|]
GET /upstream/api: 404 [] upstream api: not found
DELETE /uPSTREAM/Api: 200 [success]
GET /LIST: 204 []


=== TEST 8: HEAD answers as GET, without the body
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            ask("HEAD", "/list")
            ask("POST", "/upstream/api", "server 127.0.0.1:8088;")
            for _, path in ipairs { "/list", "/detail", "/upstream/api", "/upstream/nope" } do
                local _, text = T.request(T.port + 8, "GET", path)
                local _, _, headers = ask("HEAD", path)
                ngx.say(headers["content-length"] == tostring(#text))
            end
        }
    }
--- response_body
HEAD /list: 204 []
POST /upstream/api: 200 [success]
HEAD /list: 200 []
true
HEAD /detail: 200 []
true
HEAD /upstream/api: 200 []
true
HEAD /upstream/nope: 404 [] upstream nope: not found
true


=== TEST 9: types and lengths are given, an answer keeps the connection alive
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            for _, path in ipairs { "/upstream/api", "/list", "/nothing" } do
                if path == "/list" then
                    T.request(T.port + 8, "POST", "/upstream/api", "server 127.0.0.1:8088;")
                end
                local status, text, headers = T.request(T.port + 8, "GET", path)
                ngx.say(status, " ", headers["content-type"], " ", headers["content-length"] == tostring(#text), " ",
                        headers["transfer-encoding"])
            end
            local sock = ngx.socket.tcp()
            sock:connect("127.0.0.1", T.port + 8)
            for _ = 1, 3 do
                sock:send("POST /upstream/api HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\n\r\nserver 127.0.0.1:8088;")
                ngx.print(sock:receive("*l"), " ")
                repeat
                    local line = sock:receive("*l")
                until not line or line == ""
                ngx.say(sock:receive(7))
            end
            sock:close()
        }
    }
--- response_body
404 text/plain true nil
200 text/plain true nil
404 text/plain true nil
HTTP/1.1 200 OK success
HTTP/1.1 200 OK success
HTTP/1.1 200 OK success


=== TEST 10: /status is JSON
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            T.request(T.port + 8, "POST", "/upstream/api", "server 127.0.0.1:8088 weight=2;")
            local status, text, headers = T.request(T.port + 8, "GET", "/status")
            ngx.say(status, " ", headers["content-type"], " ", headers["content-length"] == tostring(#text))
            local decoded = require("cjson").decode(text)
            ngx.say(T.show(decoded) == T.show(dyups.status()))
            ngx.say(decoded.upstreams.api.peers[1].weight)
            ngx.say(T.request(T.port + 8, "GET", "/STATUS") == 200)
            ask("POST", "/status", "{}")
            ask("DELETE", "/status")
        }
    }
--- response_body
200 application/json true
true
2
true
POST /status: 404 [not support this interface]
DELETE /status: 405 [not support this interface]


=== TEST 11: a change that HTTP made is seen by the next request, in either worker
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            local wrong = 0
            for i = 1, 40 do
                local peer = i % 4 + 1
                local status = T.request(T.port + 8, "POST", "/upstream/api", "server 127.0.0.1:" .. T.port + peer .. ";")
                if status ~= 200 or T.get("api") ~= tostring(peer) then
                    wrong = wrong + 1
                end
            end
            ngx.say("wrong: ", wrong)
        }
    }
--- response_body
wrong: 0


=== TEST 12: a body in several packets, and one in chunks, are whole
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            local function slowly(...)
                local sock = ngx.socket.tcp()
                sock:connect("127.0.0.1", T.port + 8)
                for _, piece in ipairs { ... } do
                    sock:send(piece)
                    ngx.sleep(0.02)
                end
                local line = sock:receive("*l")
                sock:close()
                return line
            end
            ngx.say(slowly("POST /upstream/api HTTP/1.1\r\nHost: a\r\n", "Content-Length: 44\r\n\r\n", "server 127.0.",
                           "0.1:8088;server 127.0.0", ".2:8089", ";"))
            ngx.say(T.peers("api"))
            ngx.say(slowly("POST /upstream/api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "7\r\nserver \r\n",
                           "f\r\n127.0.0.3:8088;\r\n", "0\r\n\r\n"))
            ngx.say(T.peers("api"))
        }
    }
--- response_body
HTTP/1.1 200 OK
127.0.0.1:8088 1 up, 127.0.0.2:8089 1 up
HTTP/1.1 200 OK
127.0.0.3:8088 1 up


=== TEST 13: a body that does not fit into memory is read from its file
--- http_config eval: Dyups::proxy(init => $::Ask, size => '16m', more => 'client_body_buffer_size 1k;')
--- config
    location = /t {
        content_by_lua_block {
            empty()
            local lines = {}
            for i = 1, 20000 do
                lines[i] = "server 10." .. i % 4 .. "." .. math.floor(i / 100) .. "." .. i % 100 .. ":8088;\n"
            end
            ask("POST", "/upstream/api", table.concat(lines))
            ngx.say(#dyups.status("api").upstreams.api.peers)
            local _, text = T.request(T.port + 8, "GET", "/upstream/api")
            ngx.say(text == table.concat(lines):gsub(";", ""))
            ask("POST", "/upstream/api", ("x"):rep(100000))
            ngx.say(#dyups.status("api").upstreams.api.peers)
        }
    }
--- response_body_like
^POST /upstream/api: 200 \[success\]
20000
true
POST /upstream/api: 500 \[add server failed\] body:1: .*
20000$
--- timeout: 10
--- no_error_log
[error]
[alert]
[crit]


=== TEST 14: a name is percent-decoded by nginx, and refused when it is none then
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            for _, name in ipairs { "a%70i", "www.example.com%3a80", "gr%C3%B6%C3%9Fe", "100%25" } do
                ask("POST", "/upstream/" .. name, "server 127.0.0.1:8088;")
            end
            ask("GET", "/list")
            ask("GET", "/upstream/%61pi")
            ask("DELETE", "/upstream/%61%70%69")
            empty()
            for _, name in ipairs { "a%20b", "a%0ab", "a%7cb", "a%7Fb", "a%ffb", "a%252fb", "a%2500b", ("x"):rep(256) } do
                local shown = name:sub(1, 10)
                for method, body in pairs { POST = "server 127.0.0.1:8088;" } do
                    local status, text, headers = T.request(T.port + 8, method, "/upstream/" .. name, body)
                    ngx.say(shown, ": ", status, " ", text, " ", headers["x-dyups-error"]:match(": allowed: a name of 1 to 255"))
                end
                local status, text, headers = T.request(T.port + 8, "DELETE", "/upstream/" .. name)
                ngx.say(shown, ": ", status, " ", text, " ", headers["x-dyups-error"] ~= nil)
                status, text, headers = T.request(T.port + 8, "GET", "/upstream/" .. name)
                ngx.say(shown, ": ", status, " ", text, "", headers["x-dyups-error"] ~= nil)
            end
            -- More parts, for nginx decodes before dyups splits.
            ask("POST", "/upstream/a%2fb", "server 127.0.0.1:8088;")
            -- nginx's own 400.
            ngx.say((T.request(T.port + 8, "POST", "/upstream/a%00b", "server 127.0.0.1:8088;")))
            ngx.say((T.request(T.port + 8, "POST", "/upstream/a%zzb", "server 127.0.0.1:8088;")))
            ask("GET", "/list")
        }
    }
--- response_body_like eval
my $bad = '';
for my $name (qw(a%20b a%0ab a%7cb a%7Fb a%ffb a%252fb a%2500b), 'x' x 10) {
    $bad .= "$name: 500 add server failed : allowed: a name of 1 to 255\n"
        . "$name: 404 not found uptream true\n$name: 404 true\n";
}
my $ok = "POST /upstream/a%70i: 200 [success]
POST /upstream/www.example.com%3a80: 200 [success]
POST /upstream/gr%C3%B6%C3%9Fe: 200 [success]
POST /upstream/100%25: 200 [success]
GET /list: 200 [100%|api|gr\xc3\xb6\xc3\x9fe|www.example.com:80|]
GET /upstream/%61pi: 200 [server 127.0.0.1:8088|]
DELETE /upstream/%61%70%69: 200 [success]
";
my $end = "POST /upstream/a%2fb: 404 [not support this interface]
400
400
GET /list: 204 []
";
qr/^\Q$ok$bad$end\E$/
--- no_error_log
[error]
[alert]
[crit]


=== TEST 15: what is not wrong but should be read is in the header too
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            ask("POST", "/upstream/api", "server 127.0.0.1:8088; keepalive 32;")
            ask("GET", "/upstream/api")
        }
    }
--- response_body
POST /upstream/api: 200 [success] body:1: keepalive belongs into nginx.conf's upstream block: ignored
GET /upstream/api: 200 [server 127.0.0.1:8088|]


=== TEST 16: hash ... consistent makes an upstream of method chash
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            ask("POST", "/upstream/api", "hash $remote_addr consistent; server 127.0.0.1:8088;")
            T.say(dyups.status("api").upstreams.api.method)
            ask("POST", "/upstream/api", "server 127.0.0.1:8088;")
            T.say(dyups.status("api").upstreams.api.method)
        }
    }
--- response_body
POST /upstream/api: 200 [success]
chash
POST /upstream/api: 200 [success]
nil


=== TEST 17: a prefix stands before the path
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            ask("GET", "/prefix/list")
            ask("POST", "/prefix/upstream/api", "server 127.0.0.1:8088;")
            ask("GET", "/prefix/upstream/api")
            ask("GET", "/prefix/LIST")
            ask("GET", "/prefix/prefix/list")
            ask("GET", "/prefix/")
            ask("DELETE", "/prefix/upstream/api")
        }
    }
--- response_body
GET /prefix/list: 204 []
POST /prefix/upstream/api: 200 [success]
GET /prefix/upstream/api: 200 [server 127.0.0.1:8088|]
GET /prefix/LIST: 200 [api|]
GET /prefix/prefix/list: 404 []
GET /prefix/: 404 []
DELETE /prefix/upstream/api: 200 [success]


=== TEST 18: a query is not looked at, double slashes are one
--- http_config eval: Dyups::proxy(init => $::Ask, more => 'merge_slashes off;')
--- config
    location = /t {
        content_by_lua_block {
            empty()
            ask("POST", "//upstream//api?weight=1", "server 127.0.0.1:8088;")
            ask("GET", "/list?verbose=")
            ask("GET", "/list/")
            ask("DELETE", "/upstream/api/?force")
        }
    }
--- response_body
POST //upstream//api?weight=1: 200 [success]
GET /list?verbose=: 200 [api|]
GET /list/: 200 [api|]
DELETE /upstream/api/?force: 200 [success]


=== TEST 19: before setup the interface says what is missing
--- http_config eval: Dyups::http_config()
--- config
    location ~ list {
        content_by_lua_block { require("dyups.admin").serve() }
    }
--- request
GET /list
--- error_code: 500
--- response_headers_like
X-Dyups-Error: dyups\.setup has not succeeded in this process.*
--- error_log
dyups.setup has not succeeded in this process
--- no_error_log
[alert]


=== TEST 20: an answer larger than any buffer is whole
--- http_config eval: Dyups::proxy(init => $::Ask, size => '64m')
--- config
    location = /t {
        content_by_lua_block {
            local peers = {}
            for i = 1, 50000 do
                peers[i] = { host = "10." .. i % 200 .. "." .. math.floor(i / 200) .. ".1", port = 8080 }
            end
            assert(dyups.set_upstream("api", { peers = peers }))
            local status, text, headers = T.request(T.port + 8, "GET", "/detail")
            local _, lines = text:gsub("\n", "")
            ngx.say(status, " ", lines, " ", headers["content-length"] == tostring(#text))
            status, text = T.request(T.port + 8, "GET", "/status")
            ngx.say(status, " ", #require("cjson").decode(text).upstreams.api.peers)
        }
    }
--- timeout: 10
--- response_body
200 50002 true
200 50000
