-- The request path: find, and balance for balancer_by_lua. Picking, counting and judging are the library's; here are
-- handles and texts that are kept from one request to the next, and the calls into ngx.balancer.

local ffi = require "ffi"
local encode = require "dyups.encode"
local library = require "dyups.library"
local log = require("dyups.log").log

local C, failure, not_a_text = library.C, library.failure, library.not_a_text
local ffi_string = ffi.string
local istype = ffi.istype
local type = type

local _M = {}

local NOT_FOUND = tonumber(ffi.cast("int", C.DYUPS_NOT_FOUND))

local new_tab = require "table.new"
local picked_t = ffi.typeof("dyups_picked")
local tried_t = ffi.typeof("dyups_tried")

-- Written by the library and read at once: one for all calls of this VM.
local picked = picked_t()


-- A handle and the texts of its peers by index, for upstreams that were found. Names that are not there are not kept:
-- they come from clients. `names` has those of all entries, each at its entry's `at`.
local MOST_ENTRIES = 16384
-- Places for texts of all entries; a text takes about 60 bytes more.
local MOST_PLACES = 1048576
local entries, names = {}, {}
local count, places = 0, 0
local methods = {}


-- The texts of an upstream that has changed are of no use; nobody has to have them until its next pick.
local function drop_texts(entry)
    if entry.texts then
        places = places - entry.peers
        entry.peers, entry.texts = -1, false
    end
end


local function forget(upstream)
    local entry, last = entries[upstream], names[count]
    drop_texts(entry)
    names[entry.at], entries[last].at = last, entry.at
    names[count], entries[upstream] = nil, nil
    count = count - 1
    C.dyups_close(ffi.gc(entry.handle, nil))
end


local function forget_all()
    while count > 0 do
        forget(names[count])
    end
end


local function open(upstream)
    local handle = C.dyups_open(upstream, #upstream)
    if handle == nil then
        return failure()
    end
    if count >= MOST_ENTRIES then
        forget_all()
    end
    local entry = { handle = ffi.gc(handle, C.dyups_close), peers = -1, texts = false, at = count + 1 }
    count = count + 1
    entries[upstream], names[count] = entry, upstream
    return entry
end


-- look_after(): to be called once a second. Drops entries of upstreams that were deleted, and texts of those that have
-- changed. A call looks at LOOKS_AT_ONCE upstreams, at 0.1 µs each while they are as they were.
local LOOKS_AT_ONCE = 1024
local looked_at = 0

function _M.look_after()
    for _ = 1, math.min(LOOKS_AT_ONCE, count) do
        -- Downwards: what moves into a gap was looked at.
        looked_at = (looked_at > 1 and looked_at <= count + 1 and looked_at or count + 1) - 1
        local upstream = names[looked_at]
        local code = C.dyups_look(entries[upstream].handle)
        if code == NOT_FOUND then
            forget(upstream)
        elseif code == 1 then
            drop_texts(entries[upstream])
        end
    end
end


local function number_of(method)
    if type(method) ~= "string" then
        return not_a_text("method", method)
    end
    local number = C.dyups_method(method, #method)
    if number < 0 then
        return failure()
    end
    methods[method] = number
    return number
end


-- The text of a peer that was not picked since its upstream changed.
local function keep(entry, index, from)
    if entry.peers ~= from.peers then
        drop_texts(entry)
        if places + from.peers > MOST_PLACES then
            -- All begin anew. This one too: its next pick opens it again.
            forget_all()
            return ffi_string(from.text, from.len)
        end
        places = places + from.peers
        entry.peers = from.peers
        entry.texts = new_tab(from.peers, 0)
    end
    local server = ffi_string(from.text, from.len)
    entry.texts[index] = server
    return server
end


-- find(upstream[, key[, method[, tried]]]) -> "host:port" | nil, message
--
-- Picks a peer; for balancer, rewrite, access and content phases. No lock, no socket, and once a peer was picked since
-- its upstream changed, no allocation. One exception: lookups by chash without a ring, once they have cost as much as
-- the ring would, have it built.
--
--   upstream  text
--   key       text that chash hashes
--   method    "rr", "chash", "least_conn", "random", "random two" or "ip_hash" (the key is the client's address);
--             default, and "": the upstream's own, else chash with a key and rr without
--   tried     from tried(): peers in it are passed over, the picked one is added
--
--     local peer, err = dyups.find("api", ngx.var.remote_addr, "chash")   -- "10.0.0.1:8080"
--     if not peer then
--         ngx.log(ngx.ERR, err)
--         return ngx.exit(-3)         -- NGX_BUSY: 502, no live upstreams
--     end
--     assert(require("ngx.balancer").set_current_peer(peer))
function _M.find(upstream, key, method, tried)
    local entry = entries[upstream]
    if not entry then
        if type(upstream) ~= "string" then
            return not_a_text("upstream", upstream)
        end
        local err
        entry, err = open(upstream)
        if not entry then
            return nil, err
        end
    end
    local number = 0
    if method ~= nil then
        number = methods[method]
        if not number then
            local err
            number, err = number_of(method)
            if not number then
                return nil, err
            end
        end
    end
    local key_len = 0
    if key ~= nil then
        if type(key) ~= "string" then
            return not_a_text("key", key)
        end
        key_len = #key
    end
    if tried ~= nil and not istype(tried_t, tried) then
        return nil, "tried: a " .. type(tried) .. ": allowed: what dyups.tried() returned"
    end

    local index = C.dyups_find_cached(entry.handle, key, key_len, number, tried, picked)
    if index >= 0 then
        if picked.fresh == 0 then
            return entry.texts[index]
        end
        return keep(entry, index, picked)
    end
    local _, err = failure()
    if index == NOT_FOUND then
        forget(upstream)
    end
    return nil, err
end


-- tried() -> an empty set of tried peers, for one request and its retries; at most 64 of them.
--
--     local tried = dyups.tried()
--     local first = dyups.find("api", nil, "rr", tried)
--     local second = dyups.find("api", nil, "rr", tried)     -- another peer, as long as there is one
function _M.tried()
    return tried_t()
end


---- balance -----------------------------------------------------------------------------------------------------------

-- What this ngx_lua has. ngx.balancer is there in nginx alone; in stream {} too, but its requests are other things.
local has_balancer, balancer = pcall(require, "ngx.balancer")
has_balancer = has_balancer and ngx.config.subsystem == "http"
local has_base, base = pcall(require, "resty.core.base")
local get_request = has_base and base.get_request
local set_current_peer = has_balancer and balancer.set_current_peer
local set_more_tries = has_balancer and balancer.set_more_tries
local set_timeouts = has_balancer and balancer.set_timeouts
local get_last_failure = has_balancer and balancer.get_last_failure
local enable_keepalive = has_balancer and balancer.enable_keepalive

local given_t = ffi.typeof("dyups_given")
local options_t = ffi.typeof("dyups_options")
local given = given_t()

-- What options a call goes by, by the table that it gave: one that is written down in nginx.conf is read once.
local known_options = setmetatable({}, { __mode = "k" })
local defaults


local function read_options(opts)
    local options = options_t()
    local json = encode(opts)
    if C.dyups_balance_options(json, #json, options) < 0 then
        return failure()
    end
    local function seconds(milliseconds)
        return milliseconds ~= 0 and milliseconds / 1000 or nil
    end
    local known = {
        struct = options,
        timeouts = options.connect_timeout + options.send_timeout + options.read_timeout ~= 0,
        connect_timeout = seconds(options.connect_timeout),
        send_timeout = seconds(options.send_timeout),
        read_timeout = seconds(options.read_timeout),
        keepalive = options.keepalive == 1 and enable_keepalive and true or false,
        keepalive_timeout = options.keepalive_timeout / 1000,
        keepalive_requests = options.keepalive_requests,
        host = opts.host,
    }
    known_options[opts] = known
    return known
end


local NGX_BUSY = -3

-- Ends the request with 502, and never goes to the placeholder; nil, message where there is no balancer to say it to.
local function busy(level, err)
    if not ngx or ngx.get_phase() ~= "balancer" then
        return nil, err
    end
    log(level, err)
    return ngx.exit(NGX_BUSY)
end


-- nginx says "no live upstreams" in its log.
local function nobody(err)
    return busy("INFO", err)
end


-- The same where the budget of retries is spent, and it is time to say so.
local function warned(err)
    return busy("WARN", err)
end


local function misused(err)
    return busy("ERR", "balance: " .. err)
end


-- nginx keeps connections by their address, and by default does so since this version.
local KEEPS_BY_DEFAULT = 1029007
local said_that_it_may_mix = false

-- Answers why a request for a name must not go out from this block, if it must not. A connection that nginx itself
-- keeps may have been verified for another name. Where ngx_lua has no enable_keepalive, it takes no name either.
local function mixes_names(request)
    if not enable_keepalive then
        return nil
    end
    local kept = C.dyups_keeps_by_address(request)
    local by_default = ngx.config.nginx_version >= KEEPS_BY_DEFAULT
    if kept > 0 then
        return "host: nginx keeps connections of this upstream {} by address alone, so a request would go out over "
            .. "one that was verified for another name: "
            .. (by_default and "write `keepalive 0;` into the block" or "take the line `keepalive` out of the block")
            .. ", and keepalive = true beside host"
    elseif kept < 0 and by_default and not said_that_it_may_mix then
        said_that_it_may_mix = true
        log("WARN", "balance: host: where the upstream {} has no line `keepalive 0;`, a request may go out over a ",
            "connection that was verified for another name: write that line into the block")
    end
    return nil
end


-- balance(upstream[, key[, method[, opts]]]) -> true | nil, message (in another phase)
--
-- For balancer_by_lua: gives the request a peer, and another one when that fails. The connection is counted, in all
-- workers, from here until the request is over or tries another peer; a failure counts towards the peer's max_fails.
-- Where there is no peer, the request ends with 502 and nginx's line "no live upstreams"; why, is in the log at level
-- info. Bad arguments end it the same way, with their message at level error; but for a name that
-- no upstream can have, which clients may send.
--
--   upstream, key, method   as in find(); for ip_hash (also the upstream's own) the client's address if none is given
--   opts                    a table, best made once, outside of the request:
--     tries                 most tries of a request, 0 to 64; default 0: as many as there are peers.
--                           proxy_next_upstream says what is tried again, and proxy_next_upstream_tries how often
--     retry_percent         retries for a hundred requests of the last ten seconds, of all workers; default 20; false:
--                           any number. A retry after a try that reached no peer is free
--     retry_floor           retries in ten seconds that are always allowed; default 10
--     connect_timeout, send_timeout, read_timeout     milliseconds, of each try; default: those of nginx.conf
--     keepalive             boolean: connections are kept, where ngx_lua has enable_keepalive;
--     keepalive_timeout     milliseconds unused, default 60000;  keepalive_requests  default 1000
--     host                  the name for TLS, where ngx_lua takes one. An error where nginx itself keeps connections,
--                           which it does by address alone: `keepalive 0;` in the block, from nginx 1.29.7 on
--
--     upstream api { server 127.0.0.1:1; balancer_by_lua_block { require("dyups").balance("api") } }
function _M.balance(upstream, key, method, opts)
    local entry = entries[upstream]
    if not entry then
        local _, err
        if type(upstream) ~= "string" then
            _, err = not_a_text("upstream", upstream)
            return misused(err)
        end
        entry, err = open(upstream)
        if not entry then
            return nobody(err)
        end
    end
    local number, err = 0, nil
    if method ~= nil then
        number = methods[method]
        if not number then
            number, err = number_of(method)
        end
    end
    if key ~= nil and type(key) ~= "string" then
        number, err = not_a_text("key", key)
    end
    local options = opts == nil and defaults or known_options[opts]
    if not options and not err then
        if opts == nil then
            opts = {}
        end
        if type(opts) ~= "table" then
            err = "opts: a " .. type(opts) .. ": allowed: a table"
        else
            options, err = read_options(opts)
            if options and not defaults and next(opts) == nil then
                defaults = options
            end
        end
    end
    if err then
        return misused(err)
    end

    local request = get_request and get_request()
    if not request or not has_balancer then
        return nil, "balance: called where there is no request: allowed: balancer_by_lua of http {}"
    end
    local failed, status, why = get_last_failure()
    if why then
        return nil, "balance: " .. why .. ": allowed: balancer_by_lua"
    end
    if options.host then
        err = mixes_names(request)
        if err then
            return misused(err)
        end
    end
    local last = 0
    if failed then
        last = failed == "next" and 2 or 1
    end
    local key_len = key and #key or 0
    local index = C.dyups_balance(entry.handle, request, key, key_len, number, last, status or 0, options.struct,
        given)
    if index < 0 then
        why = ffi_string(C.dyups_error())
        if index == NOT_FOUND then
            forget(upstream)
        end
        if given.warn ~= 0 then
            return warned(why)
        end
        return nobody(why)
    end
    if given.warn ~= 0 then
        log("WARN", ffi_string(C.dyups_error()))
    end
    local server
    if given.picked.fresh == 0 then
        server = entry.texts[index]
    else
        server = keep(entry, index, given.picked)
    end
    local ok
    ok, err = set_current_peer(server, nil, options.host)
    if ok and given.again ~= 0 then
        ok, err = set_more_tries(1)
    end
    if ok and options.timeouts then
        ok, err = set_timeouts(options.connect_timeout, options.send_timeout, options.read_timeout)
    end
    if ok and options.keepalive then
        ok, err = enable_keepalive(options.keepalive_timeout, options.keepalive_requests)
    end
    if not ok then
        return misused("upstream " .. upstream .. ": peer " .. server .. ": " .. tostring(err))
    end
    return true
end


-- Nothing of this is there in stream {}: without an end to the session, that would go to the placeholder.
if ngx and ngx.config.subsystem == "stream" then
    function _M.balance()
        return misused("called in stream {}: allowed: balancer_by_lua of http {}; here: set_current_peer(find(...))")
    end
end


-- log() -> true
--
-- Deprecated: it does nothing, and log_by_lua needs no line for dyups. What balance() has to learn of a request it
-- learns when nginx ends it. It is there for configurations that call it.
function _M.log()
    return true
end


return _M
