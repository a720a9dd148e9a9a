-- Routes: hosts that lead to upstreams. Changes of them, and where a host leads.

local changes = require "dyups.changes"
local decode = require "dyups.decode"
local lead = require "dyups.lead"
local library = require "dyups.library"

local C, not_a_text, outcome = library.C, library.not_a_text, library.outcome
local type = type

local _M = {}


-- set_route(host, targets[, options]) -> true | nil, message
--
-- Makes the route of a host, or replaces it as a whole. find() and balance() follow routes where setup says
-- routes = true; route() always does.
--
-- Arguments
--   host     text, in any case: "www.example.com" or "[::1]", with a port (":8080") or without; "*.example.com" for
--            all hosts below it; "default" for those that have no other route. The narrowest one counts; of equal
--            hosts, the one with the port
--   targets  the name of an upstream, or a list of up to 64 pairs of a name and a weight, 0 to 65535:
--            { { "blue", 90 }, { "green", 10 } }
--   options  key = "$cookie_user": one variable of nginx. Requests with equal values go to the same upstream; without
--            it, or where it has no value, they take turns. Also `by`, as of all changes
--
-- Returns
--   true
--
-- Errors
--   nil, message: an upstream does not exist; as of all changes.
--
-- Example
--     assert(dyups.set_route("www.example.com", "api"))
--     assert(dyups.set_route("*.example.com", { { "blue", 90 }, { "green", 10 } }, { key = "$cookie_user" }))
function _M.set_route(host, targets, options)
    if type(host) ~= "string" then
        return not_a_text("host", host)
    elseif options ~= nil and type(options) ~= "table" then
        return nil, "options: a " .. type(options) .. ": allowed: a table"
    end
    local own, by = changes.split(options)
    own = own or {}
    own.targets = targets
    return outcome(changes.change(C.dyups_set_route, host, own, by))
end


-- delete_route(host[, options]) -> true | nil, message
--
-- Deletes the route of exactly this host.
--
-- Arguments
--   host     as in set_route()
--   options  `by`, as of all changes
--
-- Returns
--   true
--
-- Errors
--   nil, message: there is no such route; as of all changes.
--
-- Example
--     assert(dyups.delete_route("www.example.com"))
function _M.delete_route(host, options)
    if type(host) ~= "string" then
        return not_a_text("host", host)
    end
    local own, by = changes.split(options)
    return outcome(changes.change(C.dyups_delete_route, host, own, by))
end


-- route(host[, key]) -> upstream | nil, message
--
-- Where a host leads, with routes = true of setup and without.
--
-- Arguments
--   host  text, such as ngx.var.http_host
--   key   text that decides between several upstreams. Default: in a request of http {} and in a session of stream {},
--         the value of the route's own variable; else they take turns
--
-- Returns
--   the name of an upstream that is there
--
-- Errors
--   nil, "not found": there is no route for this host. nil, message: the upstreams of the route are not there any more;
--   the table changes too often to be read.
--
-- Example
--     local upstream = dyups.route(ngx.var.http_host, ngx.var.cookie_user)
function _M.route(host, key)
    if type(host) ~= "string" then
        return not_a_text("host", host)
    elseif key ~= nil and type(key) ~= "string" then
        return not_a_text("key", key)
    end
    local upstream, err
    if key then
        upstream, err = lead.by_key(host, key)
    else
        upstream, err = lead.by_variable(host)
    end
    if upstream == false then
        return nil, "not found"
    end
    return upstream, err
end


-- routes() -> table | nil, message
--
-- Returns
--   a table by host: { targets = { { upstream, weight }, ... }, key = "$cookie_user", origin = "file" or "runtime" }
--
-- Errors
--   nil, message: cjson is not in lua_package_cpath; the table changes too often to be read.
--
-- Example
--     dyups.routes()["www.example.com"].targets[1][1]     -- "api"
function _M.routes()
    return decode("routes", function(slice, peers)
        return C.dyups_routes(peers, slice)
    end)
end


return _M
