-- status: the table of upstreams, for operators.

local decode = require "dyups.decode"
local encode = require("dyups.encode").encode
local library = require "dyups.library"

local C, not_a_text = library.C, library.not_a_text

local _M = {}


-- status([upstream][, options]) -> table | nil, message
--
-- Arguments
--   upstream  text; default: all upstreams
--   options   table:
--     stats     boolean: each upstream and each peer has the totals of its tries, as in report(). Default: false
--
-- Returns
--   a table in the shape of the upstreams file: loading it back gives the same upstreams. Read-only fields beside it:
--     version
--     region        path, size, used and free in bytes, ...
--     workers       slot, pid, since
--     deleted       a list of deleted peers that have connections open: upstream, server, conns
--     changed       whether the table has changed while this was read. Each upstream is whole in any case. A long
--                   answer is read in slices, between which nginx serves other requests, where this code may wait
--   In an upstream: generation, origin ("file" or "runtime"), and stats.
--   In a peer: conns, fails, out, and state ("up", "down", "drain", "unhealthy", "checking" or "unavail"); since and
--   cause once its state has changed; probes and streak where it is checked; throttle in its slow start; stats
--
-- Errors
--   nil, message: the upstream does not exist; an option is wrong; stats are asked for, and statistics are off; cjson
--   is not in lua_package_cpath.
--
-- Example
--     dyups.status().upstreams.api.peers[1].weight
--     dyups.status("api").upstreams.api.method
--     dyups.status({ stats = true }).upstreams.api.stats.requests
function _M.status(upstream, options)
    if type(upstream) == "table" and options == nil then
        upstream, options = nil, upstream
    end
    if upstream ~= nil and type(upstream) ~= "string" then
        return not_a_text("upstream", upstream)
    end
    return decode("status", function(slice, peers)
        local json = encode(options)
        return C.dyups_status_slices(upstream, upstream and #upstream or 0, json, #json, peers, slice)
    end)
end


return _M
