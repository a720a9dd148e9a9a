-- `find` inside an nginx worker, in ns a call.

local dyups = require "dyups"
local loop = require "loop"
local native = require "native"

local CALLS = 1000000
local MOST_KEYS = 65536

local _M = {}

local keys = {}
for i = 0, MOST_KEYS - 1 do
    keys[i] = "/some/path/" .. i
end

-- By name of a row: the function that makes that many calls.
local rows = {}


-- The yardsticks: an empty FFI call, a locked add.
function _M.yardsticks()
    rows.empty = loop("subject.bench_empty()", native.C)
    rows.add = function(calls) native.C.bench_locked_adds(native.word(0), calls) end
    return true
end


-- A row `name` of that `method` over the peers, a list as set_upstream takes it; `count`: of the keys, a power of 2.
function _M.dyups(name, method, count, peers)
    assert(dyups.set_upstream(name, { method = method, peers = peers }))
    local call = method == "rr" and "subject('%s')" or "subject('%s', keys[band(i, %d)])"
    rows[name] = loop(call:format(name, count - 1), dyups.find, keys)
    return true
end


-- The same by lua-resty-balancer, built in `dir`.
function _M.others(dir, name, method, count, peers)
    package.path = dir .. "/lib/?.lua;" .. package.path
    package.cpath = dir .. "/?.so;" .. package.cpath
    local servers = {}
    for _, peer in ipairs(peers) do
        servers[peer.host .. ":" .. peer.port] = 1
    end
    local picker = require(method == "rr" and "resty.roundrobin" or "resty.chash"):new(servers)
    local call = method == "rr" and "subject:find()" or "subject:find(keys[band(i, %d)])"
    rows[name] = loop(call:format(count - 1), picker, keys)
    return true
end


-- host(name, text): the row `name` finds by `text`. In it, KEY is one of the keys, another one for each call.
function _M.host(name, text)
    rows[name] = loop("subject(" .. text:gsub("KEY", "keys[band(i, " .. MOST_KEYS - 1 .. ")]") .. ")", dyups.find, keys)
    return true
end


-- hosts(first, last, upstream): routes for the hosts of these numbers, of which the keys are the first ones.
function _M.hosts(first, last, upstream)
    for i = first, last do
        local host = "customer-" .. i .. ".example.net"
        assert(dyups.set_route(host, upstream))
        keys[i] = i < MOST_KEYS and host or nil
    end
    return true
end


-- One run of a row.
function _M.run(name)
    local from = native.cpu()
    rows[name](CALLS)
    return (native.cpu() - from) / CALLS
end


return _M
