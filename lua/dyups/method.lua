-- The numbers by which the library knows methods.

local library = require "dyups.library"

local C, failure, not_a_text = library.C, library.failure, library.not_a_text
local type = type

-- Those that were asked for before, by name.
local numbers = {}


-- number_of(method) -> its number | nil, message. Look into numbers first.
local function number_of(method)
    if type(method) ~= "string" then
        return not_a_text("method", method)
    end
    local number = C.dyups_method(method, #method)
    if number < 0 then
        return failure()
    end
    numbers[method] = number
    return number
end


return { numbers = numbers, number_of = number_of }
