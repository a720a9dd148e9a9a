-- Measures probes in the workers: how long their event loops are kept from other work, and the cost of a connection
-- without dyups.

local native = require "native"

local ngx = ngx
local max = math.max
local tcp = ngx.socket.tcp

-- Seconds between two beats; and between two looks whether they are wanted.
local BEAT, UNTIL_WANTED = 0.001, 0.1
-- As many as are due in a worker at a time.
local AT_ONCE, PAUSE = 8, 0.01

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


local function speak(host, port)
    local socket = tcp()
    socket:settimeout(2000)
    assert(socket:connect(host, port))
    assert(socket:send("GET / HTTP/1.1\r\nHost: " .. host .. "\r\nConnection: close\r\n\r\n"))
    local answer = assert(socket:receiveany(4096))
    assert(answer:find("^HTTP/1.1 200 "))
    socket:close()
end


-- bare(count, port): as many connections, requests and answers, by nothing but nginx's sockets -> ns of CPU for one
function _M.bare(count, port)
    local from = native.cpu()
    for first = 1, count, AT_ONCE do
        local threads = {}
        for i = 1, AT_ONCE do
            local n = first + i
            threads[i] = ngx.thread.spawn(speak, "127.1." .. n / 250 % 20 - n / 250 % 1 .. "." .. n % 250 + 1, port)
        end
        for _, thread in ipairs(threads) do
            assert(ngx.thread.wait(thread))
        end
        ngx.sleep(PAUSE)
    end
    return (native.cpu() - from) / count
end


return _M
