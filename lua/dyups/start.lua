-- start: claims this worker's slot, and runs the timers of a worker.

local ffi = require "ffi"
local handles = require "dyups.handles"
local library = require "dyups.library"
local logging = require "dyups.log"
local prober = require "dyups.prober"

local C, failure, outcome = library.C, library.failure, library.outcome
local log, log_changes = logging.log, logging.log_changes
local ffi_string = ffi.string

local _M = {}

local FULL = tonumber(ffi.cast("int", C.DYUPS_FULL))

local SECONDS_BETWEEN_TICKS = 1
-- nginx may give a connection back while the request goes on for a slow client. No callback says so.
local SECONDS_BETWEEN_SWEEPS = 0.1
local SECONDS_BETWEEN_LOOKS_AT_THE_FILE = 10

-- Where all slots are taken, old workers that shut down free theirs sooner or later. Meanwhile this one serves.
local waits_for_slot = false
local start_timers


local is_lost_said = false

local function look_at_the_file(premature)
    if not premature and not is_lost_said and C.dyups_lost() == 1 then
        is_lost_said = true
        log("ALERT", ffi_string(C.dyups_error()))
    end
end


-- Takes back the counts of dead workers, and lets picks skip the check of each peer in upstreams that are well again.
-- An error is logged once, and again if a tick succeeded in between.
local last_error

local function tick(premature)
    if premature then
        return
    end
    if waits_for_slot and _M.start() then
        log("WARN", "this worker has a slot by now")
    end
    local _, err = outcome(C.dyups_tick())
    log_changes()
    if err and err ~= last_error then
        log("ERR", err)
    end
    last_error = err
    handles.drop_stale()
    prober.look_after()
    start_timers()
end


local function sweep(premature)
    C.dyups_sweep(premature and 1 or 0)
    if not premature then
        start_timers()
    end
end


-- Each timer is started once. Where nginx has no room for a run (lua_max_running_timers), it skips that run of
-- ngx.timer.every, and the next one comes. It drops a timer of ngx.timer.at without a word to the caller. So nothing
-- here waits for such a timer, unless a tick looks after it.
local started = {}

local function every(seconds, callback)
    if started[callback] then
        return true
    end
    local ok, err = ngx.timer.every(seconds, callback)
    started[callback] = ok and true or nil
    return ok, err
end


-- Starts the timers that are missing. Where lua_max_pending_timers leaves no room for one now, another one starts it.
function start_timers()
    if not ngx or ngx.worker.exiting() then
        return true
    end
    local ticks, why = every(SECONDS_BETWEEN_TICKS, tick)
    local sweeps, err = every(SECONDS_BETWEEN_SWEEPS, sweep)
    local looks, other = true, nil
    if ngx.worker.id() == 0 then
        looks, other = every(SECONDS_BETWEEN_LOOKS_AT_THE_FILE, look_at_the_file)
    end
    local probes, another = prober.start()
    return ticks and sweeps and looks and probes, why or err or other or another
end


-- start() -> true | nil, message
--
-- Claims this worker's slot in the region and starts its timers. Call it in init_worker_by_lua; a second call is
-- harmless. A worker that finds all slots taken serves nevertheless, and claims the next one that is free.
--
-- Returns
--   true
--
-- Errors
--   nil, message: setup has not succeeded; all slots are taken; nginx has no room for a timer.
--
-- Example
--     assert(dyups.start())
function _M.start()
    if ngx and ngx.get_phase() == "init" then
        return nil, "start: called in init_by_lua: allowed: init_worker_by_lua, and later"
    end
    local code = C.dyups_start()
    if code < 0 and code ~= FULL then
        return failure()
    end
    -- A worker without a slot needs its timers too: it is not counted, but it balances.
    local refused = code < 0 and ffi_string(C.dyups_error())
    waits_for_slot = refused and true or false
    local ok, err = start_timers()
    if refused then
        return nil, refused
    end
    if not ok then
        return nil, "dyups: cannot start a timer: " .. tostring(err)
    end
    return true
end


return _M
