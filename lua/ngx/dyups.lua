-- The Lua interface of ngx_http_dyups_module, for code that requires it: update and delete. Each answers a status of
-- HTTP and a text, as POST and DELETE of the HTTP interface do.
--
--     local dyups = require "ngx.dyups"
--     local status, text, message = dyups.update("api", [[server 10.0.0.1:8080; server 10.0.0.2:8080 backup;]])
--     if status ~= 200 then return ngx.say(status, " ", text, ": ", message) end
--
-- The third value is the message that X-Dyups-Error has, empty when all is well. The module does not have it.

local admin = require "dyups.admin"

local _M = {}


-- update(name, text[, { by = "..." }]) -> status, text, message
--
-- Replaces the upstream, or makes it.
--
-- Arguments
--   name   text
--   text   the inside of nginx's upstream block
--   by     text of 1 to 255 bytes: the caller's name, for the line of the log
--
-- Returns
--   200, "success". An empty text: 204, and nothing changes.
--
-- Errors
--   500, "add server failed", message: the text is wrong, and nothing changes. 409: another process is writing.
--
-- Example
--     local status, text = dyups.update("api", "server 10.0.0.1:8080;")
function _M.update(name, text, options)
    return admin.change("POST", name, text, options)
end


-- delete(name[, { by = "..." }]) -> status, text, message
--
-- Deletes the upstream with all its peers.
--
-- Arguments
--   name, by   as in update
--
-- Returns
--   200, "success"
--
-- Errors
--   404, "not found uptream": it does not exist. 409: another process is writing.
--
-- Example
--     local status, text = dyups.delete("api")
function _M.delete(name, options)
    return admin.change("DELETE", name, "", options)
end


return _M
