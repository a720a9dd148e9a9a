-- Helpers of the Lua in t/*.t: HTTP without a library, code that runs in the other worker, and values as text.

local M = {}


-- The body of an answer that came in chunks.
local function unchunked(text)
    local chunks, at = {}, 1
    while true do
        local size, first = text:match("^(%x+)\r\n()", at)
        local bytes = tonumber(size or "0", 16)
        if bytes == 0 then
            return table.concat(chunks)
        end
        chunks[#chunks + 1] = text:sub(first, first + bytes - 1)
        at = first + bytes + 2
    end
end


-- http(port, text) -> status, body, headers | nil, err. text: a whole request.
function M.http(port, text)
    local sock = ngx.socket.tcp()
    sock:settimeout(3000)
    local ok, err = sock:connect("127.0.0.1", port)
    if not ok then
        return nil, err
    end
    sock:send(text)
    local answer
    answer, err = sock:receive("*a")
    sock:close()
    if not answer then
        return nil, err
    end
    local head, body = answer:match("^(.-\r\n)\r\n(.*)$")
    if not head then
        return nil, "no head in " .. answer
    end
    local headers = {}
    for name, value in head:gmatch("\n([^:\r\n]+): ([^\r\n]*)") do
        headers[name:lower()] = value
    end
    if headers["transfer-encoding"] == "chunked" then
        body = unchunked(body)
    end
    return tonumber(head:match("^HTTP/1.1 (%d+)")), body, headers
end


-- request(port, method, path[, body[, host[, headers]]]) -> as http
function M.request(port, method, path, body, host, headers)
    body = body or ""
    return M.http(port, table.concat {
        method, " ", path, " HTTP/1.1\r\nHost: ", host or "localhost", "\r\nConnection: close\r\n",
        (body ~= "" or method == "POST") and "Content-Length: " .. #body .. "\r\n" or "", headers or "", "\r\n", body,
    })
end


-- get(host[, path]) -> the port of the backend that answered through the proxy, or the status
function M.get(host, path)
    local status, body = M.request(M.port + 6, "GET", path or "/", nil, host)
    if status ~= 200 then
        return tostring(status or body)
    end
    return tostring(tonumber(body) - M.port)
end


-- in_worker(id, code) -> what code, a text, answers in that worker, as T.show has it. It runs once.
function M.in_worker(id, code)
    local headers = "X-Worker: " .. id .. "\r\n"
    for _ = 1, 500 do
        local status, body = M.request(M.any_worker, "POST", "/", code, nil, headers)
        if status == 200 then
            return body
        elseif status ~= 421 then
            return "failed: " .. tostring(status) .. " " .. tostring(body)
        end
    end
    return "worker " .. id .. " never answered"
end


-- in_other_worker(code): as in_worker, in the one of two that this is not.
function M.in_other_worker(code)
    return M.in_worker(1 - ngx.worker.id(), code)
end


-- The other end of in_worker.
function M.any_worker_answers()
    if tostring(ngx.worker.id()) ~= ngx.var.http_x_worker then
        return ngx.exit(421)
    end
    ngx.req.read_body()
    local answer = M.show(assert(loadstring(ngx.req.get_body_data()))())
    ngx.header.content_length = #answer
    ngx.print(answer)
end


local function key_order(a, b)
    return tostring(a) < tostring(b)
end


local function show(value)
    if type(value) == "string" then
        return value
    elseif type(value) ~= "table" then
        return tostring(value)
    end
    local keys, parts = {}, {}
    for key in pairs(value) do
        keys[#keys + 1] = key
    end
    table.sort(keys, key_order)
    for i, key in ipairs(keys) do
        parts[i] = (type(key) == "number" and "" or key .. "=") .. show(value[key])
    end
    return "{" .. table.concat(parts, " ") .. "}"
end


-- show(...) -> all of it as text, in an order that is always the same
function M.show(...)
    local parts = {}
    for i = 1, select("#", ...) do
        parts[i] = show((select(i, ...)))
    end
    return table.concat(parts, " ")
end


-- say(...): show(...) as a line of the answer
function M.say(...)
    ngx.say(M.show(...))
end


-- peers(upstream) -> what status has of its peers, each as "host:port weight status" with what is not a default
-- behind it
function M.peers(upstream)
    local status, err = require("dyups").status(upstream)
    if not status then
        return err
    end
    local defaults = { backup = false, max_conns = 0, max_fails = 1, fail_timeout = 10, slow_start = 0 }
    local lines = {}
    for i, peer in ipairs(status.upstreams[upstream].peers) do
        local words = { peer.host .. (peer.port and ":" .. peer.port or ""), peer.weight, peer.status }
        for _, field in ipairs { "server", "backup", "max_conns", "max_fails", "fail_timeout", "slow_start" } do
            if peer[field] ~= nil and peer[field] ~= defaults[field] then
                words[#words + 1] = field .. "=" .. tostring(peer[field])
            end
        end
        lines[i] = table.concat(words, " ")
    end
    return table.concat(lines, ", ")
end


-- finds(n, ...) -> n answers of find(...), as ports of backends where they are
function M.finds(n, ...)
    local all = {}
    for i = 1, n do
        local peer, err = require("dyups").find(...)
        all[i] = peer or err
    end
    return (table.concat(all, " "):gsub("127%.0%.0%.1:(%d+)", function(port) return tostring(port - M.port) end))
end


-- set(upstream, peers...): the upstream has the backends of these numbers, or of these tables with a number in n
function M.set(upstream, ...)
    local peers = {}
    for i, peer in ipairs { ... } do
        local is_number = type(peer) == "number"
        peers[i] = { host = "127.0.0.1", port = M.port + (is_number and peer or peer.n) }
        for field, value in pairs(is_number and {} or peer) do
            if field ~= "n" then
                peers[i][field] = value
            end
        end
    end
    assert(require("dyups").set_upstream(upstream, { peers = peers }))
end


return M
