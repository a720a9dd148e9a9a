-- Measures how long the event loops of the workers are kept from other work.

local native = require "native"

local ngx = ngx
local max = math.max

-- Seconds between two beats; and between two looks whether they are wanted.
local BEAT, UNTIL_WANTED = 0.001, 0.1

local _M = {}


-- Words that the workers share: the latest delay of each, and behind these whether they are to measure.
local function words()
    return native.word(ngx.worker.id()), native.word(ngx.worker.count())
end


local function beat(premature)
    local latest, wanted = words()
    local before = native.now()
    while not premature and not ngx.worker.exiting() do
        local looks = native.C.bench_load(wanted) ~= 0
        ngx.sleep(looks and BEAT or UNTIL_WANTED)
        local now = native.now()
        if looks then
            local late = now - before - BEAT * 1e9
            native.C.bench_store(latest, max(late, tonumber(native.C.bench_load(latest))))
        end
        before = now
    end
end


-- start(): in each worker, which can then be asked how much later than it should a timer comes.
function _M.start()
    assert(ngx.timer.at(0, beat))
end


-- look(): from now on, in all workers.
function _M.look()
    local _, wanted = words()
    for id = 0, ngx.worker.count() - 1 do
        native.C.bench_store(native.word(id), 0)
    end
    native.C.bench_store(wanted, 1)
    return true
end


-- latest(): until now -> the latest that a timer of one of them came, in ns.
function _M.latest()
    local _, wanted = words()
    native.C.bench_store(wanted, 0)
    local latest = 0
    for id = 0, ngx.worker.count() - 1 do
        latest = max(latest, tonumber(native.C.bench_load(native.word(id))))
    end
    return latest
end


return _M
