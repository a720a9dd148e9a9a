-- The HTTP interface of ngx_http_dyups_module, and /status. The library answers the request; this moves its bytes.

local ffi = require "ffi"
local drafts = require "dyups.draft"
local encode = require("dyups.encode").encode
local library = require "dyups.library"
local logging = require "dyups.log"
local phase = require "dyups.phase"

local C = library.C
local BUSY = require("dyups.retry").BUSY
local log, log_changes = logging.log, logging.log_changes
local reply = C and ffi.new("dyups_reply")
local request_t = C and ffi.typeof("dyups_request")
local slice_t = C and ffi.typeof("dyups_slice")

-- Peers a slice of a long answer. The time that a slice takes bounds it before.
local PEERS = 4000

local _M = {}


local function string_of(text)
    return ffi.string(text.data, text.len)
end


-- A longer body is read in parts, while nginx serves requests.
local SHORT = 65536

-- Of a file, so many bytes are read at a time.
local PIECE = 262144


-- read_file(path) -> the content, or a draft that has it | nil, message
local function read_file(path)
    local file, err = io.open(path, "rb")
    if not file then
        return nil, err
    end
    local size = file:seek("end")
    file:seek("set")
    local draft = size and size > SHORT and drafts.begin()
    local piece
    repeat
        piece, err = file:read(draft and PIECE or "*a")
        if draft and piece then
            drafts.add(draft, piece)
        end
    until not draft or not piece
    file:close()
    if err then
        if draft then
            drafts.finish(draft)
        end
        return nil, err
    end
    return draft or piece
end


-- read_body() -> the body, or a draft that has it | nil, message. nginx keeps a large body in a file.
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
    return read_file(path)
end


-- drafted(body) -> a draft that has the body | nil: it is short, or is worked off in one piece
local function drafted(body)
    if type(body) ~= "string" then
        return body
    end
    local draft = #body > SHORT and drafts.begin() or nil
    if draft then
        drafts.add(draft, body)
    end
    return draft
end


local function fail(message)
    log("ERR", message)
    ngx.status = 500
    ngx.header["X-Dyups-Error"] = message
    ngx.header.content_type = "text/plain"
    return ngx.print("")
end


-- ask(texts, is_unix, peers, options) -> the code of the library, whose answer is in reply
--
-- texts: the parts of the request, by the names of dyups_request's fields; the body may be a draft. peers: the length
-- of a slice of a long answer; 0: the answer is whole. options: those of all changes.
local function ask(texts, is_unix, peers, options)
    local request, by, draft = request_t(), encode(options), drafted(texts.body)
    if draft then
        request.draft, texts.body = draft.id, nil
    end
    for name, text in next, texts do
        request[name].data, request[name].len = text, #text
    end
    request.is_unix = is_unix and 1 or 0
    request.peers = peers
    local function call(a, _, _, _, wait)
        local code = C.dyups_by(by, #by)
        return code < 0 and code or C.dyups_serve(a, wait, reply)
    end
    local code = drafts.work(call, request)
    -- The request points into the texts: this keeps them alive until now.
    texts.done = ""
    log_changes()
    if draft then
        drafts.finish(draft)
    end
    return code
end


-- Sends a long answer as it is written, and lets nginx serve other requests between the slices.
local function send(text, rest)
    local slice = ffi.gc(slice_t(), C.dyups_give_up)
    slice.rest = rest
    while true do
        local sent, err = ngx.print(text)
        if sent then
            sent, err = ngx.flush(true)
        end
        -- nginx buffers the whole answer to a client of HTTP/1.0.
        if not sent and err ~= "buffering" then
            return C.dyups_give_up(slice)
        elseif slice.rest == 0 then
            return
        end
        phase.next_slice()
        if C.dyups_next(slice, PEERS) < 0 then
            -- The status is sent: that the answer breaks off tells the client.
            log("ERR", "an answer breaks off: ", ffi.string(C.dyups_error()))
            return ngx.exit(ngx.ERROR)
        end
        text = string_of(slice.text)
    end
end


-- serve([prefix])
--
-- Answers the request; for content_by_lua.
--
-- Arguments
--   prefix  text: the begin of the location's path, before /list, /detail, /upstream/NAME and /status; such as "/dyups"
--
-- Returns
--   nothing: the client gets the answer
--
-- Errors
--   The client gets them, and X-Dyups-Error has the message. 403: the Host is neither an address, nor localhost, nor in
--   admin.hosts of setup; or a page of another site sends a change. 409: another process is writing. 500: the rest.
--
-- Example
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
        method = method, path = path, body = body, query = var.args, accept = var.http_accept,
        host = var.http_host, origin = var.http_origin, site = var.http_sec_fetch_site, client = var.remote_addr,
    }
    local code = ask(texts, (var.server_addr or ""):sub(1, 5) == "unix:", phase.can_yield() and PEERS or 0)
    -- For a writer that stays busy, the library has an answer too.
    if code < 0 and code ~= BUSY then
        return fail(ffi.string(C.dyups_error()))
    end
    local message = string_of(reply.error)
    if message ~= "" then
        -- A GET of an upstream that does not exist needs no attention.
        local asked = reply.status == 404 and (method == "GET" or method == "HEAD")
        log(asked and "INFO" or "WARN", method, " ", path, ": ", message)
        ngx.header["X-Dyups-Error"] = message
    end
    ngx.status = reply.status
    ngx.header.content_type = string_of(reply.content_type)
    local rest = reply.rest
    if rest ~= 0 and method ~= "HEAD" then
        return send(string_of(reply.body), rest)
    elseif rest ~= 0 then
        C.dyups_give_up(slice_t(reply.body, rest))
        return
    elseif reply.status ~= 204 then
        ngx.header.content_length = tonumber(reply.body.len)
    end
    return ngx.print(string_of(reply.body))
end


-- change(method, upstream, text[, options]) -> status, text, message
--
-- The interface without HTTP. message: that of X-Dyups-Error, empty when all is well.
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
    local code = ask({ method = method, upstream = upstream, body = text }, false, 0, options)
    if code < 0 and code ~= BUSY then
        return 500, "", ffi.string(C.dyups_error())
    end
    return tonumber(reply.status), string_of(reply.body), string_of(reply.error)
end


return _M
