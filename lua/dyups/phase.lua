-- The phase that this code runs in, and whether it may wait there.

local ffi = require "ffi"

local CAN_YIELD = {
    rewrite = true, access = true, content = true, timer = true, preread = true, server_rewrite = true,
    ssl_cert = true, ssl_session_fetch = true, ssl_client_hello = true,
}

local _M = {}


-- name() -> nginx's name of the phase; "init" where there is no nginx | false: this code is in no phase
local function name()
    local ok, now = pcall(function() return ngx and ngx.get_phase() or "init" end)
    return ok and now
end

_M.name = name


-- LuaJIT exports lua_isyieldable to C, and not all builds have coroutine.isyieldable. A thread is a lua_State in
-- memory.
local asks_by_ffi = pcall(ffi.cdef, "int lua_isyieldable(void *L);")
    and pcall(function() return ffi.C.lua_isyieldable end)

-- Whether a yield reaches nginx from here. It cannot cross C code: string.gsub, table.sort and require call functions
-- from C. To try instead of asking does harm: ngx.sleep sets its timer before it throws. That timer would wake this
-- coroutine while it waits for something else.
local function is_yieldable()
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


-- can_yield() -> whether ngx.sleep works here, so that nginx serves other requests meanwhile
function _M.can_yield()
    return CAN_YIELD[name()] == true and is_yieldable()
end


-- pause() -> whether it waited: nginx serves other requests meanwhile
--
-- Not ngx.sleep(0): an nginx that is not OpenResty's logs a warning each time.
function _M.pause()
    -- No function of dyups throws, even where ngx.sleep does.
    return (pcall(ngx.sleep, 0.001))
end


-- Seconds from the begin of a slice of a long answer or write to that of the next one in this worker. A slice takes
-- about half of that, so requests get the other half, however many long answers are under way.
local BETWEEN_SLICES = 0.004

-- When the next slice may begin.
local free_at = 0

-- next_slice() -> whether it waited for its turn: a slice of about 2 ms may follow
function _M.next_slice()
    repeat
        if not _M.pause() then
            return false
        end
    until ngx.now() >= free_at
    free_at = ngx.now() + BETWEEN_SLICES
    return true
end


return _M
