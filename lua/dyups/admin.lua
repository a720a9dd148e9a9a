-- The HTTP interface of ngx_http_dyups_module, and /status. The library understands the request; this moves its bytes.

local ffi = require "ffi"
local library = require "dyups.library"
local patience = require "dyups.patience"

local C = library.C
local BUSY = patience.BUSY
local reply = C and ffi.new("dyups_reply")

local _M = {}


local function string_of(text)
    return ffi.string(text.data, text.len)
end


-- A body that did not fit into memory lies in a file.
local function read_body()
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    if body then
        return body
    end
    local path = ngx.req.get_body_file()
    if not path then
        return ""
    end
    local file, err = io.open(path, "rb")
    if not file then
        return nil, err
    end
    body = file:read("*a")
    file:close()
    return body
end


local function fail(message)
    ngx.log(ngx.ERR, "dyups: ", message)
    ngx.status = 500
    ngx.header["X-Dyups-Error"] = message
    ngx.header.content_type = "text/plain"
    return ngx.print("")
end


-- serve([prefix]) answers the request; for content_by_lua. prefix: what stands before /list, /detail, /upstream/NAME
-- and /status in the location's path, such as "/dyups".
--
--     location / {
--         allow 127.0.0.1;
--         deny all;
--         content_by_lua_block { require("dyups.admin").serve() }
--     }
function _M.serve(prefix)
    if not C then
        return fail(library.why)
    end
    if prefix ~= nil and type(prefix) ~= "string" then
        return fail("prefix: a " .. type(prefix) .. ": allowed: a string")
    end
    local path = ngx.var.uri
    if prefix and path:sub(1, #prefix) == prefix then
        path = path:sub(#prefix + 1)
    end
    local body, err = read_body()
    if not body then
        return fail("cannot read the request's body: " .. tostring(err))
    end
    local method = ngx.req.get_method()
    local function call(a, b, c, d, wait)
        return C.dyups_admin(a, b, c, d, body, #body, wait, reply)
    end
    local code = patience.try(call, method, #method, path, #path)
    -- Busy to the end is an answer too.
    if code < 0 and code ~= BUSY then
        return fail(ffi.string(C.dyups_error()))
    end
    local message = string_of(reply.error)
    if message ~= "" then
        ngx.log(ngx.WARN, "dyups: ", method, " ", path, ": ", message)
        ngx.header["X-Dyups-Error"] = message
    end
    ngx.status = reply.status
    ngx.header.content_type = string_of(reply.content_type)
    if reply.status ~= 204 then
        ngx.header.content_length = tonumber(reply.body.len)
    end
    return ngx.print(string_of(reply.body))
end


return _M
