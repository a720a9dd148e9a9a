-- find: picks a peer, for any phase of a request.

local ffi = require "ffi"
local handles = require "dyups.handles"
local lead = require "dyups.lead"
local library = require "dyups.library"
local method_numbers = require "dyups.method"

local C, failure, not_a_text = library.C, library.failure, library.not_a_text
local entries, open, forget, keep = handles.entries, handles.open, handles.forget, handles.keep
local methods, number_of = method_numbers.numbers, method_numbers.number_of
local lead_to = lead.to
local istype = ffi.istype
local type = type

local _M = {}

local NOT_FOUND = tonumber(ffi.cast("int", C.DYUPS_NOT_FOUND))

local picked_t = ffi.typeof("dyups_picked")
local tried_t = ffi.typeof("dyups_tried")

-- The library writes it, and find reads it at once: one for all calls of this VM.
local picked = picked_t()


-- find(upstream[, key[, method[, tried]]]) -> "host:port" | nil, message
--
-- Picks a peer; for the balancer, rewrite, access and content phases. It takes no lock and opens no socket. It
-- allocates nothing for a peer that was picked before, since its upstream changed. One exception: once lookups by
-- chash without a ring have cost as much as the ring would, find builds the ring.
--
-- Arguments
--   upstream  text; with routes = true of setup: a host, which its route leads to an upstream, or else an upstream
--   key       text that chash hashes. Where nginx has no variables, as in a timer, it also stands for the value of the
--             variable by which a route chooses between several upstreams
--   method    "rr", "chash", "least_conn", "random", "random two" or "ip_hash" (the key is the client's address);
--             default, and "": the upstream's own, else chash with a key and rr without
--   tried     from tried(): find passes over the peers in it, and adds the one that it picks
--
-- Returns
--   the peer, as set_current_peer of ngx.balancer takes it: "10.0.0.1:8080", "[::1]:8080" or "unix:/path"
--
-- Errors
--   nil, message: the upstream does not exist. It has no live peer, or all of them were tried. An argument is wrong.
--   The table changes too often to be read.
--
-- Example
--     local peer, err = dyups.find("api", ngx.var.remote_addr, "chash")   -- "10.0.0.1:8080"
--     if not peer then
--         ngx.log(ngx.ERR, err)
--         return ngx.exit(-3)         -- NGX_BUSY: 502, no live upstreams
--     end
--     assert(require("ngx.balancer").set_current_peer(peer))
function _M.find(upstream, key, method, tried)
    if lead.first and type(upstream) == "string" then
        local err
        upstream, err = lead_to(upstream, type(key) == "string" and key or nil)
        if not upstream then
            return nil, err
        end
    end
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


-- tried() -> an empty set of tried peers, for one request and its retries
--
-- Returns
--   a set that holds at most 64 peers; find answers an error when it is full
--
-- Errors
--   none
--
-- Example
--     local tried = dyups.tried()
--     local first = dyups.find("api", nil, "rr", tried)
--     local second = dyups.find("api", nil, "rr", tried)     -- another peer, as long as there is one
function _M.tried()
    return tried_t()
end


return _M
