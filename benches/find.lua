-- `find` inside an nginx worker, in ns a call, beside an empty FFI call and a locked add of the same run.
--
-- Every row is the median of runs that alternate between the rows, so that a slow moment of the machine meets all of
-- them.

local ffi = require "ffi"
local dyups = require "dyups"

ffi.cdef [[
uint32_t bench_empty(void);
uint64_t bench_locked_adds(uint64_t n);
typedef struct { long sec; long nsec; } bench_time;
int clock_gettime(int clock, bench_time *time);
]]

local SIZES = { 4, 100, 1000, 10000 }
local RUNS = 11
local CALLS = 1000000
local KEYS = 1024

local _M = {}

local time = ffi.new("bench_time")
local MONOTONIC = 1

local function now()
    ffi.C.clock_gettime(MONOTONIC, time)
    return tonumber(time.sec) * 1e9 + tonumber(time.nsec)
end


local function peers(n)
    local list = {}
    for i = 0, n - 1 do
        list[i + 1] = { host = ("127.1.%d.%d"):format(math.floor(i / 250), i % 250 + 1), port = 8080 }
    end
    return list
end


local keys = {}
for i = 0, KEYS - 1 do
    keys[i] = "/some/path/" .. i
end


-- Each row is a function that makes CALLS calls in a loop of its own, so that each has a trace of its own.
local function loop(body)
    return assert(loadstring(([[
        local subject, keys, KEYS, CALLS = ...
        local band = require("bit").band
        return function()
            for i = 1, CALLS do
                %s
            end
        end
    ]]):format(body)))
end


local function rows(native, others)
    local list = {
        { name = "an empty FFI call", run = loop("subject.bench_empty()")(native, keys, KEYS, CALLS) },
        { name = "a locked add", run = function() native.bench_locked_adds(CALLS) end },
    }
    for _, method in ipairs { "rr", "chash" } do
        for _, size in ipairs(SIZES) do
            local name = method .. size
            assert(dyups.set_upstream(name, { method = method, peers = peers(size) }))
            local call = method == "rr" and "subject.find('%s')" or "subject.find('%s', keys[band(i, KEYS - 1)])"
            list[#list + 1] = {
                name = "find " .. method, size = size, method = method,
                run = loop(call:format(name))(dyups, keys, KEYS, CALLS),
            }
            if others then
                local server = {}
                for _, peer in ipairs(peers(size)) do
                    server[peer.host .. ":" .. peer.port] = 1
                end
                call = method == "rr" and "subject:find()" or "subject:find(keys[band(i, KEYS - 1)])"
                list[#list + 1] = {
                    name = "lua-resty-balancer " .. method, size = size,
                    run = loop(call)(others[method]:new(server), keys, KEYS, CALLS),
                }
            end
        end
    end
    return list
end


local function median(values)
    table.sort(values)
    return values[math.ceil(#values / 2)]
end


local function measure(list)
    for _, row in ipairs(list) do
        row.times = {}
        row.run()
    end
    for _ = 1, RUNS do
        for _, row in ipairs(list) do
            local from = now()
            row.run()
            row.times[#row.times + 1] = (now() - from) / CALLS
        end
    end
    for _, row in ipairs(list) do
        row.ns = median(row.times)
    end
end


local function report(list)
    local empty, add = list[1].ns, list[2].ns
    local limit = empty + 2 * add + 10
    local say = ngx.say
    local missed = false
    say(("%-28s %7s %9s %14s   %s"):format("", "peers", "ns", "empty call = 1", "limit"))
    local smallest
    for _, row in ipairs(list) do
        local most, note = nil, ""
        if row.method == "rr" then
            smallest = smallest or row.ns
            most = limit
            if row.size == SIZES[#SIZES] then
                most = math.min(limit, smallest * 1.15)
            end
        elseif row.method == "chash" and row.size == SIZES[#SIZES] then
            most = limit + 40
        end
        if most then
            local good = row.ns <= most
            missed = missed or not good
            note = ("%.1f %s"):format(most, good and "kept" or "MISSED")
        end
        say(("%-28s %7s %9.1f %14.1f   %s"):format(row.name, row.size or "", row.ns, row.ns / empty, note))
    end
    say("")
    say("limits: rr at most an empty call + 2 locked adds + 10 ns, and within 15 % of 4 peers at 10,000;")
    say("        chash at 10,000 at most 40 ns more")
    return not missed
end


-- Runs it all and answers as text; 500 when a limit was missed.
function _M.serve(library, balancer)
    local native = ffi.load(library)
    local others
    if balancer ~= "" then
        package.path = balancer .. "/lib/?.lua;" .. package.path
        package.cpath = balancer .. "/?.so;" .. package.cpath
        others = { rr = require "resty.roundrobin", chash = require "resty.chash" }
    end
    local list = rows(native, others)
    measure(list)
    report(list)
end


return _M
