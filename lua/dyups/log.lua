-- The one way of this module into nginx's error log. A text that came from outside may hold the end of a line or
-- characters that reorder a line: the library shows them escaped, so that no line is forged.

local ffi = require "ffi"
local library = require "dyups.library"

local C = library.C
local concat = table.concat
local ffi_string = ffi.string
local select = select
local tostring = tostring

-- Written by the library and read at once: one for all calls of this VM.
local shown = C and ffi.new("dyups_text")


-- Without the library, no byte is taken on trust but visible ASCII.
local function escape(byte)
    return ("\\x%02x"):format(byte:byte())
end


local function plain(text)
    if not C then
        return (text:gsub("[^\32-\126]", escape))
    end
    if C.dyups_plain(text, #text, shown) < 0 then
        return ffi_string(C.dyups_error())
    end
    return ffi_string(shown.data, shown.len)
end


-- log(level, ...): writes the texts, one after the other, as one line. level: the name of one of nginx's, such as
-- "WARN". Outside of nginx it does nothing.
--
--     log("WARN", "upstream ", name, ": ", err)
local function log(level, ...)
    if not ngx then
        return
    end
    local parts = {}
    for i = 1, select("#", ...) do
        parts[i] = tostring((select(i, ...)))
    end
    ngx.log(ngx[level], "dyups: ", plain(concat(parts)))
end


-- log_changes(): a line at level notice for each upstream that the last call of the library has changed. To be called
-- before anything else can call it.
local function log_changes()
    local lines = ffi_string(C.dyups_changes())
    if lines ~= "" and ngx then
        for line in lines:gmatch("[^\n]+") do
            ngx.log(ngx.NOTICE, "dyups: ", line)
        end
    end
end


return { log = log, log_changes = log_changes, plain = plain }
