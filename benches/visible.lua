-- How long a change takes to be seen by another worker that looks all the time.

local dyups = require "dyups"
local native = require "native"

local concat = table.concat

local _M = {}

local PEERS = 4
local UPSTREAM = "visible"


-- Version `k` of the upstream: its number is the port.
local function version(k)
    local list = {}
    for i = 1, PEERS do
        list[i] = { host = "127.1.0." .. i, port = k }
    end
    return { peers = list }
end


-- By the answer of a pick: the version that it is of.
local function versions(n)
    local map = {}
    for k = 1, n do
        for i = 1, PEERS do
            map["127.1.0." .. i .. ":" .. k] = k
        end
    end
    return map
end


local function store(k)
    native.C.bench_store(native.word(8), k)
end

local function set(k)
    assert(dyups.set_upstream(UPSTREAM, version(k)))
end

local makers = { store = store, set_upstream = set }


-- first(): the state before the first change.
function _M.first()
    store(1)
    set(1)
    return true
end


-- change(how, n, start, gap): makes changes 2 to n, each `gap` ns after the one before -> the begin of each, in ns
-- after `start`
function _M.change(how, n, start, gap)
    local make, began, due = makers[how], {}, start
    for k = 2, n do
        local now
        repeat now = native.now() until now >= due
        began[k - 1] = ("%.0f"):format(now - start)
        make(k)
        due = native.now() + gap
    end
    return concat(began, " ")
end


-- watch(how, n, start, stop): until change n is seen, or `stop` -> when each was first seen; 0: never
function _M.watch(how, n, start, stop)
    local seen, map, last = {}, versions(n), 1
    for k = 2, n do
        seen[k - 1] = 0
    end
    local look = function() return tonumber(native.C.bench_load(native.word(8))) end
    if how == "set_upstream" then
        look = function() return map[dyups.find(UPSTREAM)] end
    end
    repeat
        local k, now = look(), native.now() - start
        if k ~= last then
            seen[k - 1] = ("%.0f"):format(now)
            last = k
        end
    until last == n or now > stop
    return concat(seen, " ")
end


return _M
