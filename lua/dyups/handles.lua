-- Handles of upstreams and the texts of their peers, which a Lua VM keeps from one request to the next.
--
-- An entry has a handle, and by index the texts of the peers that were picked. Only upstreams that exist have one:
-- clients may send any name.

local ffi = require "ffi"
local library = require "dyups.library"

local C, failure = library.C, library.failure
local ffi_string = ffi.string
local new_tab = require "table.new"

local _M = {}

local NOT_FOUND = tonumber(ffi.cast("int", C.DYUPS_NOT_FOUND))

local MOST_ENTRIES = 16384
-- Places for texts in all entries; a text takes about 60 bytes more.
local MOST_PLACES = 1048576
-- Entries that one call of drop_stale looks at: 0.1 µs each while their upstream does not change.
local LOOKS_AT_ONCE = 1024

-- The entries by name, and all their names in a list: an entry's name is at `at`.
local entries, names = {}, {}
local count, places = 0, 0

_M.entries = entries


-- Texts of an upstream that has changed are of no use.
local function drop_texts(entry)
    if entry.texts then
        places = places - entry.peers
        entry.peers, entry.texts = -1, false
    end
end


local function forget(upstream)
    local entry, last = entries[upstream], names[count]
    drop_texts(entry)
    names[entry.at], entries[last].at = last, entry.at
    names[count], entries[upstream] = nil, nil
    count = count - 1
    C.dyups_close(ffi.gc(entry.handle, nil))
end

-- forget(upstream): drops the entry, which has to be there.
_M.forget = forget


local function forget_all()
    while count > 0 do
        forget(names[count])
    end
end


-- open(upstream) -> a new entry | nil, message
function _M.open(upstream)
    local handle = C.dyups_open(upstream, #upstream)
    if handle == nil then
        return failure()
    end
    if count >= MOST_ENTRIES then
        forget_all()
    end
    local entry = { handle = ffi.gc(handle, C.dyups_close), peers = -1, texts = false, at = count + 1 }
    count = count + 1
    entries[upstream], names[count] = entry, upstream
    return entry
end


-- keep(entry, index, picked) -> the peer's text, which is kept for the next pick of it
--
-- For a peer that was not picked since its upstream changed.
function _M.keep(entry, index, picked)
    if entry.peers ~= picked.peers then
        drop_texts(entry)
        if places + picked.peers > MOST_PLACES then
            -- All entries begin anew, this one too: its next pick opens it again.
            forget_all()
            return ffi_string(picked.text, picked.len)
        end
        places = places + picked.peers
        entry.peers = picked.peers
        entry.texts = new_tab(picked.peers, 0)
    end
    local server = ffi_string(picked.text, picked.len)
    entry.texts[index] = server
    return server
end


-- drop_stale(): drops entries of deleted upstreams, and texts of those that have changed. Call it once a second.
local looked_at = 0

function _M.drop_stale()
    for _ = 1, math.min(LOOKS_AT_ONCE, count) do
        -- Downwards: the name that moves into a gap comes from above.
        looked_at = (looked_at > 1 and looked_at <= count + 1 and looked_at or count + 1) - 1
        local upstream = names[looked_at]
        local code = C.dyups_look(entries[upstream].handle)
        if code == NOT_FOUND then
            forget(upstream)
        elseif code == 1 then
            drop_texts(entries[upstream])
        end
    end
end


return _M
