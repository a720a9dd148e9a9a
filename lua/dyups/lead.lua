-- Leads hosts to upstreams by their routes, for find and balance.

local ffi = require "ffi"
local library = require "dyups.library"

local C, failure = library.C, library.failure
local ffi_string = ffi.string
local has_base, base = pcall(require, "resty.core.base")
local is_http = ngx and ngx.config.subsystem == "http" and has_base

-- The phases in which a request has nginx's variables. In others, such as a timer, it only looks like one.
local HAS_VARIABLES = {
    set = true, rewrite = true, server_rewrite = true, access = true, content = true, balancer = true,
    header_filter = true, body_filter = true, log = true,
}

local _M = {
    -- Whether find and balance look for a route first: setup says so.
    first = false,
}

-- The library writes it, and it is read at once: one for all calls of this VM.
local routed = ffi.new("dyups_routed")


-- The library itself reads the variable that decides between upstreams.
local function request()
    if is_http and HAS_VARIABLES[ngx.get_phase()] then
        return base.get_request()
    end
end


-- by_route(host[, key]) -> upstream | false: there is no route | nil, message
function _M.by_route(host, key)
    local code = C.dyups_route(host, #host, key, key and #key or 0, request(), routed)
    if code < 0 then
        return failure()
    end
    -- No garbage for an upstream that is known: LuaJIT has one string for equal ones.
    return code == 1 and ffi_string(routed.text, routed.len)
end


-- to(host) -> upstream | nil, message: where its route leads; without one, the upstream of this name.
function _M.to(host)
    local upstream, err = _M.by_route(host)
    if upstream == false then
        return host
    end
    return upstream, err
end


return _M
