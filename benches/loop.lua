-- A loop around one call. Each is compiled from its own text, so that each has a trace of its own.

-- loop(body, subject[, keys]) -> function(calls): `body` is Lua that may use subject, keys and i
return function(body, subject, keys)
    return assert(loadstring(([[
        local subject, keys = ...
        local band = require("bit").band
        return function(calls)
            for i = 1, calls do
                %s
            end
        end
    ]]):format(body)))(subject, keys)
end
