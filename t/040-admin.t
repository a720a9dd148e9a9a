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
GET /detail: 200 [host1|server 127.0.0.1:8088 weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=0 down=0||host2|server 127.0.0.1:8089 weight=3 max_conns=2 max_fails=0 fail_timeout=60 backup=0 down=0|server 127.0.0.1:8090 weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=1 down=0|server [::1]:80 weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=0 down=1|server unix:/p weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=0 down=0 drain=1||]
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
                "server 127.0.0.1; zone;", "server 127.0.0.1:0;", "\0", "server 127.0.0.1:8089;\0",
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
--- no_error_log
[warn]


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
                sock:send("POST /upstream/api HTTP/1.1\r\nHost: localhost\r\nContent-Length: 22\r\n\r\nserver 127.0.0.1:8088;")
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
            ngx.say(slowly("POST /upstream/api HTTP/1.1\r\nHost: localhost\r\n", "Content-Length: 44\r\n\r\n", "server 127.0.",
                           "0.1:8088;server 127.0.0", ".2:8089", ";"))
            ngx.say(T.peers("api"))
            ngx.say(slowly("POST /upstream/api HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", "7\r\nserver \r\n",
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
GET /list: 200 [api|www.example.com:80|gr\xc3\xb6\xc3\x9fe|100%|]
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
POST /upstream/api: 200 [success] upstream api has lost its method (chash): GET /upstream/api?full has all that POST takes back
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
            ngx.say(status, " ", lines, " ", headers["transfer-encoding"])
            status, text = T.request(T.port + 8, "GET", "/status")
            ngx.say(status, " ", #require("cjson").decode(text).upstreams.api.peers)
        }
    }
--- timeout: 10
--- response_body
200 50002 chunked
200 50000


=== TEST 21: no path forges a line of the log, or hides what it says
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            local paths = { "a%0aforged", "a%c2%85forged", "a%e2%80%a8forged", "a%e2%80%aeforged", "a%e2%81%a6forged", "a%1b[2Jforged", "a%ffforged" }
            for _, path in ipairs(paths) do
                ask("DELETE", "/upstream/" .. path)
            end
            ask("POST", "/upstream/api", "server 127.0.0.1 \"\n\226\128\174\";")
        }
    }
--- response_body
DELETE /upstream/a%0aforged: 404 [not found uptream] upstream "a\x0aforged": allowed: a name of 1 to 255 bytes of UTF-8 without control bytes, "/", "|" or space
DELETE /upstream/a%c2%85forged: 404 [not found uptream] upstream a\u{85}forged: not found
DELETE /upstream/a%e2%80%a8forged: 404 [not found uptream] upstream a\u{2028}forged: not found
DELETE /upstream/a%e2%80%aeforged: 404 [not found uptream] upstream a\u{202e}forged: not found
DELETE /upstream/a%e2%81%a6forged: 404 [not found uptream] upstream a\u{2066}forged: not found
DELETE /upstream/a%1b[2Jforged: 404 [not found uptream] upstream "a\x1b[2Jforged": allowed: a name of 1 to 255 bytes of UTF-8 without control bytes, "/", "|" or space
DELETE /upstream/a%ffforged: 404 [not found uptream] upstream "a\xffforged": allowed: a name of 1 to 255 bytes of UTF-8 without control bytes, "/", "|" or space
POST /upstream/api: 500 [add server failed] body:1: "\x0a\u{202e}" is not known of a server; known: weight=, max_conns=, max_fails=, fail_timeout=, slow_start=, check_port=, check_url=, check_host=, backup, down, drain, leaving
--- error_log eval
['dyups: DELETE /upstream/a\x0aforged: ', 'dyups: DELETE /upstream/a\u{85}forged: ', 'dyups: DELETE /upstream/a\u{2028}forged: ',
 'dyups: DELETE /upstream/a\u{202e}forged: ', 'dyups: DELETE /upstream/a\u{2066}forged: ', 'dyups: DELETE /upstream/a\x1b[2Jforged: ',
 'dyups: DELETE /upstream/a\xffforged: ']
--- no_error_log eval
[qr/^forged/, qr/[\x00-\x09\x1b\x7f]|\xc2\x85|\xe2\x80[\xa8-\xae]|\xe2\x81\xa6|\xff/]
--- log_level: info


=== TEST 22: lists are in the order in which upstreams were made, whatever changes later, through reloads too
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            for _, name in ipairs { "host2", "host1", "dyhost" } do
                ask("POST", "/upstream/" .. name, "server 127.0.0.1:8088;")
            end
            ask("POST", "/upstream/host2", "server 127.0.0.1:8089;")
            ask("GET", "/list")
            local _, detail = T.request(T.port + 8, "GET", "/detail")
            ngx.say((detail:gsub("server [^\n]*", ""):gsub("\n+", "|")))
            ask("DELETE", "/upstream/host2")
            ask("POST", "/upstream/host2", "server 127.0.0.1:8089;")
            ask("GET", "/list")
        }
    }
--- response_body
POST /upstream/host2: 200 [success]
POST /upstream/host1: 200 [success]
POST /upstream/dyhost: 200 [success]
POST /upstream/host2: 200 [success]
GET /list: 200 [host2|host1|dyhost|]
host2|host1|dyhost|
DELETE /upstream/host2: 200 [success]
POST /upstream/host2: 200 [success]
GET /list: 200 [host1|dyhost|host2|]


=== TEST 23: what GET answers with ?full is posted back unchanged, and what a list of addresses loses is said
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            assert(dyups.set_upstream("api", {
                method = "chash", hash_id = "host:port",
                healthcheck = { type = "tcp", interval = 86400000, send = "a\r\n\"b", expect = "c;" },
                peers = {
                    { host = "127.0.0.1", port = 8088, weight = 3, max_conns = 7, max_fails = 0, fail_timeout = 0, slow_start = 9, check_port = 81 },
                    { host = "unix:/run/a;b c", status = "drain", check_host = "a.local" },
                    { server = "10.0.0.1", status = "down", backup = true },
                },
            }))
            local function shown() return (T.show(dyups.status("api").upstreams.api):gsub("generation=%d+ ", "")) end
            local before = shown()
            local _, full = ask("GET", "/upstream/api?full")
            ask("POST", "/upstream/api", full)
            local after = shown()
            ngx.say(before == after or before .. "|" .. after)
            local _, plain = ask("GET", "/upstream/api")
            ask("POST", "/upstream/api", (plain:gsub("\n", ";")))
            T.say(dyups.status("api").upstreams.api.healthcheck.send == "a\r\n\"b")
            ask("POST", "/upstream/api", full)
            ask("POST", "/upstream/api", "method chash; hash_id host:port; server 127.0.0.1:8088;")
            ask("GET", "/upstream/api?fuller&x=full")
            local _, last = ask("GET", "/upstream/api?x&full=1")
            ask("POST", "/upstream/api", (last:gsub("check type=tcp", "%0 port=1")))
            ask("GET", "/upstream/api?full")
        }
    }
--- response_body
GET /upstream/api?full: 200 [method chash;|hash_id host:port;|check type=tcp "send=a\r\n\"b" "expect=c;" interval=86400000 timeout=2000 rise=2 fall=3 concurrency=10 default_down=false panic_threshold=0;|server 127.0.0.1:8088 weight=3 max_conns=7 max_fails=0 fail_timeout=0s slow_start=9s check_port=81;|server "unix:/run/a;b c" check_host=a.local drain;|server 10.0.0.1 backup down;|]
POST /upstream/api: 200 [success]
true
GET /upstream/api: 200 [server 127.0.0.1:8088|server "unix:/run/a;b c"|server 10.0.0.1:80|]
POST /upstream/api: 200 [success] upstream api has lost its method (chash) and its hash_id (host:port) and the drain of 1 peer: GET /upstream/api?full has all that POST takes back
true
POST /upstream/api: 200 [success]
POST /upstream/api: 200 [success]
GET /upstream/api?fuller&x=full: 200 [server 127.0.0.1:8088|]
GET /upstream/api?x&full=1: 200 [method chash;|hash_id host:port;|check type=tcp "send=a\r\n\"b" "expect=c;" interval=86400000 timeout=2000 rise=2 fall=3 concurrency=10 default_down=false panic_threshold=0;|server 127.0.0.1:8088;|]
POST /upstream/api: 200 [success]
GET /upstream/api?full: 200 [method chash;|hash_id host:port;|check type=tcp "send=a\r\n\"b" "expect=c;" port=1 interval=86400000 timeout=2000 rise=2 fall=3 concurrency=10 default_down=false panic_threshold=0;|server 127.0.0.1:8088;|]


=== TEST 24: check lines act, as in nginx_upstream_check_module
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            local function state()
                return dyups.status("dyhost").upstreams.dyhost.peers[1].state
            end
            local peer = "server 127.0.0.1:" .. T.port + 1 .. ";"
            ask("POST", "/upstream/dyhost", peer .. "check interval=3000 rise=2 fall=5 timeout=1000 type=http default_down=false;")
            ngx.say(T.get("dyhost"), " ", state())
            local check = dyups.status("dyhost").upstreams.dyhost.healthcheck
            ngx.say(check.type, " ", check.interval, " ", check.fall, " ", #check.valid_statuses)
            ask("DELETE", "/upstream/dyhost")
            ask("POST", "/upstream/dyhost", peer .. [[check interval=50 rise=2 fall=5 timeout=1000 type=http default_down=true;
                check_http_send "GET / HTTP/1.0\r\n\r\n"; check_http_expect_alive http_2xx http_3xx;]])
            ngx.say(state())
            for _ = 1, 300 do
                if state() == "up" then break end
                ngx.sleep(0.02)
            end
            ngx.say(state())
            ask("POST", "/upstream/dyhost", peer .. "check interval=50 rise=1 fall=2 timeout=1000 type=http; check_http_expect_alive 404;")
            for _ = 1, 300 do
                if state() == "unhealthy" then break end
                ngx.sleep(0.02)
            end
            ngx.say(state())
            ask("POST", "/upstream/dyhost", peer)
            ngx.say(dyups.status("dyhost").upstreams.dyhost.healthcheck.valid_statuses[1])
            ask("POST", "/upstream/dyhost", peer .. "check off;")
            ngx.say(tostring(dyups.status("dyhost").upstreams.dyhost.healthcheck), " ", state())
        }
    }
--- response_body
POST /upstream/dyhost: 200 [success]
1 up
http 3000 5 200
DELETE /upstream/dyhost: 200 [success]
POST /upstream/dyhost: 200 [success]
checking
up
POST /upstream/dyhost: 200 [success]
unhealthy
POST /upstream/dyhost: 200 [success]
404
POST /upstream/dyhost: 200 [success]
false up


=== TEST 25: ngx.dyups has update and delete
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            local module = require "ngx.dyups"
            T.say(module.update("dyhost", "server 127.0.0.1:" .. T.port + 2 .. ";"))
            ngx.say(T.get("dyhost"))
            T.say(module.update("dyhost", "server x;"))
            T.say(module.update("dyhost", ""))
            T.say(module.update("dy/host", "server 127.0.0.1;"))
            T.say(module.update(7, "server 127.0.0.1;"))
            T.say(module.update("dyhost", nil))
            T.say(module.update("dyhost", "server 127.0.0.1;", { bye = "x" }))
            T.say(module.delete("dyhost"))
            T.say(module.delete("dyhost"))
            ngx.say(T.get("dyhost"))
        }
    }
--- response_body_like
^200 success 
2
500 add server failed body:1: server: "x": a name that needs DNS.*
204  
500 add server failed upstream "dy/host": allowed: .*
500  upstream: 7: allowed: a string
500  text: a nil: allowed: a string
500  options.bye: not known to this version; known: by
200 success 
404 not found uptream upstream dyhost: not found
502$
--- error_log
no live upstreams
--- no_error_log
[alert]


=== TEST 26: a foreign Host is refused, a change by a page of another site too
--- http_config eval
Dyups::proxy(init => $::Ask, setup => 'admin = { hosts = { "Admin.Example" } }', more => '
    map "" $admin { default unix:' . Dyups::socket('admin.sock') . '; }
    server { listen unix:' . Dyups::socket('admin.sock') . '; location / { content_by_lua_block { require("dyups.admin").serve() } } }')
--- config
    location = /t {
        content_by_lua_block {
            empty()
            local function from(host, headers, method)
                local body = "server 127.0.0.1:8088;"
                local status, text, got = T.request(T.port + 8, method or "POST", "/upstream/api", body, host, headers)
                ngx.say(host, " ", ((headers or ""):gsub("\r\n", " ")), ": ", status, " ", text, " ", text == got["x-dyups-error"])
            end
            from("127.0.0.1:" .. T.port + 8)
            from("admin.example")
            from("evil.example")
            from("evil.example", "", "GET")
            from("[::1]", "Origin: http://[::1]\r\n")
            from("localhost", "Origin: http://evil.example\r\n")
            from("localhost", "Origin: http://evil.example\r\n", "DELETE")
            from("localhost", "Origin: https://admin.example\r\nSec-Fetch-Site: cross-site\r\n")
            from("localhost", "Origin: null\r\n")
            from("localhost", "Sec-Fetch-Site: same-site\r\n")
            from("localhost", "Sec-Fetch-Site: cross-site\r\n", "GET")
            ngx.say((T.http(T.port + 8, "GET /list HTTP/1.0\r\n\r\n")))
            ngx.say((T.http(T.port + 8, "GET /list HTTP/1.0\r\nHost: \r\n\r\n")))
            -- nginx itself refuses an empty Host, and two of them.
            ngx.say((T.http(T.port + 8, "GET /list HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")) ~= 200)
            ngx.say((T.http(T.port + 8, "GET http://localhost/list HTTP/1.0\r\nHost: evil.example\r\n\r\n")))
            local sock = ngx.socket.tcp()
            assert(sock:connect(ngx.var.admin))
            sock:send("GET /list HTTP/1.0\r\nHost: any.name\r\n\r\n")
            ngx.say(sock:receive("*l"))
        }
    }
--- response_body eval
my $more = 'setup{ admin = { hosts = { ... } } } lists more';
my $page = "allowed for a change: a page of this same address; $more";
"127.0.0.1:" . Dyups::port(8) . qq( : 200 success false
admin.example : 200 success false
evil.example : 403 Host "evil.example": allowed: an address, localhost; $more true
evil.example : 403 Host "evil.example": allowed: an address, localhost; $more true
[::1] Origin: http://[::1] : 200 success false
localhost Origin: http://evil.example : 403 Origin "http://evil.example": $page true
localhost Origin: http://evil.example : 403 Origin "http://evil.example": $page true
localhost Origin: https://admin.example Sec-Fetch-Site: cross-site : 200 success false
localhost Origin: null : 403 Origin "null": $page true
localhost Sec-Fetch-Site: same-site : 403 Sec-Fetch-Site "same-site": $page true
localhost Sec-Fetch-Site: cross-site : 200 server 127.0.0.1:8088
 false
200
400
true
403
HTTP/1.1 200 OK
)


=== TEST 27: each change is one line at notice, one that changes nothing is none
--- http_config eval: Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            empty()
            ask("POST", "/upstream/one", "server 127.0.0.1:1; server 127.0.0.1:2;")
            ask("POST", "/upstream/one", "server 127.0.0.1:1; server 127.0.0.1:2;")
            ask("POST", "/upstream/one", "least_conn; server 127.0.0.1:2 weight=3; server 127.0.0.1:3; server 127.0.0.1:4;")
            assert(dyups.add_peer("one", { host = "127.0.0.1", port = 5 }, { by = "deploy 42\n" }))
            assert(dyups.set_peer("one", { host = "127.0.0.1", port = 5, weight = 2 }))
            assert(dyups.set_peer("one", { host = "127.0.0.1", port = 5, weight = 2 }, { by = "again" }))
            assert(dyups.healthcheck("one", { type = "tcp" }, { by = "ops" }))
            assert(dyups.delete_peer("one", { host = "127.0.0.1", port = 5 }, { drain = true, by = "drainer" }))
            T.say(dyups.delete_upstream("one", { force = true, by = 5 }))
            T.say(dyups.add_peer("one", { host = "127.0.0.1" }, "x"))
            T.say(dyups.set_upstream("one", { peers = {} }, { by = "x", force = true }))
            for _ = 1, 250 do
                if #dyups.status("one").upstreams.one.peers == 3 then break end
                ngx.sleep(0.02)
            end
            assert(require("ngx.dyups").update("two", "server 127.0.0.1;", { by = "old script" }) == 200)
            assert(dyups.delete_upstream("one", { force = true, by = "me" }))
            local log = io.open(ngx.config.prefix() .. "logs/error.log"):read("*a")
            for line in log:gmatch("%[notice%][^\n]-dyups: (upstream [^\n]-version) %d+") do
                ngx.say(line)
            end
            local versions, last = {}, 0
            for version in log:gmatch("%[notice%][^\n]-dyups: upstream [^\n]-version (%d+)") do
                assert(tonumber(version) > last)
                last = tonumber(version)
            end
        }
    }
--- response_body
POST /upstream/one: 200 [success]
POST /upstream/one: 200 [success]
POST /upstream/one: 200 [success]
nil options.by: 5: allowed: a text of 1 to 255 bytes
nil options: "x": allowed: an object
nil options.force: not known to this version; known: by
upstream one: made by HTTP from 127.0.0.1: 0 -> 2 peers (2 added, 0 removed, 0 changed), version
upstream one: changed by HTTP from 127.0.0.1: 2 -> 3 peers (2 added, 1 removed, 1 changed), method none -> least_conn, version
upstream one: changed by Lua ("deploy 42\x0a"): 3 -> 4 peers (1 added, 0 removed, 0 changed), version
upstream one: changed by Lua: 4 -> 4 peers (0 added, 0 removed, 1 changed), version
upstream one: changed by Lua ("ops"): 4 -> 4 peers (0 added, 0 removed, 0 changed), check on, version
upstream one: changed by Lua ("drainer"): 4 -> 4 peers (0 added, 0 removed, 1 changed), version
upstream one: changed by the end of a drain: 4 -> 3 peers (0 added, 1 removed, 0 changed), version
upstream two: made by Lua ("old script"): 0 -> 1 peers (1 added, 0 removed, 0 changed), version
upstream one: deleted by Lua ("me"): 3 -> 0 peers (0 added, 3 removed, 0 changed), version
--- log_level: notice
--- timeout: 10


=== TEST 28: files and the default check are where changes come from, at each setup
--- http_config eval
Dyups::file('a.conf', "upstream filed { server 127.0.0.1:1; }\n");
Dyups::file('b.conf', "upstream filed { server 127.0.0.1:1 weight=2; server 127.0.0.1:2; check type=tcp; }\n");
Dyups::file('c.json', '{"upstreams": {"other": {"peers": []}}}');
Dyups::proxy(init => $::Ask)
--- config
    location = /t {
        content_by_lua_block {
            local dir = T.shm_path:match("^(.*/)")
            local function setup(file, check)
                assert(dyups.setup{ shm_path = T.shm_path, shm_size = "1m", files = dir .. file, healthcheck = check })
            end
            setup("a.conf")
            setup("a.conf")
            setup("b.conf")
            setup("c.json")
            assert(dyups.set_upstream("mine", { peers = {} }))
            setup("c.json", { type = "tcp" })
            local log = io.open(ngx.config.prefix() .. "logs/error.log"):read("*a")
            for line in log:gmatch("%[notice%][^\n]-dyups: (upstream [^\n]-), version %d+") do
                ngx.say((line:gsub(dir:gsub("%p", "%%%0"), "")))
            end
        }
    }
--- response_body
upstream filed: made by file a.conf: 0 -> 1 peers (1 added, 0 removed, 0 changed)
upstream filed: changed by file b.conf: 1 -> 2 peers (1 added, 0 removed, 1 changed), check on
upstream other: made by file c.json: 0 -> 0 peers (0 added, 0 removed, 0 changed)
upstream filed: deleted by the files, which no longer have it: 2 -> 0 peers (0 added, 2 removed, 0 changed)
upstream mine: made by Lua: 0 -> 0 peers (0 added, 0 removed, 0 changed)
upstream other: changed by file c.json: 0 -> 0 peers (0 added, 0 removed, 0 changed), check on
upstream mine: changed by setup: 0 -> 0 peers (0 added, 0 removed, 0 changed), check on
--- log_level: notice
