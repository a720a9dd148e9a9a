-- One probe: a connection to a peer, by nginx's sockets. The library gives the bytes to send, and judges the answer.

local ffi = require "ffi"
local events = require "dyups.events"
local library = require "dyups.library"

local C, ffi_string = library.C, ffi.string
local ngx = ngx
local pcall = pcall

-- Where a probe ended, as dyups_probe_end has it.
local DONE, CONNECT, HANDSHAKE, SEND, RECEIVE, NOT_MADE = 0, 1, 2, 3, 4, 5

local RECEIVE_AT_ONCE = 4096
-- No code keeps connections under this name. Other Lua code may keep some to the same address, and those would say
-- nothing about the peer.
local A_NEW_CONNECTION = { pool = "dyups: none" }

local has_base, base = pcall(require, "resty.core.base")
local has_ssl, ssl = pcall(require, "ngx.ssl")

-- The library writes it, and a probe reads it before it waits: one for all probes of this VM.
local order = ffi.new("dyups_probe")


local function text(of)
    return ffi_string(of.data, of.len)
end


-- shake_hands(socket, name, verify) -> nil, or the error
--
-- Where a handshake fails at once because of a bad certificate, resty.core returns no session and no error. Most
-- versions throw then (openresty/lua-resty-core#499), and the reason is in their buffer.
local function shake_hands(socket, name, verify)
    local ok, session, err = pcall(socket.sslhandshake, socket, nil, name, verify)
    if ok then
        return err
    elseif has_base and tostring(session):find("assertion failed", 1, true) then
        return ffi_string(base.get_errmsg_ptr()[0])
    end
    return tostring(session)
end


-- Parsed certificates and keys, by the numbers that the library gives their texts.
local MOST_PARSED = 256
local certs, keys, parsed = {}, {}, 0

local function parse(into, id, pem, parser)
    local found = into[id]
    if not found then
        local err
        found, err = parser(pem)
        if not found then
            return nil, err
        end
        if parsed >= MOST_PARSED then
            certs, keys, parsed = {}, {}, 0
        else
            into[id] = found
            parsed = parsed + 1
        end
    end
    return found
end


-- identity(socket) -> the certificate to show, its key | nil, message
local function identity(socket)
    if not (has_ssl and socket.setclientcert) then
        return nil, "ssl_cert: this ngx_lua has no setclientcert"
    end
    local cert, err = parse(certs, order.cert_id, text(order.cert), ssl.parse_pem_cert)
    if not cert then
        return nil, "ssl_cert: " .. tostring(err)
    end
    local key
    key, err = parse(keys, order.key_id, text(order.key), ssl.parse_pem_priv_key)
    if not key then
        return nil, "ssl_key: " .. tostring(err)
    end
    return cert, key
end


-- speak(socket, id) -> the stage in which the probe ended, the error
--
-- Connects to the peer that the order names, and moves bytes until the library wants no more of the answer.
local function speak(socket, id)
    -- Read all of the order first: while this waits, another probe overwrites it.
    local left, host, port, request = order.timeout, text(order.host), order.port, text(order.request)
    local tls, answers = order.tls, order.answers ~= 0
    local name = tls ~= 0 and order.name.len > 0 and text(order.name) or nil
    local ok, err, cert, key
    if order.cert_id ~= 0 then
        cert, key = identity(socket)
        if not cert then
            return NOT_MADE, key
        end
    end
    -- A timeout of 0 would be nginx's default.
    if left > 0 then
        socket:settimeout(left)
        if port == 0 then
            ok, err = socket:connect(host, A_NEW_CONNECTION)
        else
            ok, err = socket:connect(host, port, A_NEW_CONNECTION)
        end
        if not ok then
            return CONNECT, err
        end
        left = C.dyups_probe_left(id)
        if left == 0 then
            return CONNECT, "timeout"
        end
    end
    if left > 0 and tls ~= 0 then
        socket:settimeout(left)
        if cert then
            ok, err = socket:setclientcert(cert, key)
            if not ok then
                return HANDSHAKE, err
            end
        end
        err = shake_hands(socket, name, tls == 2)
        if err then
            return HANDSHAKE, err
        end
        left = C.dyups_probe_left(id)
        if left == 0 then
            return HANDSHAKE, "timeout"
        end
    end
    if left > 0 and #request > 0 then
        socket:settimeout(left)
        ok, err = socket:send(request)
        if not ok then
            return SEND, err
        end
        left = C.dyups_probe_left(id)
    end
    while left > 0 and answers do
        socket:settimeout(left)
        local data
        data, err = socket:receiveany(RECEIVE_AT_ONCE)
        if not data then
            return RECEIVE, err
        end
        left = C.dyups_probe_feed(id, data, #data)
    end
    return DONE
end


local function talk(id)
    local socket = ngx.socket.tcp()
    local stage, err = speak(socket, id)
    socket:close()
    return stage, err
end


-- make_next() -> true: a probe was made | false: none is due | nil, message
return function()
    local code = C.dyups_probe_next(order)
    if code < 0 then
        return nil, ffi_string(C.dyups_error())
    elseif code == 0 then
        return false
    end
    local id = order.id
    local ok, stage, err = pcall(talk, id)
    if not ok then
        stage, err = CONNECT, tostring(stage)
    end
    err = err or ""
    if C.dyups_probe_end(id, stage, err, #err) < 0 then
        return nil, ffi_string(C.dyups_error())
    end
    events.tell()
    return true
end
