-- balance: gives a request its peer, for balancer_by_lua. The library picks, counts and judges; this calls
-- ngx.balancer.

local ffi = require "ffi"
local handles = require "dyups.handles"
local lead = require "dyups.lead"
local library = require "dyups.library"
local log = require("dyups.log").log
local method_numbers = require "dyups.method"
local mixes_names = require "dyups.keepalive"
local ngx_balancer = require "dyups.ngx_balancer"
local options_of = require "dyups.options"

local C, not_a_text = library.C, library.not_a_text
local entries, open, forget, keep = handles.entries, handles.open, handles.forget, handles.keep
local methods, number_of = method_numbers.numbers, method_numbers.number_of
local is_here = ngx_balancer.is_here
local get_request = ngx_balancer.get_request
local get_last_failure = ngx_balancer.get_last_failure
local set_current_peer = ngx_balancer.set_current_peer
local set_more_tries = ngx_balancer.set_more_tries
local set_timeouts = ngx_balancer.set_timeouts
local enable_keepalive = ngx_balancer.enable_keepalive
local lead_to = lead.to
local ffi_string = ffi.string
local type = type

local _M = {}

local NOT_FOUND = tonumber(ffi.cast("int", C.DYUPS_NOT_FOUND))
local NGX_BUSY = -3

-- The library writes it, and balance reads it at once: one for all calls of this VM.
local given = ffi.new("dyups_given")


-- Ends the request with 502, so that it never goes to the placeholder. Outside of the balancer: nil, message.
local function busy(level, err)
    if not ngx or ngx.get_phase() ~= "balancer" then
        return nil, err
    end
    log(level, err)
    return ngx.exit(NGX_BUSY)
end


-- No peer can be picked; nginx says "no live upstreams" in its log.
local function no_peer(err)
    return busy("INFO", err)
end


-- The same, and the log has to say that the budget of retries is spent.
local function over_budget(err)
    return busy("WARN", err)
end


local function misused(err)
    return busy("ERR", "balance: " .. err)
end


-- balance(upstream[, key[, method[, opts]]]) -> true | nil, message (in another phase)
--
-- Gives the request a peer, and another one when that fails. The connection is counted, in all workers, from here until
-- the request is over or tries another peer. A failure counts towards the peer's max_fails.
--
-- Arguments
--   upstream, key, method   as in find(); for ip_hash (also the upstream's own) the default key is the client's address
--   opts                    a table, best made once, outside of the request:
--     tries                 most tries of a request, 0 to 64; default 0: as many as there are peers.
--                           proxy_next_upstream lists the failures after which there is another try, and
--                           proxy_next_upstream_tries limits the tries
--     retry_percent         retries for a hundred requests of the last ten seconds, of all workers; default 20; false:
--                           any number. A retry after a try that reached no peer is free
--     retry_floor           retries in ten seconds that are always allowed; default 10
--     connect_timeout, send_timeout, read_timeout     milliseconds, of each try; default: those of nginx.conf
--     keepalive             boolean: connections are kept, where ngx_lua has enable_keepalive;
--     keepalive_timeout     milliseconds unused, default 60000;  keepalive_requests  default 1000
--     host                  the name for TLS, where ngx_lua takes one. An error where nginx itself keeps connections,
--                           which it does by address alone: `keepalive 0;` in the block, from nginx 1.29.7 on
--
-- Returns
--   true
--
-- Errors
--   In balancer_by_lua the request ends with 502. Where there is no peer, nginx logs "no live upstreams", and
--   dyups the reason at level info. A wrong argument or option is in the log at level error. A name that no upstream
--   can have is not, since clients may send it. In another phase: nil, message.
--
-- Example
--     upstream api { server 127.0.0.1:1; balancer_by_lua_block { require("dyups").balance("api") } }
function _M.balance(upstream, key, method, opts)
    if lead.first and type(upstream) == "string" then
        local lost
        upstream, lost = lead_to(upstream)
        if not upstream then
            return no_peer(lost)
        end
    end
    local entry = entries[upstream]
    if not entry then
        local _, err
        if type(upstream) ~= "string" then
            _, err = not_a_text("upstream", upstream)
            return misused(err)
        end
        entry, err = open(upstream)
        if not entry then
            return no_peer(err)
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
    local options
    if not err then
        options, err = options_of(opts)
    end
    if err then
        return misused(err)
    end

    local request = get_request and get_request()
    if not request or not is_here then
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
            return over_budget(why)
        end
        return no_peer(why)
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


-- In stream {} nothing of this is there. Without an end, the session would go to the placeholder.
if ngx and ngx.config.subsystem == "stream" then
    function _M.balance()
        return misused("called in stream {}: allowed: balancer_by_lua of http {}; here: set_current_peer(find(...))")
    end
end


-- log() -> true
--
-- Deprecated: it does nothing, and log_by_lua needs no line for dyups. nginx tells the library when a request ends.
-- The function stays for configurations that call it.
--
-- Returns
--   true, always
--
-- Errors
--   none
--
-- Example
--     log_by_lua_block { require("dyups").log() }
function _M.log()
    return true
end


return _M
