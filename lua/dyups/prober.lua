-- The probes of active checks: when they run. The library says which are due.
--
-- One timer handler runs in each worker. It makes the probes that are due in light threads, each with its own
-- connection. nginx frees the memory of a handler only when the handler ends. So each hands over to a new one after a
-- while.

local ffi = require "ffi"
local complain = require "dyups.complain"
local events = require "dyups.events"
local library = require "dyups.library"
local make_next_probe = require "dyups.probe"
local phase = require "dyups.phase"
local timer = require "dyups.timer"

local C, ffi_string = library.C, ffi.string
local ngx = ngx
local pcall = pcall

local _M = {}

-- Threads that the handler starts, and probes that a thread makes, before nginx may do something else.
local AT_ONCE = 4
-- A handler hands over after so many probes, unless many handlers still wait for their last probes.
local PROBES_OF_A_HANDLER = 500
local MOST_HANDLERS = 16
local SECONDS_TO_HAND_OVER = 1
-- After a handler that has failed.
local SECONDS_UNTIL_ANOTHER = 1
-- Of timers that nginx does not run.
local MOST_SECONDS_MISSED = 3

-- The handler whose turn it is, and the number of all handlers.
local current
local alive = 0

-- Calls of look_after since the last tick of the handler, and seconds of ticks since the last call of look_after.
local looks_without_a_tick, seconds_without_a_look = 0, 0


local function make_probes(handler)
    local count = 0
    repeat
        handler.starting = true
        local made, err = make_next_probe()
        if err then
            complain(err)
        end
        count = count + 1
        -- Each probe takes memory of the handler.
        handler.left = handler.left - 1
        -- A probe that is refused may be over without having waited.
        if count % AT_ONCE == 0 then
            phase.pause()
        end
    until not made or handler.is_over
end


-- A light thread: makes probes until none is due.
local function work(handler)
    local co = coroutine.running()
    handler.threads[co] = true
    local ok, err = pcall(make_probes, handler)
    if not ok then
        complain(tostring(err))
    end
    handler.starting = false
    handler.threads[co] = nil
    handler.ended[#handler.ended + 1] = co
end


local function collect_ended_threads(handler)
    local ended = handler.ended
    handler.ended = {}
    for _, co in ipairs(ended) do
        ngx.thread.wait(co)
    end
end


-- start_due_probes(handler) -> whether more are to be started
local function start_due_probes(handler)
    local due = C.dyups_probes_due()
    for _ = 1, math.min(due, AT_ONCE) do
        local co, err = ngx.thread.spawn(work, handler)
        if not co then
            complain(tostring(err))
            return false
        elseif not handler.starting then
            return false
        end
    end
    return due > AT_ONCE
end


local run

-- hand_over(handler) -> whether another handler runs now
local function hand_over(handler)
    if not timer(0, run) then
        return false
    end
    local waited = 0
    while current == handler and waited < SECONDS_TO_HAND_OVER do
        ngx.sleep(0.01)
        waited = waited + 0.01
    end
    if current == handler and not ngx.worker.exiting() then
        complain("a timer does not run: is lua_max_running_timers too small?")
    end
    return current ~= handler
end


-- tick() -> the seconds until the next one
local function tick()
    looks_without_a_tick = 0
    if seconds_without_a_look > MOST_SECONDS_MISSED then
        complain("no other timer of dyups runs: is lua_max_running_timers too small?")
    end
    local wait = C.dyups_probe_tick()
    if wait < 0 then
        complain(ffi_string(C.dyups_error()))
        wait = 100
    end
    events.tell()
    return wait / 1000
end


local function turn(handler)
    while current == handler and not ngx.worker.exiting() do
        local wait = tick()
        if start_due_probes(handler) then
            wait = 0
        end
        seconds_without_a_look = seconds_without_a_look + wait
        ngx.sleep(wait)
        collect_ended_threads(handler)
        if handler.left <= 0 and (alive >= MOST_HANDLERS or not hand_over(handler)) then
            handler.left = PROBES_OF_A_HANDLER
        end
    end
end


-- A handler that has handed over stays until its last probe has ended. A worker that shuts down leaves its share to the
-- others, and does not wait for answers.
local function wait_for_last_probes(handler)
    while next(handler.threads) and not ngx.worker.exiting() do
        ngx.sleep(0.1)
    end
    if ngx.worker.exiting() then
        C.dyups_probe_stop()
    end
    for co in pairs(handler.threads) do
        ngx.thread.kill(co)
    end
end


function run(premature)
    if premature then
        return
    end
    local handler = { threads = {}, ended = {}, left = PROBES_OF_A_HANDLER }
    current = handler
    alive = alive + 1
    local ok, err = pcall(turn, handler)
    handler.is_over = true
    if not ok then
        complain(tostring(err))
        timer(SECONDS_UNTIL_ANOTHER, run)
    end
    pcall(wait_for_last_probes, handler)
    alive = alive - 1
end


local has_started = false

local function start_handler()
    looks_without_a_tick = 0
    return timer(0, run)
end


-- start() -> true | nil, message
--
-- Starts the handler, once.
function _M.start()
    events.listens()
    has_started = has_started or start_handler()
    if not has_started then
        return nil, "no timer"
    end
    return true
end


-- look_after(): starts another handler where nginx did not run the timer of one. Call it once a second.
function _M.look_after()
    events.look_after()
    seconds_without_a_look = 0
    looks_without_a_tick = looks_without_a_tick + 1
    if has_started and looks_without_a_tick > MOST_SECONDS_MISSED then
        complain("the timer does not run: is lua_max_running_timers too small?")
        start_handler()
    end
end


return _M
