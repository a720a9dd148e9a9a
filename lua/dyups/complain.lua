-- Errors that come again and again: each is logged once a minute.

local log = require("dyups.log").log

local ngx = ngx

local SECONDS_BETWEEN_COMPLAINTS = 60
-- Any text may come, so only so many are remembered.
local MOST_TEXTS = 64
local said_at, count = {}, 0


-- complain(text): logs the error, unless it was logged within the last minute.
return function(text)
    local now = ngx.now()
    if not said_at[text] or math.abs(now - said_at[text]) >= SECONDS_BETWEEN_COMPLAINTS then
        if not said_at[text] then
            count = count + 1
        end
        if count > MOST_TEXTS then
            said_at, count = {}, 1
        end
        said_at[text] = now
        log("ERR", "probes: " .. text)
    end
end
