-- dyups: upstreams that change while nginx runs. This is the module that configurations require.
--
--     init_by_lua_block        { assert(require("dyups").setup{ files = "upstreams.json" }) }
--     init_worker_by_lua_block { assert(require("dyups").start()) }
--     balancer_by_lua_block {
--         local peer, err = require("dyups").find(ngx.var.host)
--         ...
--     }
--
-- Every function returns its value (or true), or nil and a message that names the field, the value and what is allowed.
-- None throws. A change that was answered with true is seen by every pick that begins afterwards, in every worker.

local ffi = require "ffi"
local encode = require "dyups.encode"
local library = require "dyups.library"
local logging = require "dyups.log"
local try = require("dyups.patience").try

local C = library.C
local log, log_changes = logging.log, logging.log_changes
local ffi_string = ffi.string
local type = type

local _M = { _VERSION = library.version }

if not C then
    -- Without the library every function says so, instead of require throwing in the middle of a configuration.
    local function missing() return nil, library.why end
    for _, name in ipairs {
        "setup", "start", "find", "tried", "balance", "log", "add_peer", "set_peer", "delete_peer", "set_upstream",
        "delete_upstream", "healthcheck", "status", "on",
    } do
        _M[name] = missing
    end
    return _M
end

local balancer = require "dyups.balancer"
local healthcheck = require "dyups.healthcheck"

local failure, not_a_text = library.failure, library.not_a_text

local NOT_FOUND = tonumber(ffi.cast("int", C.DYUPS_NOT_FOUND))
local FULL = tonumber(ffi.cast("int", C.DYUPS_FULL))

local has_cjson, cjson = pcall(require, "cjson.safe")
local text_t = ffi.typeof("dyups_text")

-- Written by the library and read at once: one for all calls of this VM.
local text = text_t()


local function outcome(code, err)
    if not code then
        return nil, err
    elseif code < 0 then
        return failure()
    end
    return true
end


---- what runs once ----------------------------------------------------------------------------------------------------

-- setup([conf]) -> true | nil, message
--
-- Maps the shared memory, making it if it is not there, and loads upstreams from files. Call it in init_by_lua: all
-- workers inherit the mapping. A reload calls it again: upstreams that were not changed at run time then follow their
-- files. What an operator should know goes to the error log as a warning.
--
-- conf, all optional:
--   shm_path   text     where the region is: shm_path.vN, N for its layout, and shm_path.lock; default: in /dev/shm,
--                       named after nginx's prefix
--   shm_size   number (bytes) or text ("64m"), 256 KiB to 4 GiB; default 128 MiB, of which only what is used is taken
--   files      text, or a list of texts: JSON, or nginx's own `upstream name { server ...; }`; relative to the prefix
--   overwrite  boolean  the files win over what was changed at run time; default false
--   admin      table    hosts: a list of names, beside addresses and localhost, that call the HTTP interface
--   healthcheck  options as in healthcheck(): of all upstreams of which neither a file nor a call says what they are;
--                default false: those are not checked
--
--     assert(dyups.setup{ shm_size = "64m", files = { "conf/upstreams.json", "conf/legacy.conf" } })
function _M.setup(conf)
    local sent = conf
    if conf == nil or type(conf) == "table" then
        sent = { prefix = ngx and ngx.config.prefix(), nginx_version = ngx and ngx.config.nginx_version }
        for key, value in next, conf or {} do
            sent[key] = value
        end
    end
    local json = encode(sent)
    local ok, err = outcome(C.dyups_setup(json, #json))
    log_changes()
    for note in ffi_string(C.dyups_notes()):gmatch("[^\n]+") do
        log("WARN", note)
    end
    if not ok then
        return nil, err
    end
    return true
end


local SECONDS_BETWEEN_LOOKS = 10
local said_lost = false

local function look_after_the_file(premature)
    if not premature and not said_lost and C.dyups_lost() == 1 then
        said_lost = true
        log("ALERT", ffi_string(C.dyups_error()))
    end
end


-- What dead workers have counted is taken back, and upstreams that are well again are picked from without a look at
-- each peer. What cannot be done is said once, and again when it was well in between.
local SECONDS_BETWEEN_TICKS = 1
local said_of_tick
-- Where all slots are taken, old workers that shut down leave theirs sooner or later. This one serves meanwhile.
local waits_for_slot = false
local start_timers

local function tick(premature)
    if premature then
        return
    end
    if waits_for_slot and _M.start() then
        log("WARN", "this worker has a slot by now")
    end
    local _, err = outcome(C.dyups_tick())
    log_changes()
    if err and err ~= said_of_tick then
        log("ERR", err)
    end
    said_of_tick = err
    balancer.look_after()
    healthcheck.look_after()
    start_timers()
end


-- nginx gives a connection back and tells nobody, while the request goes on for a slow client.
local SECONDS_BETWEEN_SWEEPS = 0.1

local function sweep(premature)
    if not premature then
        C.dyups_sweep()
        start_timers()
    end
end


-- Each timer is started once. Where nginx has no room for a run (lua_max_running_timers), it drops that of
-- ngx.timer.every, and the next one comes; a timer of ngx.timer.at is lost, and its caller is not told. So nothing here
-- waits for such a timer, unless a tick looks after it.
local started = {}

local function every(seconds, callback)
    if started[callback] then
        return true
    end
    local ok, err = ngx.timer.every(seconds, callback)
    started[callback] = ok and true or nil
    return ok, err
end


-- Starts those that are not there: what lua_max_pending_timers has no room for now is started by another one.
function start_timers()
    if not ngx or ngx.worker.exiting() then
        return true
    end
    local ticks, why = every(SECONDS_BETWEEN_TICKS, tick)
    local sweeps, err = every(SECONDS_BETWEEN_SWEEPS, sweep)
    local looks, other = true, nil
    if ngx.worker.id() == 0 then
        looks, other = every(SECONDS_BETWEEN_LOOKS, look_after_the_file)
    end
    local probes, another = healthcheck.start()
    return ticks and sweeps and looks and probes, why or err or other or another
end


-- start() -> true | nil, message
--
-- Claims this worker's slot in the region and starts its timers. Call it in init_worker_by_lua; again is harmless. A
-- worker that finds all slots taken serves nevertheless, and claims the next one that is free.
--
--     assert(dyups.start())
function _M.start()
    if ngx and ngx.get_phase() == "init" then
        return nil, "start: called in init_by_lua: allowed: init_worker_by_lua, and later"
    end
    local code = C.dyups_start()
    if code < 0 and code ~= FULL then
        return failure()
    end
    -- Without a slot as well: who is not counted is balanced all the same.
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


---- the request path: lua/dyups/balancer.lua --------------------------------------------------------------------------

_M.find = balancer.find
_M.tried = balancer.tried
_M.balance = balancer.balance
_M.log = balancer.log


---- changes -----------------------------------------------------------------------------------------------------------

-- One change of one upstream: its name and what to make of it, sent to one function of the library. options: those that
-- all changes have.
local function change(call, upstream, value, options)
    if type(upstream) ~= "string" then
        return not_a_text("upstream", upstream)
    end
    local json, by = encode(value), encode(options)
    -- Both in one go: another request may make a change between two tries.
    local function said_and_done(a, b, c, d, wait)
        local code = C.dyups_by(by, #by)
        return code < 0 and code or call(a, b, c, d, wait)
    end
    local code = try(said_and_done, upstream, #upstream, json, #json)
    log_changes()
    return code
end


-- Options of one function, and beside them those that all changes have.
local function split(options)
    if type(options) ~= "table" then
        return options
    end
    local own = {}
    for key, value in next, options do
        own[key] = value
    end
    own.by = nil
    return own, { by = rawget(options, "by") }
end


-- Each change is one line of the error log, at level notice: the upstream, from where the change came, its peers before
-- and after, and its version. As their last argument all of these functions take a table of options, in which `by` (a
-- text of 1 to 255 bytes) says on whose behalf the change is made: the line names it.
--
--     assert(dyups.add_peer("api", { host = "10.0.0.1" }, { by = "deploy 42" }))

-- add_peer(upstream, peer[, options]) -> true | nil, message
--
-- Adds a peer, making the upstream if it is new. On a peer that is there the given fields change and the others keep
-- their values.
--
-- peer: host         text    an IPv4 address, an IPv6 address in brackets, or unix:/path
--       port         1 to 65535, default 80 (or host and port in one: server = "10.0.0.1:8080")
--       weight       0 to 65535, default 1; 0 takes no traffic and keeps its place
--       status       "up" (default), "down" or "drain" (no new picks)
--       leaving      boolean, default false: it drains, and is deleted when it is idle
--       backup       boolean, default false: picked when no other peer can be
--       max_conns    0 to 4294967295, default 0: no limit; of all workers, as balance() counts them
--       max_fails    0 to 4294967295, default 1: failures within fail_timeout that take it out; 0: none do
--       fail_timeout seconds, default 10: and for how long
--       slow_start   seconds, default 0; stored and shown, not acted upon yet
--       check_port   1 to 65535: where its probes go; default false: as healthcheck() says
--       check_url    text, at most 8192 bytes: the path that they ask for; default false: as healthcheck() says
--       check_host   text: the Host that they ask for, and the name in TLS; default false: as healthcheck() says
--
--     assert(dyups.add_peer("api", { host = "10.0.0.1", port = 8080, weight = 3 }))
function _M.add_peer(upstream, conf, options)
    return outcome(change(C.dyups_add_peer, upstream, conf, options))
end


-- set_peer(upstream, peer[, options]) -> true | nil, message
--
-- Changes the given fields of a peer that is there; the shape is add_peer's.
--
--     assert(dyups.set_peer("api", { host = "10.0.0.1", port = 8080, status = "drain" }))
function _M.set_peer(upstream, conf, options)
    return outcome(change(C.dyups_set_peer, upstream, conf, options))
end


-- delete_peer(upstream, peer[, { drain = true, by = "..." }]) -> true | nil, message
--
-- Takes a peer out, named by its host and port. nil, "not found" when it is not there. The upstream stays. With drain
-- it gets no new picks from now on, and is deleted about a second after its last connection has ended, unless it is
-- added or set until then.
--
--     assert(dyups.delete_peer("api", { host = "10.0.0.1", port = 8080 }))
function _M.delete_peer(upstream, conf, options)
    if options ~= nil and type(options) ~= "table" then
        return nil, "options: a " .. type(options) .. ": allowed: a table"
    end
    local own, by = split(options)
    if own and type(conf) == "table" then
        for key, value in next, conf do
            if own[key] == nil then
                own[key] = value
            end
        end
        conf = own
    end
    local code, err = change(C.dyups_delete_peer, upstream, conf, by)
    if code == NOT_FOUND then
        return nil, "not found"
    end
    return outcome(code, err)
end


-- set_upstream(upstream, conf[, options]) -> true | nil, message
--
-- Replaces an upstream as a whole, or makes it. No pick sees a mixture of old and new.
--
-- conf: peers    a list of peers as in add_peer; may be empty
--       method   as in find(); left out: chash with a key, rr without
--       healthcheck  options as in healthcheck(), or false for none; left out: as it is set
--       hash_id  what chash hashes of a peer: "nginx" (default: the ring of `hash ... consistent`) or "host:port"
--                (that of lua-resty-chash)
--
--     assert(dyups.set_upstream("api", { method = "chash", peers = { { host = "10.0.0.1", port = 8080 } } }))
function _M.set_upstream(upstream, conf, options)
    return outcome(change(C.dyups_set_upstream, upstream, conf, options))
end


-- delete_upstream(upstream[, { force = true, by = "..." }]) -> true | nil, message
--
-- Deletes an upstream; one that still has peers only with force.
--
--     assert(dyups.delete_upstream("api", { force = true }))
function _M.delete_upstream(upstream, options)
    local own, by = split(options)
    return outcome(change(C.dyups_delete_upstream, upstream, own, by))
end


-- healthcheck(upstream, options[, { by = "..." }]) -> true | nil, message
--
-- Sets how the peers of an upstream are checked. What is not given stays as it is set; false switches the checks off.
-- Options that are wrong change nothing. Every worker may say the same in init_worker_by_lua: nothing changes then. A
-- reload of the files leaves what was said here alone, unless it overwrites. lua-resty-upstream-healthcheck's options
-- are taken as they are, but for upstream, which is the first argument here; shm is ignored.
--
-- options: type             "http" (default), "https" or "tcp" (connects, and sends and expects what is asked for)
--          interval         milliseconds from probe to probe of a peer, 10 to 86400000, default 3000
--          interval_down    the same of a peer that is down or changing; default false: as interval
--          timeout          milliseconds for all of a probe, 1 to 86400000, default 2000
--          rise, fall       successes and failures in a row that change a peer's state, 1 to 255, default 2 and 3
--          concurrency      probes at a time, of this upstream and a worker, 1 to 10000, default 10
--          port             1 to 65535; default false: the peer's. A peer's check_port comes first
--          default_down     boolean, default false: a peer that was never probed counts as down
--          panic_threshold  percent, 0 to 100, default 0: when fewer of the primaries that take traffic are usable, but
--                           one at least, all primaries are picked from
--   of http and https:
--          http_req         text of at most 8192 bytes: one request of HTTP/1.0 or HTTP/1.1; default false: a GET is
--                           built from url, host and headers
--          url              path, default "/"; not with http_req. A peer's check_url comes first, with http_req too
--          host             text: the Host of a request that is built, and the name that TLS asks for and verifies;
--                           default false: the peer's address, and no name
--          headers          { ["X-Name"] = "value" } or { "X-Name: value" }, at most 32; not with http_req
--          valid_statuses   list of 1 to 500 statuses, 100 to 599, default { 200, 302 }
--          expect_body      text of at most 8192 bytes that is somewhere in the body; default false: any body
--   of https:
--          ssl_verify       boolean, default true: the certificate has to be trusted, and to have the name, if any
--          ssl_cert, ssl_key  absolute paths, default false: the certificate that probes show, and its key; read now
--   of tcp:
--          send, expect     texts of at most 8192 bytes: what is sent, and what the answer begins with; default false
--
--     assert(dyups.healthcheck("api", { type = "http", http_req = "GET /up HTTP/1.0\r\nHost: api\r\n\r\n", fall = 5 }))
--     assert(dyups.healthcheck("api", { interval = 1000 })) -- the rest stays
--     assert(dyups.healthcheck("api", false))
function _M.healthcheck(upstream, options, all)
    return outcome(change(C.dyups_healthcheck, upstream, options, all))
end


-- on(event, handler) -> true | nil, message
--
-- Has a function called for each event, in the worker that finds it: each happens once, in one of them.
--
-- event "peer_state": probes have found that a peer is up, or down. The handler gets a table of upstream, server (its
-- address), from and to ("up" or "down"), why (text), after (number of results in a row). It may yield; an error in it
-- goes to the log.
--
--     dyups.on("peer_state", function(event) notify(event.server, event.to) end)
_M.on = healthcheck.on


---- what operators read -----------------------------------------------------------------------------------------------

-- status([upstream]) -> table | nil, message
--
-- The table of upstreams, or one of them, in the shape of the upstreams file: loading it back gives the same table.
-- Read-only fields beside it: version, region (path, size, used and free in bytes, ...), workers (slot, pid, since),
-- deleted (a list of peers that are no more and have connections open: upstream, server, conns), in an upstream
-- generation and origin ("file" or "runtime"), and in a peer conns, fails, out, state ("up", "down", "drain",
-- "unhealthy", "checking" or "unavail") and, where it is checked, probes and streak.
--
--     dyups.status().upstreams.api.peers[1].weight
--     dyups.status("api").upstreams.api.method
function _M.status(upstream)
    if upstream ~= nil and type(upstream) ~= "string" then
        return not_a_text("upstream", upstream)
    end
    if not has_cjson then
        return nil, "dyups: status needs cjson, which is not in lua_package_cpath"
    end
    if C.dyups_status(upstream, upstream and #upstream or 0, text) < 0 then
        return failure()
    end
    return cjson.decode(ffi_string(text.data, text.len))
end


return _M
