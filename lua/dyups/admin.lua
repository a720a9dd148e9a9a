-- The HTTP interface of ngx_http_dyups_module, and /status. The library understands the request; this moves its bytes.

local ffi = require "ffi"
local encode = require "dyups.encode"
local library = require "dyups.library"
local logging = require "dyups.log"
local patience = require "dyups.patience"

local C = library.C
local BUSY = patience.BUSY
local log, log_changes = logging.log, logging.log_changes
local reply = C and ffi.new("dyups_reply")
local request_t = C and ffi.typeof("dyups_request")

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
    log("ERR", message)
    ngx.status = 500
    ngx.header["X-Dyups-Error"] = message
    ngx.header.content_type = "text/plain"
    return ngx.print("")
end


-- Has the library answer a request. texts: what it consists of, by the names that dyups_request has. options: as those
-- of all changes.
local function ask(texts, is_unix, options)
    local request, by = request_t(), encode(options)
    for name, text in next, texts do
        request[name].data, request[name].len = text, #text
    end
    request.is_unix = is_unix and 1 or 0
    local function call(a, _, _, _, wait)
        local code = C.dyups_by(by, #by)
        return code < 0 and code or C.dyups_serve(a, wait, reply)
    end
    local code = patience.try(call, request)
    -- Until now the request points into them.
    texts.done = ""
    log_changes()
    return code
end


-- serve([prefix]) answers the request; for content_by_lua. prefix: what stands before /list, /detail, /upstream/NAME
-- and /status in the location's path, such as "/dyups".
--
-- A request whose Host is neither an address nor localhost is refused with 403, unless admin.hosts of setup have its
-- name, and so is a change that a page of another site sends.
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
    local var, method = ngx.var, ngx.req.get_method()
    local texts = {
        method = method, path = path, body = body, query = var.args, host = var.http_host, origin = var.http_origin,
        site = var.http_sec_fetch_site, client = var.remote_addr,
    }
    local code = ask(texts, (var.server_addr or ""):sub(1, 5) == "unix:")
    -- Busy to the end is an answer too.
    if code < 0 and code ~= BUSY then
        return fail(ffi.string(C.dyups_error()))
    end
    local message = string_of(reply.error)
    if message ~= "" then
        -- To ask whether an upstream is there is nothing that anybody has to look after.
        local asked = reply.status == 404 and (method == "GET" or method == "HEAD")
        log(asked and "INFO" or "WARN", method, " ", path, ": ", message)
        ngx.header["X-Dyups-Error"] = message
    end
    ngx.status = reply.status
    ngx.header.content_type = string_of(reply.content_type)
    if reply.status ~= 204 then
        ngx.header.content_length = tonumber(reply.body.len)
    end
    return ngx.print(string_of(reply.body))
end


-- change(method, upstream, text[, options]) -> status, text, message: the interface without HTTP. message: that of
-- X-Dyups-Error, empty when all is well.
function _M.change(method, upstream, text, options)
    if not C then
        return 500, "", library.why
    end
    local _, wrong
    if type(upstream) ~= "string" then
        _, wrong = library.not_a_text("upstream", upstream)
    elseif type(text) ~= "string" then
        _, wrong = library.not_a_text("text", text)
    end
    if wrong then
        return 500, "", wrong
    end
    local code = ask({ method = method, upstream = upstream, body = text }, false, options)
    if code < 0 and code ~= BUSY then
        return 500, "", ffi.string(C.dyups_error())
    end
    return tonumber(reply.status), string_of(reply.body), string_of(reply.error)
end


return _M
