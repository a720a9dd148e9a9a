-- Changes wait for their turn without stalling the worker: the library is asked, and while another process is writing,
-- nginx goes on with other requests between two tries.

local library = require "dyups.library"

-- Seconds that a change tries in all, where nginx can do something else meanwhile.
local YIELDING = 2
local FIRST_NAP, LONGEST_NAP = 0.001, 0.05

-- Milliseconds that it may sleep in one piece where nginx cannot: before the event loop runs, and inside it.
local BEFORE_THE_LOOP = 2000
local INSIDE_THE_LOOP = 20

local CAN_YIELD = {
    rewrite = true, access = true, content = true, timer = true, preread = true, server_rewrite = true,
    ssl_cert = true, ssl_session_fetch = true, ssl_client_hello = true,
}

local C = library.C
local BUSY = C and tonumber(require("ffi").cast("int", C.DYUPS_BUSY))


local function phase()
    return ngx and ngx.get_phase() or "init"
end


-- try(call, a, b, c, d) -> the code of call(a, b, c, d, wait_ms)
local function try(call, a, b, c, d)
    local now = phase()
    if not CAN_YIELD[now] then
        local before = now == "init" or now == "init_worker"
        return call(a, b, c, d, before and BEFORE_THE_LOOP or INSIDE_THE_LOOP)
    end
    local code = call(a, b, c, d, 0)
    local nap, waited = FIRST_NAP, 0
    while code == BUSY and waited < YIELDING do
        ngx.sleep(nap)
        waited = waited + nap
        nap = math.min(nap * 2, LONGEST_NAP)
        code = call(a, b, c, d, 0)
    end
    return code
end


return { try = try, BUSY = BUSY }
