-- dyups: upstreams that change while nginx runs. Configurations require this module.
--
--     init_by_lua_block        { assert(require("dyups").setup{ files = "upstreams.json" }) }
--     init_worker_by_lua_block { assert(require("dyups").start()) }
--     balancer_by_lua_block {
--         local peer, err = require("dyups").find(ngx.var.host)
--         ...
--     }
--
-- Every function returns its value (or true), or nil and a message with the field, its value and the allowed values.
-- None throws. Once a change returns true, every pick that begins afterwards sees it, in every worker.
--
-- This file lists the functions. The comment above a function in its own file has its arguments, its errors and an
-- example. All of these files are loaded here: a worker that lives on after a reload loads none of a newer release.

local library = require "dyups.library"

local _M = { _VERSION = library.version }

if not library.C then
    -- Without the library every function says so. Otherwise require would throw in the middle of a configuration.
    local function missing() return nil, library.why end
    for _, name in ipairs {
        "setup", "start", "find", "tried", "balance", "log", "add_peer", "set_peer", "delete_peer", "set_upstream",
        "delete_upstream", "healthcheck", "set_route", "delete_route", "route", "routes", "status", "report", "on",
    } do
        _M[name] = missing
    end
    return _M
end

local balance = require "dyups.balance"
local changes = require "dyups.changes"
local find = require "dyups.find"
local routes = require "dyups.routes"

-- Once: init_by_lua, then init_worker_by_lua.
_M.setup = require("dyups.setup").setup
_M.start = require("dyups.start").start

-- For each request.
_M.find = find.find
_M.tried = find.tried
_M.balance = balance.balance
_M.log = balance.log
_M.route = routes.route

-- Changes.
_M.add_peer = changes.add_peer
_M.set_peer = changes.set_peer
_M.delete_peer = changes.delete_peer
_M.set_upstream = changes.set_upstream
_M.delete_upstream = changes.delete_upstream
_M.healthcheck = changes.healthcheck
_M.set_route = routes.set_route
_M.delete_route = routes.delete_route

-- For operators.
_M.on = require("dyups.events").on
_M.status = require("dyups.status").status
_M.report = require("dyups.report").report
_M.routes = routes.routes

return _M
