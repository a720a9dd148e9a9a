-- Writes any Lua value as JSON, for the library to read.
--
-- cjson cannot: it throws at NaN, at a function and at a sparse table. Here no code knows the field's name or its
-- values. So a value that JSON cannot express is written as {"\u0001lua":"nan"}, and the library makes the message.

local concat = table.concat
local format = string.format
local next = next
local rawget = rawget
-- Some builds have rawlen. In those, # may ask a metatable.
local rawlen = rawlen or function(value) return #value end
local tostring = tostring
local type = type

-- Deeper than anything that dyups reads.
local DEPTH = 32

-- More values than dyups reads. Tables that share tables can grow beyond all bounds when they are written.
local MOST_VALUES = 4194304

local encode


local function special(what)
    return '{"\\u0001lua":"' .. what .. '"}'
end


local function escape(char)
    return format("\\u%04x", char:byte())
end


local function text(value)
    return '"' .. value:gsub('[%z\1-\31"\\\127]', escape) .. '"'
end


local function number(value)
    if value ~= value then
        return special("nan")
    elseif value == 1 / 0 or value == -1 / 0 then
        return special(value > 0 and "inf" or "-inf")
    end
    return format("%.17g", value)
end


-- A list has the keys 1 to n and no others; an object has texts as keys. Anything else is neither.
local function table_(value, depth, state)
    local n, parts = rawlen(value), {}
    if n > 0 then
        -- The keys are counted too: in a table with holes, n may be any border.
        local count = 0
        for key in next, value do
            count = count + 1
            if type(key) ~= "number" or key < 1 or key > n or key % 1 ~= 0 then
                return special("mixed")
            end
        end
        if count ~= n then
            return special("a list with holes")
        end
        for i = 1, n do
            parts[i] = encode(rawget(value, i), depth, state)
        end
        return "[" .. concat(parts, ",") .. "]"
    end
    for key, item in next, value do
        if type(key) ~= "string" then
            return special("mixed")
        end
        parts[#parts + 1] = text(key) .. ":" .. encode(item, depth, state)
    end
    return "{" .. concat(parts, ",") .. "}"
end


-- state: the tables that are being written, and in `left` the number of values that may follow.
function encode(value, depth, state)
    local kind = type(value)
    state.left = state.left - 1
    if state.left < 0 then
        return special("too large")
    elseif kind == "string" then
        return text(value)
    elseif kind == "number" then
        return number(value)
    elseif kind == "boolean" then
        return tostring(value)
    elseif kind == "table" then
        if depth >= DEPTH or state[value] then
            return special("recursive")
        end
        state[value] = true
        local json = table_(value, depth + 1, state)
        state[value] = nil
        return json
    elseif value == nil or ngx and value == ngx.null then
        return "null"
    end
    return special(kind)
end


-- Any value -> JSON text. Never throws. encode({weight = 1}) -> '{"weight":1}'
return function(value)
    return encode(value, 0, { left = MOST_VALUES })
end
