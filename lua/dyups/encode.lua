-- Writes any Lua value as JSON, for the library to read.
--
-- cjson cannot: it throws at NaN, at a function and at a sparse table. Here no code knows the field's name or its
-- values. So a value that JSON cannot express is written as {"\u0001lua":"nan"}, and the library makes the message.
--
-- The parts of the JSON are collected and put together at the end. A string for each value would fill LuaJIT's table of
-- strings, which stalls a worker for as long as it grows.

local concat = table.concat
local find = string.find
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

-- Longer lists come in pieces.
local SHORT = 1000

-- Values of a piece: written in a millisecond or two.
local PIECE = 2000

-- Bytes that are escaped.
local ESCAPED = '[%z\1-\31"\\\127]'

-- Numbers that tostring writes with all their digits, where they have no fraction.
local EXACT = 1e14

local encode


-- Adds a part of the JSON.
local function put(state, part)
    local n = state.n + 1
    state.n, state.parts[n] = n, part
end


local function special(what)
    return '{"\\u0001lua":"' .. what .. '"}'
end


local function escape(char)
    return format("\\u%04x", char:byte())
end


local function escaped(value)
    return find(value, ESCAPED) and value:gsub(ESCAPED, escape) or value
end


local function text(value, state)
    put(state, '"')
    put(state, escaped(value))
    put(state, '"')
end


local function key_text(key, state)
    local written = state.keys[key]
    if not written then
        written = '"' .. escaped(key) .. '":'
        state.keys[key] = written
    end
    put(state, written)
end


local function number(value)
    if value ~= value then
        return special("nan")
    elseif value == 1 / 0 or value == -1 / 0 then
        return special(value > 0 and "inf" or "-inf")
    elseif value % 1 == 0 and value > -EXACT and value < EXACT then
        return tostring(value)
    end
    return format("%.17g", value)
end


-- list_length(value) -> the length of a table that is a list, 0 for no list | nil, why it is neither list nor object
--
-- A list has the keys 1 to n and no others; an object has texts as keys. Anything else is neither.
local function list_length(value)
    local n = rawlen(value)
    if n == 0 then
        return 0
    end
    -- The keys are counted too: in a table with holes, n may be any border.
    local count = 0
    for key in next, value do
        count = count + 1
        if type(key) ~= "number" or key < 1 or key > n or key % 1 ~= 0 then
            return nil, "mixed"
        end
    end
    if count ~= n then
        return nil, "a list with holes"
    end
    return n
end


local function table_(value, depth, state)
    local n, why = list_length(value)
    if not n then
        return put(state, special(why))
    elseif n > 0 then
        for i = 1, n do
            put(state, i == 1 and "[" or ",")
            encode(rawget(value, i), depth, state)
        end
        return put(state, "]")
    end
    local from, before = state.n, "{"
    for key, item in next, value do
        if type(key) ~= "string" then
            state.n = from
            return put(state, special("mixed"))
        end
        put(state, before)
        key_text(key, state)
        encode(item, depth, state)
        before = ","
    end
    put(state, before == "{" and "{}" or "}")
end


-- state: the `n` parts of the JSON so far; `keys` as they are written; the `open` tables, which are being written; and
-- in `left` the number of values that may follow.
function encode(value, depth, state)
    local kind = type(value)
    state.left = state.left - 1
    if state.left < 0 then
        put(state, special("too large"))
    elseif kind == "string" then
        text(value, state)
    elseif kind == "number" then
        put(state, number(value))
    elseif kind == "boolean" then
        put(state, tostring(value))
    elseif kind == "table" then
        if depth >= DEPTH or state.open[value] then
            return put(state, special("recursive"))
        end
        state.open[value] = true
        table_(value, depth + 1, state)
        state.open[value] = nil
    elseif value == nil or ngx and value == ngx.null then
        put(state, "null")
    else
        put(state, special(kind))
    end
end


local function begin()
    return { n = 0, parts = {}, keys = {}, open = {}, left = MOST_VALUES }
end


-- The JSON of the values since the last time.
local function finish(state)
    local json = concat(state.parts, "", 1, state.n)
    state.n = 0
    return json
end


-- encode(value) -> any value as JSON. Never throws. encode({weight = 1}) -> '{"weight":1}'
local function whole(value)
    local state = begin()
    encode(value, 0, state)
    return finish(state)
end


-- is_long(value) -> whether the value is a table in which a long list is
local function is_long(value)
    if type(value) ~= "table" then
        return false
    end
    for _, item in next, value do
        if type(item) == "table" and rawlen(item) > SHORT then
            return true
        end
    end
    return false
end


-- Hands a list of `n` values on. The values may have changed since the last piece.
local function list_in_pieces(list, n, state, take)
    local rest = state.left - PIECE
    for i = 1, n do
        put(state, i == 1 and "[" or ",")
        encode(rawget(list, i), 2, state)
        if state.left <= rest then
            take(finish(state))
            rest = state.left - PIECE
        end
    end
    put(state, "]")
end


-- in_pieces(value, take): hands the JSON of `value` to take(json), piece by piece. A long list in it is cut into many
-- pieces, and nothing else is. take may yield.
local function in_pieces(value, take)
    if not is_long(value) or rawlen(value) > 0 then
        return take(whole(value))
    end
    -- While it is handed on, another coroutine may change it. Then the next key is not to be had any more.
    local state, keys = begin(), {}
    for key in next, value do
        if type(key) ~= "string" then
            return take(special("mixed"))
        end
        keys[#keys + 1] = key
    end
    state.open[value], state.left = true, state.left - 1
    for i = 1, #keys do
        local item = rawget(value, keys[i])
        put(state, i == 1 and "{" or ",")
        key_text(keys[i], state)
        local n = type(item) == "table" and item ~= value and rawlen(item) > SHORT and list_length(item)
        if n then
            state.open[item], state.left = true, state.left - 1
            list_in_pieces(item, n, state, take)
            state.open[item] = nil
        else
            encode(item, 1, state)
        end
    end
    put(state, "}")
    take(finish(state))
end


return { encode = whole, is_long = is_long, in_pieces = in_pieces }
