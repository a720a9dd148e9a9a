-- Changes of large upstreams, in ns of CPU of the worker that makes them.

local dyups = require "dyups"
local native = require "native"

local _M = {}

local ONE_MORE = { host = "127.9.9.9", port = 8080 }


-- add(upstream): one peer more, in memory that was used before.
function _M.add(upstream)
    dyups.delete_peer(upstream, ONE_MORE)
    return _M.add_first(upstream)
end


-- add_first(upstream): one peer more, wherever that finds room.
function _M.add_first(upstream)
    local from = native.cpu()
    assert(dyups.add_peer(upstream, ONE_MORE))
    return native.cpu() - from
end


-- seed(conf): setup with files that say something new.
function _M.seed(conf)
    local from = native.cpu()
    assert(dyups.setup(conf))
    return native.cpu() - from
end


return _M
