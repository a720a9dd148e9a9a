-- Events: a line in the log for each change that probes have found, and a call of each handler.

local ffi = require "ffi"
local library = require "dyups.library"
local log = require("dyups.log").log
local timer = require "dyups.timer"

local C, ffi_string = library.C, ffi.string
local ngx = ngx
local pcall, type = pcall, type

local _M = {}

-- The library writes it, and tell reads it at once: one for all calls of this VM.
local event_of_library = ffi.new("dyups_news")

-- A worker may have two Lua VMs, of http {} and of stream {}. Their probes share one list of events, and one VM takes
-- it.
local VM = ngx and ngx.config.subsystem == "stream" and 1 or 0

local handlers = {}

-- Events that wait for the handlers are at first to last.
local events, first, last = {}, 1, 0
-- Whether a timer is asked for that calls the handlers, and the value of first when look_after ran last.
local is_asked, first_seen = false, 0


local function text(of)
    return ffi_string(of.data, of.len)
end


local function call_handlers()
    while first <= last do
        local event = events[first]
        events[first] = nil
        first = first + 1
        for _, handler in ipairs(handlers) do
            local ok, err = pcall(handler, event)
            if not ok then
                log("ERR", "a handler of peer_state failed: " .. tostring(err))
            end
        end
    end
    is_asked = false
end


-- Handlers run in a timer of their own, one for all events: they may wait, and ngx.exit() ends all that runs in one.
local function ask_for_timer()
    if first <= last and not is_asked then
        is_asked = timer(0, call_handlers)
        if not is_asked and ngx.worker.exiting() then
            call_handlers()
        end
    end
end


-- look_after(): goes on with the next event where a timer did not run, or a handler has ended it or waits for long.
-- Call it once a second.
function _M.look_after()
    if first <= last and first == first_seen then
        is_asked = false
    end
    first_seen = first
    ask_for_timer()
end


-- listens() -> whether this VM takes the events. Tells the library how many handlers it has.
function _M.listens()
    return C.dyups_probe_listens(VM, #handlers) == 1
end


-- tell(): logs the events since the last call, and has the handlers called.
function _M.tell()
    if not _M.listens() then
        return
    end
    while C.dyups_probe_news(event_of_library) == 1 do
        log("WARN", text(event_of_library.line))
        if event_of_library.is_change ~= 0 and handlers[1] then
            last = last + 1
            events[last] = {
                upstream = text(event_of_library.upstream), server = text(event_of_library.server),
                from = text(event_of_library.from), to = text(event_of_library.to),
                why = text(event_of_library.why), after = event_of_library.after,
            }
        end
    end
    ask_for_timer()
end


-- on(event, handler) -> true | nil, message
--
-- Has a function called for each event, in the worker that finds it: each event happens once, in one worker.
--
-- Arguments
--   event    "peer_state": probes have found that a peer is up, or down
--   handler  a function of one table: upstream, server (the peer's address), from and to ("up" or "down"), why (text),
--            after (number of results in a row). It may yield. Its errors go to the log
--
-- Returns
--   true
--
-- Errors
--   nil, message: the event is unknown, or the handler is not a function.
--
-- Example
--     dyups.on("peer_state", function(event) notify(event.server, event.to) end)
function _M.on(event, handler)
    if type(event) ~= "string" then
        return library.not_a_text("event", event)
    elseif event ~= "peer_state" then
        return nil, "event: " .. event .. ": allowed: \"peer_state\""
    elseif type(handler) ~= "function" then
        return nil, "handler: a " .. type(handler) .. ": allowed: a function"
    end
    handlers[#handlers + 1] = handler
    return true
end


return _M
