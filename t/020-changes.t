# Changes of the table: what each function does, refuses and keeps; both workers see them; status shows them.

use lib 't/lib';
use Dyups;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
no_long_string();
Dyups::defaults();
run_tests();

__DATA__

=== TEST 1: add_peer makes an upstream, with defaults for what is not given
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            dyups.delete_upstream("api", { force = true })
            T.say(dyups.add_peer("api", { host = "127.0.0.1" }))
            T.say(dyups.status("api").upstreams.api.peers)
        }
    }
--- response_body
true
{{backup=false conns=0 fail_timeout=10 fails=0 host=127.0.0.1 max_conns=0 max_fails=1 out=false port=80 server=127.0.0.1 slow_start=0 state=up status=up weight=1}}


=== TEST 2: add_peer takes every field
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            dyups.delete_upstream("api", { force = true })
            T.say(dyups.add_peer("api", {
                host = "[::1]", port = 8080, weight = 7, status = "drain", backup = true, max_conns = 1, max_fails = 2,
                fail_timeout = 3, slow_start = 4,
            }))
            T.say(dyups.add_peer("api", { server = "10.0.0.1:81", weight = 65535, max_conns = 4294967295 }))
            T.say(dyups.status("api").upstreams.api.peers)
        }
    }
--- response_body
true
true
{{backup=true conns=0 fail_timeout=3 fails=0 host=[::1] max_conns=1 max_fails=2 out=false port=8080 slow_start=4 state=drain status=drain weight=7} {backup=false conns=0 fail_timeout=10 fails=0 host=10.0.0.1 max_conns=4294967295 max_fails=1 out=false port=81 slow_start=0 state=up status=up weight=65535}}


=== TEST 3: add_peer and set_peer change the given fields of a peer and keep the others
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            dyups.delete_upstream("api", { force = true })
            local peer = { host = "10.0.0.1", port = 81, weight = 3, max_fails = 9, slow_start = 5, backup = true }
            assert(dyups.add_peer("api", peer))
            for _, call in ipairs { "add_peer", "set_peer" } do
                for _, field in ipairs {
                    { weight = 7 }, { status = "down" }, { backup = false }, { max_conns = 4 }, { max_fails = 0 },
                    { fail_timeout = 0 }, { slow_start = 1 },
                } do
                    field.host, field.port = "10.0.0.1", 81
                    assert(dyups[call]("api", field))
                    ngx.say(T.peers("api"))
                end
                assert(dyups.delete_upstream("api", { force = true }))
                assert(dyups.add_peer("api", peer))
            end
        }
    }
--- response_body
10.0.0.1:81 7 up backup=true max_fails=9 slow_start=5
10.0.0.1:81 7 down backup=true max_fails=9 slow_start=5
10.0.0.1:81 7 down max_fails=9 slow_start=5
10.0.0.1:81 7 down max_conns=4 max_fails=9 slow_start=5
10.0.0.1:81 7 down max_conns=4 max_fails=0 slow_start=5
10.0.0.1:81 7 down max_conns=4 max_fails=0 fail_timeout=0 slow_start=5
10.0.0.1:81 7 down max_conns=4 max_fails=0 fail_timeout=0 slow_start=1
10.0.0.1:81 7 up backup=true max_fails=9 slow_start=5
10.0.0.1:81 7 down backup=true max_fails=9 slow_start=5
10.0.0.1:81 7 down max_fails=9 slow_start=5
10.0.0.1:81 7 down max_conns=4 max_fails=9 slow_start=5
10.0.0.1:81 7 down max_conns=4 max_fails=0 slow_start=5
10.0.0.1:81 7 down max_conns=4 max_fails=0 fail_timeout=0 slow_start=5
10.0.0.1:81 7 down max_conns=4 max_fails=0 fail_timeout=0 slow_start=1


=== TEST 4: a change with no field given changes nothing
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            dyups.delete_upstream("api", { force = true })
            assert(dyups.add_peer("api", { host = "10.0.0.1", weight = 3 }))
            local before = T.show(dyups.status().upstreams)
            T.say(dyups.set_peer("api", { host = "10.0.0.1" }))
            T.say(dyups.add_peer("api", { host = "10.0.0.1", weight = 3 }))
            T.say(T.show(dyups.status().upstreams) == before)
        }
    }
--- response_body
true
true
true


=== TEST 5: all spellings of an address are one peer, which keeps the first
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            dyups.delete_upstream("api", { force = true })
            assert(dyups.add_peer("api", { server = "10.0.0.1" }))
            assert(dyups.add_peer("api", { host = "10.0.0.1", port = 80, weight = 2 }))
            assert(dyups.add_peer("api", { host = "[::1]" }))
            assert(dyups.set_peer("api", { server = "[0:0::1]:80", weight = 3 }))
            assert(dyups.add_peer("api", { host = "10.0.0.1", port = 81 }))
            ngx.say(T.peers("api"))
            assert(dyups.delete_peer("api", { server = "10.0.0.1:80" }))
            assert(dyups.delete_peer("api", { server = "[::0:1]" }))
            ngx.say(T.peers("api"))
        }
    }
--- response_body
10.0.0.1:80 2 up server=10.0.0.1, [::1]:80 3 up server=[::1], 10.0.0.1:81 1 up
10.0.0.1:81 1 up


=== TEST 6: set_peer changes only what is there
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            dyups.delete_upstream("api", { force = true })
            T.say(dyups.set_peer("api", { host = "10.0.0.1", weight = 3 }))
            T.say(dyups.status("api"))
            assert(dyups.add_peer("api", { host = "10.0.0.2" }))
            T.say(dyups.set_peer("api", { host = "10.0.0.1", weight = 3 }))
            T.say(T.peers("api"))
        }
    }
--- response_body
nil upstream api: not found
nil upstream api: not found
nil upstream api: peer 10.0.0.1:80: not found
10.0.0.2:80 1 up server=10.0.0.2


=== TEST 7: delete_peer takes a peer out and keeps the upstream; an absent one is "not found"
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            dyups.delete_upstream("api", { force = true })
            T.say(dyups.delete_peer("api", { host = "10.0.0.1" }))
            assert(dyups.add_peer("api", { host = "10.0.0.1" }))
            T.say(dyups.delete_peer("api", { host = "10.0.0.1", port = 81 }))
            T.say(dyups.delete_peer("api", { host = "10.0.0.1" }))
            T.say(dyups.delete_peer("api", { host = "10.0.0.1" }))
            T.say(dyups.status("api").upstreams.api.peers)
            T.say(dyups.find("api"))
        }
    }
--- response_body
nil not found
nil not found
true
nil not found
{}
nil upstream api: no live upstreams: none of its peers is up with a weight


=== TEST 8: delete_peer looks at the address only
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            dyups.delete_upstream("api", { force = true })
            assert(dyups.set_upstream("api", { peers = { { host = "10.0.0.1", weight = 2 }, { host = "10.0.0.2" } } }))
            T.say(dyups.delete_peer("api", dyups.status("api").upstreams.api.peers[1]))
            T.say(dyups.delete_peer("api", { server = "10.0.0.2", weight = 9 }))
            T.say(T.peers("api") == "")
        }
    }
--- response_body
true
true
true


=== TEST 9: set_upstream replaces the whole upstream
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.say(dyups.set_upstream("api", { method = "chash", hash_id = "host:port",
                peers = { { host = "10.0.0.1", weight = 5 }, { host = "10.0.0.2" } } }))
            local api = dyups.status("api").upstreams.api
            ngx.say(api.method, " ", api.hash_id, " ", T.peers("api"))
            T.say(dyups.set_upstream("api", { peers = { { host = "10.0.0.2", backup = true }, { host = "10.0.0.1" } } }))
            api = dyups.status("api").upstreams.api
            ngx.say(api.method, " ", api.hash_id, " ", T.peers("api"))
            T.say(dyups.set_upstream("api", { peers = {} }))
            T.say(dyups.status("api").upstreams.api.peers)
        }
    }
--- response_body
true
chash host:port 10.0.0.1:80 5 up server=10.0.0.1, 10.0.0.2:80 1 up server=10.0.0.2
true
nil nginx 10.0.0.2:80 1 up server=10.0.0.2 backup=true, 10.0.0.1:80 1 up server=10.0.0.1
true
{}


=== TEST 10: no pick sees a mixture of the old and the new upstream
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            -- Two sets without a common peer. The other worker replaces one by the other. Each time that the set did not
            -- change in between, a request's picks of all peers have to be of one set.
            local function peers(net)
                local all = {}
                for i = 1, 8 do
                    all[i] = { host = "10.0." .. net .. "." .. i }
                end
                return { peers = all }
            end
            local a, b = peers(1), peers(2)
            assert(dyups.set_upstream("api", a))
            local changer = ngx.thread.spawn(T.in_other_worker, [[
                local function peers(net)
                    local all = {}
                    for i = 1, 8 do
                        all[i] = { host = "10.0." .. net .. "." .. i }
                    end
                    return { peers = all }
                end
                local a, b = peers(1), peers(2)
                local till = ngx.now() + 10
                local n = 0
                repeat
                    assert(dyups.set_upstream("api", n % 2 == 0 and b or a))
                    n = n + 1
                    ngx.update_time()
                until dyups.find("enough") or ngx.now() > till
                return n
            ]])
            local nets, changes, strange, last = {}, 0, 0, nil
            ngx.sleep(0.05)
            local from = ngx.now()
            repeat
                for _ = 1, 1000 do
                    local peer = dyups.find("api")
                    local net = peer and peer:match("^10%.0%.([12])%.[1-8]:80$")
                    if not net then
                        strange = strange + 1
                    elseif net ~= last then
                        changes, last = changes + 1, net
                    end
                end
                -- status is one version too.
                local seen = {}
                for _, peer in ipairs(dyups.status("api").upstreams.api.peers) do
                    seen[peer.host:match("^10%.0%.(%d)")] = true
                end
                if seen["1"] and seen["2"] then
                    strange = strange + 1
                end
                ngx.update_time()
                local took = ngx.now() - from
            until took > 0.2 and changes > 20 or took > 10
            assert(dyups.set_upstream("enough", a))
            local _, n = ngx.thread.wait(changer)
            assert(dyups.delete_upstream("enough", { force = true }))
            ngx.say("strange: ", strange)
            ngx.say("changed meanwhile: ", tonumber(n) > 20 and changes > 20)
        }
    }
--- response_body
strange: 0
changed meanwhile: true


=== TEST 11: delete_upstream needs force while there are peers
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.say(dyups.delete_upstream("api"))
            assert(dyups.set_upstream("api", { peers = { { host = "10.0.0.1" }, { host = "10.0.0.2" } } }))
            T.say(dyups.delete_upstream("api"))
            T.say(dyups.delete_upstream("api", {}))
            T.say(dyups.delete_upstream("api", { force = false }))
            T.say(dyups.find("api") ~= nil)
            T.say(dyups.delete_upstream("api", { force = true }))
            T.say(dyups.find("api"))
            T.say(dyups.status().upstreams)
            assert(dyups.set_upstream("api", { peers = {} }))
            T.say(dyups.delete_upstream("api"))
            T.say(dyups.delete_upstream("api", { force = true }))
        }
    }
--- response_body
nil upstream api: not found
nil upstream api: not empty: it has 2 peers: delete first, or force
nil upstream api: not empty: it has 2 peers: delete first, or force
nil upstream api: not empty: it has 2 peers: delete first, or force
true
true
nil upstream api: not found
{}
true
nil upstream api: not found


=== TEST 12: what one worker changed the other sees at once
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            dyups.delete_upstream("api", { force = true })
            local look = [[
                local seen = {}
                for _ = 1, 3 do
                    seen[T.show(dyups.find("api"))] = true
                end
                return T.peers("api") .. " | " .. (T.show(seen):gsub("=true", ""):gsub(":%d+", ""))
            ]]
            local function show()
                local here, there = T.peers("api"), T.in_other_worker(look)
                ngx.say(there:sub(1, #here) == here and "same: " or here .. " but ", (there:gsub(":%d+", "")))
            end
            assert(dyups.add_peer("api", { host = "10.0.0.1", port = 81 }))
            show()
            T.in_other_worker([[ return dyups.add_peer("api", { host = "10.0.0.2", port = 81, weight = 2 }) ]])
            show()
            assert(dyups.set_peer("api", { host = "10.0.0.1", port = 81, status = "down" }))
            show()
            T.in_other_worker([[ return dyups.delete_peer("api", { host = "10.0.0.2", port = 81 }) ]])
            show()
            assert(dyups.set_upstream("api", { peers = { { server = "10.0.0.3:81" } } }))
            show()
            T.in_other_worker([[ return dyups.delete_upstream("api", { force = true }) ]])
            T.say(dyups.find("api"))
            show()
        }
    }
--- response_body
same: 10.0.0.1 1 up | {10.0.0.1}
same: 10.0.0.1 1 up, 10.0.0.2 2 up | {10.0.0.1 10.0.0.2}
same: 10.0.0.1 1 down, 10.0.0.2 2 up | {10.0.0.2}
same: 10.0.0.1 1 down | {nil upstream api: no live upstreams: none of its peers is up with a weight}
same: 10.0.0.3 1 up | {10.0.0.3}
nil upstream api: not found
same: upstream api: not found | {nil upstream api: not found}


=== TEST 13: no request goes to a peer that was deleted before it came
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            local wrong = 0
            for round = 1, 20 do
                local peer = round % 4 + 1
                T.in_worker(round % 2, "T.set('api', " .. peer .. ")")
                for _ = 1, 4 do
                    wrong = wrong + (T.get("api") == tostring(peer) and 0 or 1)
                end
            end
            ngx.say("wrong: ", wrong)
        }
    }
--- response_body
wrong: 0


=== TEST 14: finds by chash give an upstream its ring, and keep its order when peers change
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            dyups.delete_upstream("api", { force = true })
            T.set("api", 1, 2, 3)
            local generation = dyups.status("api").upstreams.api.generation
            local first = dyups.find("api", "key", "chash")
            -- One of them makes it, by itself.
            for _ = 1, 10 do
                assert(dyups.find("api", "key", "chash") == first)
            end
            ngx.say(dyups.status("api").upstreams.api.generation > generation)
            generation = dyups.status("api").upstreams.api.generation
            ngx.say(dyups.find("api", "key", "chash") == first)
            ngx.say(dyups.status("api").upstreams.api.generation == generation)
            assert(dyups.set_peer("api", { host = "127.0.0.1", port = T.port + 1, max_fails = 3 }))
            ngx.say(dyups.find("api", "key", "chash") == first)
        }
    }
--- response_body
true
true
true
true


=== TEST 15: status has one shape: the upstreams file's, with read-only fields
--- http_config eval
Dyups::proxy(setup => 'files = "' . Dyups::file('shape.json', '{"upstreams":{"filed":{"peers":[]}}}') . '"')
--- config
    location = /t {
        content_by_lua_block {
            assert(dyups.set_upstream("api", { peers = { { host = "10.0.0.1" } } }))
            local function keys(t)
                local all = {}
                for key, value in pairs(t) do
                    all[#all + 1] = key .. ":" .. type(value)
                end
                table.sort(all)
                return table.concat(all, " ")
            end
            for _ = 1, 100 do
                if #dyups.status().workers == 2 then
                    break
                end
                ngx.sleep(0.01)
            end
            local status = dyups.status()
            ngx.say(keys(status))
            ngx.say(keys(status.region))
            ngx.say(#status.workers, " ", keys(status.workers[1]))
            ngx.say(keys(status.upstreams))
            ngx.say(keys(status.upstreams.api))
            ngx.say(keys(status.upstreams.api.peers[1]))
            ngx.say(status.upstreams.api.origin, " ", status.upstreams.filed.origin)
            ngx.say(status.version == dyups._VERSION, " ", status.region.size, " ", status.region.lost)
            local one = dyups.status("api")
            ngx.say(keys(one), "; ", keys(one.upstreams))
            local pids = { [status.workers[1].pid] = true, [status.workers[2].pid] = true }
            ngx.say(pids[ngx.worker.pid()], " ", pids[tonumber(T.in_other_worker("return ngx.worker.pid()"))])
        }
    }
--- response_body
changed:boolean deleted:table region:table routes:table upstreams:table version:string workers:table
free:number layout:number lost:boolean max_records:number path:string records:number repairs:number size:number used:number
2 pid:number since:number slot:number
api:table filed:table
generation:number hash_id:string origin:string peers:table
backup:boolean conns:number fail_timeout:number fails:number host:string max_conns:number max_fails:number out:boolean port:number server:string slow_start:number state:string status:string weight:number
runtime file
true 1048576 false
changed:boolean deleted:table region:table upstreams:table version:string workers:table; api:table
true true


=== TEST 16: a caller that adds or sets a peer that leaves keeps it
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            local peer = { host = "10.0.0.1" }
            for _, say in ipairs { {}, { leaving = false }, { status = "drain" }, { status = "up" }, { weight = 9 } } do
                assert(dyups.set_upstream("api", { peers = { peer } }))
                assert(dyups.delete_peer("api", peer, { drain = true }))
                say.host = peer.host
                assert(dyups.add_peer("api", say))
                local found = dyups.status("api").upstreams.api.peers[1]
                T.say(found.status, found.leaving)
            end
            T.say(dyups.add_peer("api", { host = "10.0.0.1", leaving = true, status = "up" }))
            T.say(dyups.set_upstream("api", { peers = { { host = "10.0.0.1", leaving = "yes" } } }))
            assert(dyups.delete_upstream("api", { force = true }))
        }
    }
--- response_body
up nil
up nil
drain nil
up nil
up nil
nil peer.leaving: true with status "up": allowed: only with status "drain"
nil upstream.peers[1].leaving: "yes": allowed: true or false


=== TEST 17: status loaded back by set_upstream gives the same table
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            for name in pairs(dyups.status().upstreams) do
                assert(dyups.delete_upstream(name, { force = true }))
            end
            local peers = {
                { host = "10.0.0.1" }, { server = "10.0.0.1:81" }, { host = "[::1]" }, { host = "[::1]", port = 81 },
                { host = "unix:/run/a b.sock" }, { host = "unix:/run/\195\182\"\\.sock", weight = 0 },
                { host = "10.0.0.2", port = 65535, weight = 65535, status = "drain", backup = true,
                  max_conns = 4294967295, max_fails = 4294967295, fail_timeout = 4294967295, slow_start = 4294967295 },
                { host = "10.0.0.3", status = "down", max_fails = 0, fail_timeout = 0 },
            }
            assert(dyups.set_upstream("empty", { peers = {} }))
            assert(dyups.set_upstream("plain", { peers = peers }))
            assert(dyups.set_upstream("rr", { peers = peers, method = "rr" }))
            assert(dyups.set_upstream("chash.example.com:80", { peers = peers, method = "chash", hash_id = "host:port" }))
            assert(dyups.set_upstream("gr\195\182\195\159e", { peers = peers, method = "chash", hash_id = "nginx" }))

            local function table_()
                local all = dyups.status().upstreams
                for _, upstream in pairs(all) do
                    upstream.generation = nil
                end
                return T.show(all)
            end
            local picks = function()
                local all = {}
                for name in pairs(dyups.status().upstreams) do
                    for i = 1, 50 do
                        all[#all + 1] = name .. (dyups.find(name, "key" .. i, "chash") or "none")
                    end
                end
                table.sort(all)
                return table.concat(all, " ")
            end
            local before, picked, all = table_(), picks(), dyups.status().upstreams
            for name, upstream in pairs(all) do
                assert(dyups.set_upstream(name, upstream))
            end
            ngx.say("over itself:  ", table_() == before, " ", picks() == picked)
            for name in pairs(all) do
                assert(dyups.delete_upstream(name, { force = true }))
            end
            ngx.say("all gone:     ", T.show(dyups.status().upstreams))
            for name, upstream in pairs(all) do
                assert(dyups.set_upstream(name, upstream))
            end
            ngx.say("loaded back:  ", table_() == before, " ", picks() == picked)
            for name, upstream in pairs(all) do
                assert(dyups.set_upstream(name, { peers = {}, method = upstream.method, hash_id = upstream.hash_id }))
                for _, peer in ipairs(upstream.peers) do
                    assert(dyups.add_peer(name, peer))
                end
            end
            ngx.say("peer by peer: ", table_() == before, " ", picks() == picked)
        }
    }
--- response_body
over itself:  true true
all gone:     {}
loaded back:  true true
peer by peer: true true


=== TEST 18: the /status of HTTP is a file that setup loads
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            local peers = { { host = "10.0.0.1" }, { host = "[::1]", port = 81, weight = 3, backup = true } }
            assert(dyups.set_upstream("api", { peers = peers, method = "chash" }))
            local _, json = T.request(T.port + 8, "GET", "/status")
            local path = os.tmpname()
            local file = assert(io.open(path, "w"))
            file:write(json)
            file:close()
            local before = T.show(dyups.status("api").upstreams.api.peers)
            assert(dyups.delete_upstream("api", { force = true }))
            T.say(dyups.setup { shm_path = T.shm_path, shm_size = "1m", files = path, overwrite = true })
            os.remove(path)
            T.say(T.show(dyups.status("api").upstreams.api.peers) == before)
            T.say(dyups.status("api").upstreams.api.method, dyups.status("api").upstreams.api.origin)
        }
    }
--- response_body
true
true
chash file


=== TEST 19: status of an upstream that is not there, or by no name, is refused
--- http_config eval: Dyups::proxy()
--- config
    location = /t {
        content_by_lua_block {
            T.say(dyups.status("nope"))
            T.say(dyups.status(""))
            T.say(dyups.status(5))
        }
    }
--- response_body
nil upstream nope: not found
nil upstream "": allowed: a name of 1 to 255 bytes of UTF-8 without control bytes, "/", "|" or space
nil upstream: 5: allowed: a string


=== TEST 20: a region that is full refuses the change and keeps the table
--- http_config eval: Dyups::proxy(size => '256k')
--- config
    location = /t {
        content_by_lua_block {
            for name in pairs(dyups.status().upstreams) do
                assert(dyups.delete_upstream(name, { force = true }))
            end
            local peers, err = {}, nil
            for i = 1, 100 do
                peers[i] = { host = "10.0.0." .. i }
            end
            local n = 0
            repeat
                local before = T.show(dyups.status().upstreams)
                local ok
                ok, err = dyups.set_upstream("u" .. n, { peers = peers })
                n = n + (ok and 1 or 0)
                if not ok then
                    ngx.say(T.show(dyups.status().upstreams) == before)
                end
            until not ok or n > 1000
            ngx.say(n > 1, " ", (err:gsub("%d+", "N")))
            ngx.say(T.finds(1, "u0"), " ", T.finds(1, "u" .. n))
            for i = 0, n - 1 do
                assert(dyups.delete_upstream("u" .. i, { force = true }))
            end
            T.say(dyups.set_upstream("again", { peers = peers }))
        }
    }
--- response_body_like
^true
true .*full.*
10\.0\.0\.\d+:80 upstream u\d+: not found
true$
