-- Changes by texts that are so long that nginx serves requests meanwhile. The text goes to the library in pieces, and
-- the library reads it a part at a time. The change itself is one call.

local ffi = require "ffi"
local library = require "dyups.library"
local phase = require "dyups.phase"
local retry = require("dyups.retry").retry

local C = library.C
local can_yield, next_slice = phase.can_yield, phase.next_slice

-- Of a text that is at hand as a whole, so many bytes are copied at a time.
local PIECE = 1048576

-- The code of a call that is to be made again.
local MORE = 1

local draft_t = ffi.typeof("struct { uint32_t id; }")
local char_p = ffi.typeof("const char *")

local _M = {}


local function finish(draft)
    C.dyups_draft_end(draft.id)
end


-- begin() -> a draft | nil: this code cannot yield to nginx, or too many drafts are under way
--
-- A draft whose coroutine was ended goes with it.
function _M.begin()
    local id = can_yield() and C.dyups_draft() or 0
    return id > 0 and ffi.gc(draft_t(id), finish) or nil
end


-- add(draft, piece): adds a piece to the text, and lets nginx serve requests. Of a draft that has given way, the call
-- that works it off says so.
function _M.add(draft, piece)
    local from = ffi.cast(char_p, piece)
    for at = 0, #piece - 1, PIECE do
        if C.dyups_draft_add(draft.id, from + at, math.min(PIECE, #piece - at)) < 0 then
            return
        end
        next_slice()
    end
end


-- work(call, a, b, c, d) -> the code of call(a, b, c, d, wait_ms), which is made until it asks for no other
--
-- Between two calls nginx serves requests.
function _M.work(call, a, b, c, d)
    local code = retry(call, a, b, c, d)
    while code == MORE do
        next_slice()
        code = retry(call, a, b, c, d)
    end
    return code
end


-- finish(draft): ends a draft, done or not.
function _M.finish(draft)
    finish(ffi.gc(draft, nil))
end


return _M
