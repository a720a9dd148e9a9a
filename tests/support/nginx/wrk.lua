-- The requests of wrk: each carries the time of its begin.

local now = require "clock"

local LONGEST_PAUSE = 3


-- Milliseconds between two requests of a connection: the machine is to have time for more than this.
function delay()
    return math.random(0, LONGEST_PAUSE)
end


-- Every other one has a key, which makes it a pick by chash.
function request()
    local key = math.random(0, 199)
    return wrk.format("GET", key < 100 and "/?key=" .. key or "/", { Host = wrk.headers.Host, ["X-Begun"] = now() })
end
