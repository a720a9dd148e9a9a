-- The only file that writes to nginx's error log. A text that came from outside may hold the end of a line, or
-- characters that reorder a line. The library shows them escaped, so that no line is forged.

local ffi = require "ffi"
local library = require "dyups.library"

local C = library.C
local concat = table.concat
local ffi_string = ffi.string
local select = select
local tostring = tostring

-- The library writes it, and plain reads it at once: one for all calls of this VM.
local shown = C and ffi.new("dyups_text")


-- Without the library, all bytes but visible ASCII are escaped.
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


-- log(level, ...): writes the texts, one after the other, as one line. level: the name of a level of nginx, such as
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


-- log_changes(): writes a line at level notice for each upstream that the library's last call has changed. Call it
-- before any other code can call the library.
local function log_changes()
    local lines = ffi_string(C.dyups_changes())
    if lines ~= "" and ngx then
        for line in lines:gmatch("[^\n]+") do
            ngx.log(ngx.NOTICE, "dyups: ", line)
        end
    end
end


return { log = log, log_changes = log_changes, plain = plain }
