-- Helpers of the modules here: clocks, a CPU of one's own, and the yardsticks of native.c.

local ffi = require "ffi"

ffi.cdef [[
typedef struct { long sec; long nsec; } bench_time;
int clock_gettime(int clock, bench_time *time);
int sched_setaffinity(int pid, size_t size, const uint64_t *mask);

uint32_t bench_empty(void);
uint64_t bench_locked_adds(uint64_t *word, uint64_t n);
void bench_store(uint64_t *word, uint64_t value);
uint64_t bench_load(const uint64_t *word);
uint64_t *bench_page(const char *path);
]]

local MONOTONIC, PROCESS_CPU = 1, 2
local WORDS_IN_A_LINE = 8

local _M = {}

local time = ffi.new("bench_time")

local function clock(which)
    ffi.C.clock_gettime(which, time)
    return tonumber(time.sec) * 1e9 + tonumber(time.nsec)
end


-- Nanoseconds that this process was on a CPU: the work of others meanwhile does not count.
function _M.cpu()
    return clock(PROCESS_CPU)
end


-- Nanoseconds by a clock that all processes share.
function _M.now()
    return clock(MONOTONIC)
end


-- load(dir, cpu): once a worker, from init_worker. Loads native.c and stays on one CPU, if there is such a CPU.
function _M.load(dir, cpu)
    _M.C = ffi.load(dir .. "/native.so")
    ffi.C.sched_setaffinity(0, 8, ffi.new("uint64_t[1]", 2 ^ cpu))
    _M.page = _M.C.bench_page(dir .. "/page")
    assert(_M.page ~= nil, "no page to share")
end


-- Word `n` of the shared page, on a cache line of its own.
function _M.word(n)
    return _M.page + n * WORDS_IN_A_LINE
end


return _M
