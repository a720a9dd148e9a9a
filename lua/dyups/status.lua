-- status: the table of upstreams, for operators.

local ffi = require "ffi"
local library = require "dyups.library"

local C, failure, not_a_text = library.C, library.failure, library.not_a_text
local has_cjson, cjson = pcall(require, "cjson.safe")

local _M = {}

-- The library writes it, and status reads it at once: one for all calls of this VM.
local text = ffi.new("dyups_text")


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
    if not has_cjson then
        return nil, "dyups: status needs cjson, which is not in lua_package_cpath"
    end
    if C.dyups_status(upstream, upstream and #upstream or 0, text) < 0 then
        return failure()
    end
    return cjson.decode(ffi.string(text.data, text.len))
end


return _M
