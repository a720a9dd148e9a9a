-- status: the table of upstreams, for operators.

local decode = require "dyups.decode"
local library = require "dyups.library"

local C, not_a_text = library.C, library.not_a_text

local _M = {}


-- status([upstream]) -> table | nil, message
--
-- Arguments
--   upstream  text; default: all upstreams
--
-- Returns
--   a table in the shape of the upstreams file: loading it back gives the same upstreams. Read-only fields beside it:
--     version
--     region        path, size, used and free in bytes, ...
--     workers       slot, pid, since
--     deleted       a list of deleted peers that have connections open: upstream, server, conns
--   In an upstream: generation, and origin ("file" or "runtime").
--   In a peer: conns, fails, out, and state ("up", "down", "drain", "unhealthy", "checking" or "unavail"); since and
--   cause once its state has changed; probes and streak where it is checked
--
-- Errors
--   nil, message: the upstream does not exist; cjson is not in lua_package_cpath.
--
-- Example
--     dyups.status().upstreams.api.peers[1].weight
--     dyups.status("api").upstreams.api.method
function _M.status(upstream)
    if upstream ~= nil and type(upstream) ~= "string" then
        return not_a_text("upstream", upstream)
    end
    return decode("status", function(text)
        return C.dyups_status(upstream, upstream and #upstream or 0, text)
    end)
end


return _M
