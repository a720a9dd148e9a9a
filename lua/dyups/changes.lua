-- Changes of upstreams and peers.
--
-- Each change is one line of the error log, at level notice. The line has the upstream, the origin of the change, the
-- peers before and after, and the version. As their last argument all of these functions take a table of options. In
-- it `by`, a text of 1 to 255 bytes, names the caller, and the line has that name:
--
--     assert(dyups.add_peer("api", { host = "10.0.0.1" }, { by = "deploy 42" }))
--
-- All of them answer nil and a message for an error, and then nothing is changed:
--
--     a wrong field               the message names it, its value and the allowed values
--     "busy, held by pid N"       after two seconds (20 ms where nginx cannot yield)
--     "superseded by layout N"    a newer nginx takes the changes
--     "the region is full ..."

local ffi = require "ffi"
local drafts = require "dyups.draft"
local encoding = require "dyups.encode"
local library = require "dyups.library"
local log_changes = require("dyups.log").log_changes
local retry = require("dyups.retry").retry

local C, not_a_text, outcome = library.C, library.not_a_text, library.outcome
local encode, is_long, in_pieces = encoding.encode, encoding.is_long, encoding.in_pieces
local type = type

local _M = {}

local NOT_FOUND = tonumber(ffi.cast("int", C.DYUPS_NOT_FOUND))


-- named(options, call) -> a call that names the caller first
--
-- Both calls in one go: between two tries another request may make a change.
local function named(options, call)
    local json = encode(options)
    return function(...)
        local code = C.dyups_by(json, #json)
        return code < 0 and code or call(...)
    end
end


-- change(call, upstream, value, options) -> the code of the library | nil, message
--
-- Sends one change of one upstream to a function of the library. options: those that all changes have.
local function change(call, upstream, value, options)
    if type(upstream) ~= "string" then
        return not_a_text("upstream", upstream)
    end
    local json = encode(value)
    local code = retry(named(options, call), upstream, #upstream, json, #json)
    log_changes()
    return code
end


-- The same of a value that is written and read in pieces, while nginx serves requests.
local function change_in_pieces(draft, upstream, value, options)
    local function call(id, name, len, _, wait)
        return C.dyups_draft_set_upstream(id, name, len, wait)
    end
    in_pieces(value, function(json) drafts.add(draft, json) end)
    local code = drafts.work(named(options, call), draft.id, upstream, #upstream)
    log_changes()
    return code
end


-- split(options) -> the options of one function, the options that all changes have
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


-- For changes of routes.
_M.change, _M.split = change, split


-- add_peer(upstream, peer[, options]) -> true | nil, message
--
-- Adds a peer, and makes the upstream if it is new. Of a peer that is there, the given fields change and the others
-- keep their values.
--
-- Arguments (peer)
--   host         text: an IPv4 address, an IPv6 address in brackets, or unix:/path
--   port         1 to 65535, default 80 (or host and port in one: server = "10.0.0.1:8080")
--   weight       0 to 65535, default 1; a peer of weight 0 takes no traffic and keeps its place
--   status       "up" (default), "down" or "drain" (no new picks)
--   leaving      boolean, default false: the peer drains, and is deleted when it is idle
--   backup       boolean, default false: picked when no other peer can be
--   max_conns    0 to 4294967295, default 0: no limit; of all workers, as balance() counts them
--   max_fails    0 to 4294967295, default 1: failures within fail_timeout that take the peer out; 0: none do
--   fail_timeout seconds, default 10: also how long the peer stays out
--   slow_start   seconds, default 0: a peer that comes back has a tenth of its weight at first, and all after this time
--   check_port   1 to 65535: where its probes go; default false: as healthcheck() says
--   check_url    text, at most 8192 bytes: the path that its probes ask for; default false: as healthcheck() says
--   check_host   text: the Host that its probes ask for, and the name in TLS; default false: as healthcheck() says
--
-- Returns
--   true
--
-- Errors
--   nil, message: as of all changes.
--
-- Example
--     assert(dyups.add_peer("api", { host = "10.0.0.1", port = 8080, weight = 3 }))
function _M.add_peer(upstream, conf, options)
    return outcome(change(C.dyups_add_peer, upstream, conf, options))
end


-- set_peer(upstream, peer[, options]) -> true | nil, message
--
-- Changes the given fields of a peer that is there.
--
-- Arguments
--   peer     as in add_peer()
--
-- Returns
--   true
--
-- Errors
--   nil, message: the peer does not exist, and as of all changes.
--
-- Example
--     assert(dyups.set_peer("api", { host = "10.0.0.1", port = 8080, status = "drain" }))
function _M.set_peer(upstream, conf, options)
    return outcome(change(C.dyups_set_peer, upstream, conf, options))
end


-- delete_peer(upstream, peer[, options]) -> true | nil, message
--
-- Takes a peer out. The upstream stays.
--
-- Arguments
--   peer     host and port, or server
--   options  drain = true: the peer gets no new picks from now on. It is deleted about a second after its last
--            connection has ended, unless a caller adds or sets it before. Also `by`
--
-- Returns
--   true
--
-- Errors
--   nil, "not found": the peer does not exist. nil, message: as of all changes.
--
-- Example
--     assert(dyups.delete_peer("api", { host = "10.0.0.1", port = 8080 }, { drain = true }))
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
-- Replaces an upstream as a whole, or makes it. No pick sees a mixture of old and new. A list of more than 1,000 peers
-- is worked off in parts of some milliseconds, where this code can yield, and nginx serves requests in between. Leave
-- the list as it is until then.
--
-- Arguments (conf)
--   peers        a list of peers as in add_peer(); may be empty
--   method       as in find(); without it: chash with a key, rr without
--   healthcheck  options as in healthcheck(), or false for none; without it the check stays as it is set
--   hash_id      the text of a peer that chash hashes: "nginx" (default: the ring of `hash ... consistent`) or
--                "host:port" (the ring of lua-resty-chash)
--
-- Returns
--   true
--
-- Errors
--   nil, message: as of all changes.
--
-- Example
--     assert(dyups.set_upstream("api", { method = "chash", peers = { { host = "10.0.0.1", port = 8080 } } }))
function _M.set_upstream(upstream, conf, options)
    local draft = type(upstream) == "string" and is_long(conf) and drafts.begin()
    if not draft then
        return outcome(change(C.dyups_set_upstream, upstream, conf, options))
    end
    local ok, err = outcome(change_in_pieces(draft, upstream, conf, options))
    drafts.finish(draft)
    return ok, err
end


-- delete_upstream(upstream[, options]) -> true | nil, message
--
-- Deletes an upstream.
--
-- Arguments
--   options  force = true: also when it still has peers, or a route names it. Also `by`
--
-- Returns
--   true
--
-- Errors
--   nil, message: the upstream does not exist, has peers, or is named by a route; as of all changes.
--
-- Example
--     assert(dyups.delete_upstream("api", { force = true }))
function _M.delete_upstream(upstream, options)
    local own, by = split(options)
    return outcome(change(C.dyups_delete_upstream, upstream, own, by))
end


-- healthcheck(upstream, options[, all]) -> true | nil, message
--
-- Sets how the peers of an upstream are checked. An option that is not given stays as it is set. Every worker may make
-- the same call in init_worker_by_lua: the later ones change nothing. A reload of the files keeps these options, unless
-- it overwrites. The options of lua-resty-upstream-healthcheck work as they are, except upstream, which is the first
-- argument here; shm is ignored.
--
-- Arguments (options; false switches the checks off)
--   type             "http" (default), "https" or "tcp" (connects, and sends and expects the given texts)
--   interval         milliseconds from probe to probe of a peer, 10 to 86400000, default 3000
--   interval_down    the same of a peer that is down or changing; default false: as interval
--   timeout          milliseconds for all of a probe, 1 to 86400000, default 2000
--   rise, fall       successes and failures in a row that change a peer's state, 1 to 255, default 2 and 3
--   concurrency      probes at a time, of this upstream and a worker, 1 to 10000, default 10
--   port             1 to 65535; default false: the peer's. A peer's check_port comes first
--   default_down     boolean, default false: a peer that was never probed counts as down
--   panic_threshold  percent, 0 to 100, default 0: when fewer of the primaries that take traffic are usable, but
--                    one at least, all primaries are picked from
--   of http and https:
--   http_req         text of at most 8192 bytes: one request of HTTP/1.0 or HTTP/1.1; default false: a GET is
--                    built from url, host and headers
--   url              path, default "/"; not with http_req. A peer's check_url comes first, with http_req too
--   host             text: the Host of a request that is built, and the name that TLS asks for and verifies; default
--                    false: the peer's address, and no name
--   headers          { ["X-Name"] = "value" } or { "X-Name: value" }, at most 32; not with http_req
--   valid_statuses   list of 1 to 500 statuses, 100 to 599, default { 200, 302 }
--   expect_body      text of at most 8192 bytes that is somewhere in the body; default false: any body
--   of https:
--   ssl_verify       boolean, default true: the certificate has to be trusted, and to have the name, if any
--   ssl_cert, ssl_key  absolute paths, default false: the certificate that probes show, and its key; read now
--   of tcp:
--   send, expect     texts of at most 8192 bytes: the text to send, and the begin of the answer; default false
--
-- Returns
--   true
--
-- Errors
--   nil, message: as of all changes. The check goes on as it was.
--
-- Example
--     assert(dyups.healthcheck("api", { type = "http", http_req = "GET /up HTTP/1.0\r\nHost: api\r\n\r\n", fall = 5 }))
--     assert(dyups.healthcheck("api", { interval = 1000 })) -- the rest stays
--     assert(dyups.healthcheck("api", false))
function _M.healthcheck(upstream, options, all)
    return outcome(change(C.dyups_healthcheck, upstream, options, all))
end


return _M
