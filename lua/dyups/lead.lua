-- Leads hosts to upstreams by their routes, for find and balance.

local ffi = require "ffi"
local library = require "dyups.library"

local C, failure = library.C, library.failure
local ffi_string = ffi.string
local has_base, base = pcall(require, "resty.core.base")
local subsystem = ngx and ngx.config.subsystem

-- The phases in which nginx's variables can be read, of a request and of a session. In others, such as a timer, a
-- request only looks like one.
local HAS_VARIABLES = {
    http = {
        set = true, rewrite = true, server_rewrite = true, access = true, content = true, balancer = true,
        header_filter = true, body_filter = true, log = true,
    },
    stream = { preread = true, content = true, balancer = true, log = true },
}
local has_variables = HAS_VARIABLES[subsystem] or {}

local _M = {
    -- Whether find and balance look for a route first: setup says so.
    first = false,
}

-- The library writes it, and it is read at once: one for all calls of this VM.
local routed = ffi.new("dyups_routed")


-- Whether the phase has nginx's variables.
local function is_readable()
    return ngx and has_variables[ngx.get_phase()]
end


-- The library itself reads variables of this.
local function request()
    if subsystem == "http" and has_base and is_readable() then
        return base.get_request()
    end
end


-- The value of the route's variable, where the library cannot read it: in a session of stream {}. Elsewhere the caller
-- gives it.
local function value(host, given)
    if C.dyups_route_variable(host, #host, routed) ~= 1 then
        return nil
    elseif is_readable() then
        return ngx.var[ffi_string(routed.text, routed.len)]
    end
    return given
end


-- by_key(host[, key]) -> upstream | false: there is no route | nil, message
--
-- The key decides between the upstreams of any route. Without one, the route's variable decides, if there is a request.
function _M.by_key(host, key)
    local code = C.dyups_route(host, #host, key, key and #key or 0, request(), routed)
    if code < 0 then
        return failure()
    end
    -- No garbage for an upstream that is known: LuaJIT has one string for equal ones.
    return code == 1 and ffi_string(routed.text, routed.len)
end


-- by_variable(host[, given]) -> as by_key
--
-- The route's variable decides. Where nginx has no variables, as in a timer, `given` stands for its value.
function _M.by_variable(host, given)
    if request() then
        return _M.by_key(host)
    end
    return _M.by_key(host, value(host, given))
end


-- to(host[, key]) -> upstream | nil, message: where its route leads; without one, the upstream of this name.
function _M.to(host, key)
    local upstream, err = _M.by_variable(host, key)
    if upstream == false then
        return host
    end
    return upstream, err
end


return _M
