-- The probes of active checks: connections and timers of nginx. What is due, what is sent, what an answer means and
-- what comes of it is the library's.
--
-- One timer handler runs in each worker, and takes what is due into light threads, each with its own connection. It
-- hands over to a new one after a while, since nginx frees the memory of a handler when that ends and not before.

local ffi = require "ffi"
local library = require "dyups.library"
local log = require("dyups.log").log

local C, ffi_string = library.C, ffi.string
local ngx = ngx
local pcall, type = pcall, type

local _M = {}

-- As dyups_probe_end has them.
local DONE, CONNECT, HANDSHAKE, SEND, RECEIVE, NOT_MADE = 0, 1, 2, 3, 4, 5

local RECEIVE_AT_ONCE = 4096
-- Threads that are started, and probes that one of them makes, without letting nginx do something else.
local AT_ONCE = 4
-- After so many probes a handler hands over; unless there are many already whose last probes go on and on.
local PROBES_OF_A_HANDLER = 500
local MOST_HANDLERS = 16
local SECONDS_TO_HAND_OVER = 1
-- After one that has failed.
local SECONDS_UNTIL_ANOTHER = 1
-- Of timers that nginx does not run.
local MOST_SECONDS_MISSED = 3
local SECONDS_BETWEEN_COMPLAINTS = 60

local orders = ffi.new("dyups_probe")
local news = ffi.new("dyups_news")

local function text(of)
    return ffi_string(of.data, of.len)
end


-- What goes wrong again and again is said once a minute. Errors are anybody's texts: few of them are remembered.
local MOST_SAID = 64
local said, said_count = {}, 0

local function complain(what)
    local now = ngx.now()
    if not said[what] or math.abs(now - said[what]) >= SECONDS_BETWEEN_COMPLAINTS then
        if not said[what] then
            said_count = said_count + 1
        end
        if said_count > MOST_SAID then
            said, said_count = {}, 1
        end
        said[what] = now
        log("ERR", "probes: " .. what)
    end
end


-- Whether nginx has taken a timer.
local function timer(seconds, callback)
    local ok, err = ngx.timer.at(seconds, callback)
    if not ok and not ngx.worker.exiting() then
        complain("no timer: " .. tostring(err) .. ": is lua_max_pending_timers too small?")
    end
    return ok and true or false
end


---- events ------------------------------------------------------------------------------------------------------------

local handlers = {}

-- Events that no handler has seen, and which of them is next; whether a timer is asked for that goes on with them, and
-- which event was next when somebody last looked.
local events, first, last = {}, 1, 0
local is_asked, looked_at = false, 0

local function handle()
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


-- Handlers have a timer of their own, one for all events: they may wait, and ngx.exit() ends all that runs in one.
local function go_on_with_events()
    if first <= last and not is_asked then
        is_asked = timer(0, handle)
        if not is_asked and ngx.worker.exiting() then
            handle()
        end
    end
end


-- A timer that did not run, or that a handler has ended or holds for long: another one goes on with the next event.
local function look_after_events()
    if first <= last and first == looked_at then
        is_asked = false
    end
    looked_at = first
    go_on_with_events()
end


-- A worker may have two Lua VMs. Their probes have one list of news, and one of the two takes it.
local VM = ngx and ngx.config.subsystem == "stream" and 1 or 0

-- Whether this VM is told of the news.
local function listens()
    return C.dyups_probe_listens(VM, #handlers) == 1
end


-- What the library has to say since the last time: a line each in the log.
local function tell()
    if not listens() then
        return
    end
    while C.dyups_probe_news(news) == 1 do
        log("WARN", text(news.line))
        if news.is_change ~= 0 and handlers[1] then
            last = last + 1
            events[last] = {
                upstream = text(news.upstream), server = text(news.server), from = text(news.from), to = text(news.to),
                why = text(news.why), after = news.after,
            }
        end
    end
    go_on_with_events()
end


-- on(event, handler) -> true | nil, message: see dyups.on.
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


---- one probe ---------------------------------------------------------------------------------------------------------

-- Nobody keeps connections under this name: what other Lua code keeps to the same address says nothing of the peer.
local A_NEW_ONE = { pool = "dyups: none" }

local has_base, base = pcall(require, "resty.core.base")

-- Agrees on TLS; the error. Where that is done at once, resty.core says nothing of a bad certificate unless it is asked
-- for a session, and most versions throw then (openresty/lua-resty-core#499): why, is in its buffer.
local function shake_hands(socket, name, verify)
    local ok, session, err = pcall(socket.sslhandshake, socket, nil, name, verify)
    if ok then
        return err
    elseif has_base and tostring(session):find("assertion failed", 1, true) then
        return ffi_string(base.get_errmsg_ptr()[0])
    end
    return tostring(session)
end


local has_ssl, ssl = pcall(require, "ngx.ssl")

-- Certificates and keys as nginx has them, by the numbers that the library gives their texts.
local MOST_PARSED = 256
local certs, keys, parsed = {}, {}, 0

local function parse(into, id, pem, parser)
    local found = into[id]
    if not found then
        local err
        found, err = parser(pem)
        if not found then
            return nil, err
        end
        if parsed >= MOST_PARSED then
            certs, keys, parsed = {}, {}, 0
        else
            into[id] = found
            parsed = parsed + 1
        end
    end
    return found
end


-- The certificate to show, and its key: two, or nil and the error.
local function identity(socket)
    if not (has_ssl and socket.setclientcert) then
        return nil, "ssl_cert: this ngx_lua has no setclientcert"
    end
    local cert, err = parse(certs, orders.cert_id, text(orders.cert), ssl.parse_pem_cert)
    if not cert then
        return nil, "ssl_cert: " .. tostring(err)
    end
    local key
    key, err = parse(keys, orders.key_id, text(orders.key), ssl.parse_pem_priv_key)
    if not key then
        return nil, "ssl_key: " .. tostring(err)
    end
    return cert, key
end


-- Speaks with the peer that the orders name. Answers where it ended, and the error.
local function speak(socket, id)
    -- As soon as this waits, the orders are another probe's.
    local left, host, port, request = orders.timeout, text(orders.host), orders.port, text(orders.request)
    local tls, answers = orders.tls, orders.answers ~= 0
    local name = tls ~= 0 and orders.name.len > 0 and text(orders.name) or nil
    local ok, err, cert, key
    if orders.cert_id ~= 0 then
        cert, key = identity(socket)
        if not cert then
            return NOT_MADE, key
        end
    end
    if left > 0 then -- 0 would be nginx's default
        socket:settimeout(left)
        if port == 0 then
            ok, err = socket:connect(host, A_NEW_ONE)
        else
            ok, err = socket:connect(host, port, A_NEW_ONE)
        end
        if not ok then
            return CONNECT, err
        end
        left = C.dyups_probe_left(id)
        if left == 0 then
            return CONNECT, "timeout"
        end
    end
    if left > 0 and tls ~= 0 then
        socket:settimeout(left)
        if cert then
            ok, err = socket:setclientcert(cert, key)
            if not ok then
                return HANDSHAKE, err
            end
        end
        err = shake_hands(socket, name, tls == 2)
        if err then
            return HANDSHAKE, err
        end
        left = C.dyups_probe_left(id)
        if left == 0 then
            return HANDSHAKE, "timeout"
        end
    end
    if left > 0 and #request > 0 then
        socket:settimeout(left)
        ok, err = socket:send(request)
        if not ok then
            return SEND, err
        end
        left = C.dyups_probe_left(id)
    end
    while left > 0 and answers do
        socket:settimeout(left)
        local data
        data, err = socket:receiveany(RECEIVE_AT_ONCE)
        if not data then
            return RECEIVE, err
        end
        left = C.dyups_probe_feed(id, data, #data)
    end
    return DONE
end


local function talk(id)
    local socket = ngx.socket.tcp()
    local stage, err = speak(socket, id)
    socket:close()
    return stage, err
end


-- Makes a probe that is due. False: none is.
local function probe_one()
    local code = C.dyups_probe_next(orders)
    if code < 0 then
        return nil, ffi_string(C.dyups_error())
    elseif code == 0 then
        return false
    end
    local id = orders.id
    local ok, stage, err = pcall(talk, id)
    if not ok then
        stage, err = CONNECT, tostring(stage)
    end
    err = err or ""
    if C.dyups_probe_end(id, stage, err, #err) < 0 then
        return nil, ffi_string(C.dyups_error())
    end
    tell()
    return true
end


---- the handler -------------------------------------------------------------------------------------------------------

-- The handler whose turn it is, and how many there are.
local current
local alive = 0

-- How often somebody looked after it since it last ticked; and for how many seconds it has ticked since somebody did.
local looks_without_a_tick, seconds_without_a_look = 0, 0


local function make_probes(handler)
    local count = 0
    repeat
        handler.starting = true
        local made, err = probe_one()
        if err then
            complain(err)
        end
        count = count + 1
        -- Each takes memory of the handler.
        handler.left = handler.left - 1
        -- Where nobody listens a probe may be over without having waited.
        if count % AT_ONCE == 0 then
            ngx.sleep(0)
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


local function wait_for_those_that_ended(handler)
    local ended = handler.ended
    handler.ended = {}
    for _, co in ipairs(ended) do
        ngx.thread.wait(co)
    end
end


-- Whether there are more to be started.
local function start_those_that_are_due(handler)
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

-- Whether another handler is there by now.
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


-- Answers after how many seconds to come again.
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
    tell()
    return wait / 1000
end


local function turn(handler)
    while current == handler and not ngx.worker.exiting() do
        local wait = tick()
        if start_those_that_are_due(handler) then
            wait = 0
        end
        seconds_without_a_look = seconds_without_a_look + wait
        ngx.sleep(wait)
        wait_for_those_that_ended(handler)
        if handler.left <= 0 and (alive >= MOST_HANDLERS or not hand_over(handler)) then
            handler.left = PROBES_OF_A_HANDLER
        end
    end
end


-- Those who were handed over from stay until their last probe has ended. A worker that shuts down leaves its share to
-- the others, and does not wait for answers.
local function wait_for_the_last(handler)
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
    pcall(wait_for_the_last, handler)
    alive = alive - 1
end


local has_started = false

local function start_handler()
    looks_without_a_tick = 0
    return timer(0, run)
end


-- start() -> true | nil, message: starts the handler, once.
function _M.start()
    listens()
    has_started = has_started or start_handler()
    if not has_started then
        return nil, "no timer"
    end
    return true
end


-- look_after(): to be called once a second. Starts another handler where nginx did not run the timer of one.
function _M.look_after()
    look_after_events()
    seconds_without_a_look = 0
    looks_without_a_tick = looks_without_a_tick + 1
    if has_started and looks_without_a_tick > MOST_SECONDS_MISSED then
        complain("the timer does not run: is lua_max_running_timers too small?")
        start_handler()
    end
end


return _M
