-- Whether a request for a name may go out from its upstream {} block.
--
-- nginx keeps connections by their address alone. A request for one name may then go out over a connection that was
-- verified for another.

local library = require "dyups.library"
local log = require("dyups.log").log
local enable_keepalive = require("dyups.ngx_balancer").enable_keepalive

local C = library.C

-- From this version on nginx keeps connections by default.
local KEEPS_BY_DEFAULT = 1029007
local is_doubt_said = false


-- mixes_names(request) -> why the request must not go out, or nil when it may
return function(request)
    -- Such an ngx_lua takes no name either.
    if not enable_keepalive then
        return nil
    end
    local kept = C.dyups_keeps_by_address(request)
    local by_default = ngx.config.nginx_version >= KEEPS_BY_DEFAULT
    if kept > 0 then
        return "host: nginx keeps connections of this upstream {} by address alone, so a request would go out over "
            .. "one that was verified for another name: "
            .. (by_default and "write `keepalive 0;` into the block" or "take the line `keepalive` out of the block")
            .. ", and keepalive = true beside host"
    elseif kept < 0 and not is_doubt_said then
        is_doubt_said = true
        log("WARN", "balance: host: where the upstream {} has ",
            by_default and "no line `keepalive 0;`" or "a line `keepalive`",
            ", a request may go out over a connection that was verified for another name: ",
            by_default and "write that line into the block" or "take that line out of the block")
    end
    return nil
end
