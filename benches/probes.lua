-- The cost of a connection without dyups, beside which a probe is measured.

local native = require "native"

local ngx = ngx
local tcp = ngx.socket.tcp

-- As many as are due in a worker at a time.
local AT_ONCE, PAUSE = 8, 0.01

local _M = {}


local function speak(host, port)
    local socket = tcp()
    socket:settimeout(2000)
    assert(socket:connect(host, port))
    assert(socket:send("GET / HTTP/1.1\r\nHost: " .. host .. "\r\nConnection: close\r\n\r\n"))
    local answer = assert(socket:receiveany(4096))
    assert(answer:find("^HTTP/1.1 200 "))
    socket:close()
end


-- bare(count, port): as many connections, requests and answers, by nothing but nginx's sockets -> ns of CPU for one
function _M.bare(count, port)
    local from = native.cpu()
    for first = 1, count, AT_ONCE do
        local threads = {}
        for i = 1, AT_ONCE do
            local n = first + i
            threads[i] = ngx.thread.spawn(speak, "127.1." .. n / 250 % 20 - n / 250 % 1 .. "." .. n % 250 + 1, port)
        end
        for _, thread in ipairs(threads) do
            assert(ngx.thread.wait(thread))
        end
        ngx.sleep(PAUSE)
    end
    return (native.cpu() - from) / count
end


return _M
