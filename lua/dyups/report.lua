-- report: the numbers of an upstream's tries and of its peers, for operators.

local decode = require "dyups.decode"
local encode = require("dyups.encode").encode
local library = require "dyups.library"

local C, not_a_text = library.C, library.not_a_text

local _M = {}


-- split(options) -> the options without `since`, and the mark of that report
--
-- A mark may have megabytes, so it goes to the library as it is.
local function split(options)
    local since = type(options) == "table" and rawget(options, "since")
    local mark = type(since) == "table" and rawget(since, "mark") or since
    if type(mark) ~= "string" then
        return options
    end
    local others = {}
    for key, value in next, options do
        if key ~= "since" then
            others[key] = value
        end
    end
    return next(others) and others or nil, mark
end


-- report(upstream[, peer][, options]) -> table | nil, message
--
-- Arguments
--   upstream  text
--   peer      text: the server of one of its peers; default: the upstream, and all its peers
--   options   table:
--     seconds   number, 1 to 3600: the last ones, of an upstream: up to 60 by the second, above by whole minutes
--     since     an earlier report of the same upstream: the numbers since then
--             default: since the statistics began
--
-- Returns
--   a table. All counts are of tries, and times are in milliseconds:
--     requests, failed (no answer), timeouts and refused (of these), codes (by status), sent and received (bytes)
--     header_time, response_time   count, mean, max, p50, p90, p99, p999
--     connect_time                 count, mean, max of new connections; kept: tries over kept ones
--     peers                        a list of the same, each with server, selected (when it was last picked, in
--                                  milliseconds since the epoch), unavail and unhealthy (how often it was taken
--                                  out), downtime, downstart (0: it is not out), probes (good, failed)
--     seconds                      the time that it is about; absent: since the statistics began
--     uncounted                    tries of all upstreams for which there was no room
--     mark                         a text, for `since`
--     changed                      whether the table has changed while the report was made. A long report is made in
--                                  slices, between which nginx serves other requests, where this code may wait
--   With seconds: seconds, requests, rate (a second), failed, codes by class, header_time and response_time (count,
--   mean)
--
-- Errors
--   nil, message: there is no such upstream or peer; statistics are off; an option is wrong; cjson is not in
--   lua_package_cpath.
--
-- Example
--     local before = dyups.report("api")
--     -- later
--     dyups.report("api", { since = before }).response_time.p99
function _M.report(upstream, peer, options)
    if type(upstream) ~= "string" then
        return not_a_text("upstream", upstream)
    end
    if type(peer) == "table" and options == nil then
        peer, options = nil, peer
    end
    if peer ~= nil and type(peer) ~= "string" then
        return not_a_text("peer", peer)
    end
    local others, mark = split(options)
    local report, err = decode("report", function(slice, peers)
        local json = encode(others)
        return C.dyups_report(upstream, #upstream, peer, peer and #peer or 0, json, #json, mark, mark and #mark or 0,
                              peers, slice)
    end)
    if not report then
        return nil, err
    elseif report.mark then
        report.mark = table.concat(report.mark, ";")
    end
    return report
end


return _M
