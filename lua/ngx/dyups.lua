-- The Lua interface of ngx_http_dyups_module, for code that requires it: update and delete, each answering a status of
-- HTTP and a text, as POST and DELETE of the HTTP interface do.
--
--     local dyups = require "ngx.dyups"
--     local status, text, message = dyups.update("api", [[server 10.0.0.1:8080; server 10.0.0.2:8080 backup;]])
--     if status ~= 200 then return ngx.say(status, " ", text, ": ", message) end
--
-- Beside what the module answers there is a message: what the header X-Dyups-Error has, empty when all is well.

local admin = require "dyups.admin"

local _M = {}


-- update(name, text[, { by = "..." }]) -> status, text, message
--
-- Replaces the upstream, or makes it. text: the inside of nginx's upstream block. 200, "success"; where it is not right
-- 500, "add server failed", and the table is as it was. A text that is empty is 204 and changes nothing.
function _M.update(name, text, options)
    return admin.change("POST", name, text, options)
end


-- delete(name[, { by = "..." }]) -> status, text, message
--
-- Deletes the upstream with all its peers. 200, "success"; 404, "not found uptream".
function _M.delete(name, options)
    return admin.change("DELETE", name, "", options)
end


return _M
