-- The only file that decodes a JSON text of the library, for operators. It needs nginx's cjson.

local ffi = require "ffi"
local library = require "dyups.library"

local failure = library.failure
local has_cjson, cjson = pcall(require, "cjson.safe")

-- The library writes it, and decode reads it at once: one for all calls of this VM.
local text = ffi.new("dyups_text")


-- decode(name, call) -> table | nil, message
--
-- Arguments
--   name  text: the function that the message names
--   call  a function of a dyups_text, which it has the library fill: it answers the library's code
--
-- Errors
--   nil, message: that of the library; cjson is not in lua_package_cpath.
--
-- Example
--     decode("routes", C.dyups_routes)
return function(name, call)
    if not has_cjson then
        return nil, "dyups: " .. name .. " needs cjson, which is not in lua_package_cpath"
    end
    if call(text) < 0 then
        return failure()
    end
    return cjson.decode(ffi.string(text.data, text.len))
end
