-- now() -> microseconds of the clock that all processes of this machine share, as text.

local ffi = require "ffi"

ffi.cdef [[
    struct timespec { long sec; long nsec; };
    int clock_gettime(int, struct timespec *);
]]

local MONOTONIC = 1

local time = ffi.new("struct timespec")


return function()
    ffi.C.clock_gettime(MONOTONIC, time)
    return ("%.0f"):format(tonumber(time.sec) * 1e6 + math.floor(tonumber(time.nsec) / 1e3))
end
