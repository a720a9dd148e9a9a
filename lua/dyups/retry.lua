-- Tries a change again while another process is writing. Between two tries nginx serves other requests.

local ffi = require "ffi"
local library = require "dyups.library"
local phase = require "dyups.phase"

-- Seconds in which a change is tried again, where this code can yield to nginx.
local YIELDING = 2
local FIRST_NAP, LONGEST_NAP = 0.001, 0.05

-- Milliseconds that the library may sleep in one piece where this code cannot yield: before the event loop runs, and
-- inside it.
local BEFORE_THE_LOOP = 2000
local INSIDE_THE_LOOP = 20

local C = library.C
local BUSY = C and tonumber(ffi.cast("int", C.DYUPS_BUSY))


-- retry(call, a, b, c, d) -> the code of call(a, b, c, d, wait_ms)
local function retry(call, a, b, c, d)
    if not phase.can_yield() then
        local now = phase.name()
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
