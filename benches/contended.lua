-- Two workers at once, each on its CPU: the cost of a pick while another process makes the same.

local dyups = require "dyups"
local loop = require "loop"
local native = require "native"

local CALLS = 10000

local _M = {}

local rows = {}


-- prepare(upstream, word): the upstream and the word of the page that this worker has to itself; both workers use
-- upstream
-- "shared" and word 0.
function _M.prepare(upstream, word)
    for _, name in ipairs { "shared", upstream } do
        assert(dyups.set_upstream(name, { peers = {
            { host = "127.1.0.1" }, { host = "127.1.0.2" }, { host = "127.1.0.3" }, { host = "127.1.0.4" },
        } }))
    end
    local function adds(number)
        return function(calls) native.C.bench_locked_adds(native.word(number), calls) end
    end
    rows.empty = loop("subject.bench_empty()", native.C)
    rows.add_shared = adds(0)
    rows.add_own = adds(word)
    rows.find_shared = loop("subject('shared')", dyups.find)
    rows.find_own = loop(("subject('%s')"):format(upstream), dyups.find)
    return true
end


-- run(name, start, ns): runs from `start` on, for `ns` -> "ns of CPU a call, share of a CPU that it had"
function _M.run(name, start, ns)
    local row = rows[name]
    repeat local now = native.now() until now >= start
    local from, cpu, calls = native.now(), native.cpu(), 0
    repeat
        row(CALLS)
        calls = calls + CALLS
        local spent = native.now() - from
    until spent >= ns
    cpu = native.cpu() - cpu
    return ("%.3f %.4f"):format(cpu / calls, cpu / (native.now() - from))
end


return _M
