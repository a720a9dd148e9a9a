-- setup: maps the shared memory and loads upstreams from files.

local ffi = require "ffi"
local encode = require("dyups.encode").encode
local library = require "dyups.library"
local logging = require "dyups.log"
local lead = require "dyups.lead"

local C, outcome = library.C, library.outcome
local log, log_changes = logging.log, logging.log_changes

local _M = {}


-- setup([conf]) -> true | nil, message
--
-- Maps the shared memory, or makes it if it is not there, and loads upstreams from files. Call it in init_by_lua: all
-- workers inherit the mapping. A reload calls it again: upstreams that did not change at run time then follow their
-- files. It writes messages for the operator to the error log, as warnings.
--
-- Arguments (conf; all fields are optional)
--   shm_path     text: the region is the file shm_path.vN, N for its layout, beside shm_path.lock; default: in
--                /dev/shm, named after nginx's prefix
--   shm_size     number (bytes) or text ("64m"), 256 KiB to 4 GiB; default 128 MiB, of which only used memory is taken
--   statistics   boolean, default true: tries are counted, for report
--   stats_size   number (bytes) or text ("64m"), 64 KiB to 16 GiB: the size of their file; default 64 MiB
--   files        text, or a list of texts, relative to the prefix: JSON, or nginx's `upstream name { server ...; }`
--   overwrite    boolean, default false: the files win over changes at run time
--   routes       boolean, default false: find() and balance() look for a route first, see set_route()
--   admin        table; hosts: a list of names by which clients may call the HTTP interface, beside addresses and
--                localhost
--   healthcheck  options as in healthcheck(), for upstreams whose file and callers set none; default false: no check
--
-- Returns
--   true
--
-- Errors
--   nil, message: a wrong field, its value and the allowed values; a file that cannot be read or parsed; a region that
--   cannot be made or mapped. Where the region gets full, the upstreams before the one in the message are loaded.
--
-- Example
--     assert(dyups.setup{ shm_size = "64m", files = { "conf/upstreams.json", "conf/legacy.conf" } })
function _M.setup(conf)
    local sent = conf
    if conf == nil or type(conf) == "table" then
        sent = { prefix = ngx and ngx.config.prefix(), nginx_version = ngx and ngx.config.nginx_version }
        for key, value in next, conf or {} do
            sent[key] = value
        end
    end
    local json = encode(sent)
    local ok, err = outcome(C.dyups_setup(json, #json))
    log_changes()
    -- Also after an error: the table that is there serves on.
    lead.first = type(conf) == "table" and rawget(conf, "routes") == true
    for note in ffi.string(C.dyups_notes()):gmatch("[^\n]+") do
        log("WARN", note)
    end
    if not ok then
        return nil, err
    end
    return true
end


return _M
