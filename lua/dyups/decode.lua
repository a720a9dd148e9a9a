-- The only file that decodes JSON of the library, for operators. It needs nginx's cjson.
--
-- A long answer comes in slices, between which nginx serves other requests.

local ffi = require "ffi"
local library = require "dyups.library"
local phase = require "dyups.phase"

local C, failure = library.C, library.failure
local has_cjson, cjson = pcall(require, "cjson.safe")
local slice_t = ffi.typeof("dyups_slice")

-- Peers a slice. To decode them takes longer than the library takes to write them.
local PEERS = 100


-- Objects are merged by their keys, and lists are put one behind the other.
local function merge(into, from)
    local count = #from
    if count > 0 then
        local last = #into
        for i = 1, count do
            into[last + i] = from[i]
        end
        return into
    end
    for key, value in next, from do
        if type(value) == "table" and type(into[key]) == "table" then
            merge(into[key], value)
        else
            into[key] = value
        end
    end
    return into
end


-- decode(name, call) -> table | nil, message
--
-- Arguments
--   name  text: the function that the message names
--   call  a function of a dyups_slice and a number of peers, which has the library fill the slice: it answers the
--         library's code
--
-- Errors
--   nil, message: that of the library; cjson is not in lua_package_cpath.
--
-- Example
--     decode("routes", function(slice, peers) return C.dyups_routes(peers, slice) end)
return function(name, call)
    if not has_cjson then
        return nil, "dyups: " .. name .. " needs cjson, which is not in lua_package_cpath"
    end
    local slice = ffi.gc(slice_t(), C.dyups_give_up)
    local peers = phase.can_yield() and PEERS or 0
    local code, whole = call(slice, peers), nil
    while code >= 0 do
        local part, err = cjson.decode(ffi.string(slice.text.data, slice.text.len))
        if not part then
            return nil, err
        end
        whole = whole and merge(whole, part) or part
        if slice.rest == 0 then
            return whole
        end
        if not phase.next_slice() then
            peers = 0
        end
        code = C.dyups_next(slice, peers)
    end
    return failure()
end
