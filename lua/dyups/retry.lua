-- Tries a change again while another process is writing. Between two tries nginx serves other requests.

local ffi = require "ffi"
local library = require "dyups.library"

-- Seconds in which a change is tried again, where this code can yield to nginx.
local YIELDING = 2
local FIRST_NAP, LONGEST_NAP = 0.001, 0.05

-- Milliseconds that the library may sleep in one piece where this code cannot yield: before the event loop runs, and
-- inside it.
local BEFORE_THE_LOOP = 2000
local INSIDE_THE_LOOP = 20

local CAN_YIELD = {
    rewrite = true, access = true, content = true, timer = true, preread = true, server_rewrite = true,
    ssl_cert = true, ssl_session_fetch = true, ssl_client_hello = true,
}

local C = library.C
local BUSY = C and tonumber(ffi.cast("int", C.DYUPS_BUSY))


local function phase()
    local ok, now = pcall(function() return ngx and ngx.get_phase() or "init" end)
    return ok and now
end


-- LuaJIT exports lua_isyieldable to C, and not all builds have coroutine.isyieldable. A thread is a lua_State in
-- memory.
local asks_by_ffi = pcall(ffi.cdef, "int lua_isyieldable(void *L);")
    and pcall(function() return ffi.C.lua_isyieldable end)

-- Whether a yield reaches nginx from here. It cannot cross C code: string.gsub, table.sort and require call functions
-- from C. To try instead of asking does harm: ngx.sleep sets its timer before it throws. That timer would wake this
-- coroutine while it waits for something else.
local function can_yield()
    local thread = coroutine.running()
    if not thread then
        return false
    elseif coroutine.isyieldable then
        return coroutine.isyieldable()
    elseif asks_by_ffi then
        return ffi.C.lua_isyieldable(ffi.cast("void *", tonumber(("%p"):format(thread)))) ~= 0
    end
    return false
end


-- retry(call, a, b, c, d) -> the code of call(a, b, c, d, wait_ms)
local function retry(call, a, b, c, d)
    local now = phase()
    if not CAN_YIELD[now] or not can_yield() then
        local before = now == "init" or now == "init_worker"
        return call(a, b, c, d, before and BEFORE_THE_LOOP or INSIDE_THE_LOOP)
    end
    local code = call(a, b, c, d, 0)
    local nap, waited = FIRST_NAP, 0
    while code == BUSY and waited < YIELDING do
        -- No function of dyups throws, even where ngx.sleep does.
        if not pcall(ngx.sleep, nap) then
            return call(a, b, c, d, INSIDE_THE_LOOP)
        end
        waited = waited + nap
        nap = math.min(nap * 2, LONGEST_NAP)
        code = call(a, b, c, d, 0)
    end
    return code
end


return { retry = retry, BUSY = BUSY }
