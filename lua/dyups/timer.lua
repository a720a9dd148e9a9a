-- Timers that run once.

local complain = require "dyups.complain"

local ngx = ngx


-- timer(seconds, callback) -> whether nginx has taken the timer. It may still drop it without a word.
return function(seconds, callback)
    local ok, err = ngx.timer.at(seconds, callback)
    if not ok and not ngx.worker.exiting() then
        complain("no timer: " .. tostring(err) .. ": is lua_max_pending_timers too small?")
    end
    return ok and true or false
end
