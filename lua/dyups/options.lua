-- The options of balance, read once for each table that a configuration passes.

local ffi = require "ffi"
local encode = require("dyups.encode").encode
local library = require "dyups.library"
local enable_keepalive = require("dyups.ngx_balancer").enable_keepalive

local C, failure = library.C, library.failure
local type = type

local options_t = ffi.typeof("dyups_options")

-- Options that were read, by the table that was passed, and those of a call without any.
local known = setmetatable({}, { __mode = "k" })
local defaults


-- 0: as nginx.conf says.
local function seconds(milliseconds)
    return milliseconds ~= 0 and milliseconds / 1000 or nil
end


local function read(opts)
    local struct = options_t()
    local json = encode(opts)
    if C.dyups_balance_options(json, #json, struct) < 0 then
        return failure()
    end
    local options = {
        struct = struct,
        timeouts = struct.connect_timeout + struct.send_timeout + struct.read_timeout ~= 0,
        connect_timeout = seconds(struct.connect_timeout),
        send_timeout = seconds(struct.send_timeout),
        read_timeout = seconds(struct.read_timeout),
        keepalive = struct.keepalive == 1 and enable_keepalive and true or false,
        keepalive_timeout = struct.keepalive_timeout / 1000,
        keepalive_requests = struct.keepalive_requests,
        host = opts.host,
    }
    known[opts] = options
    return options
end


-- options_of(opts) -> options | nil, message
return function(opts)
    local options = opts == nil and defaults or known[opts]
    if options then
        return options
    end
    if opts == nil then
        opts = {}
    end
    if type(opts) ~= "table" then
        return nil, "opts: a " .. type(opts) .. ": allowed: a table"
    end
    local err
    options, err = read(opts)
    if options and not defaults and next(opts) == nil then
        defaults = options
    end
    return options, err
end
