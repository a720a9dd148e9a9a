-- Finds libdyups along lua_package_cpath, checks that it fits these files, and declares its functions. The library
-- hands out the declarations itself: include/dyups.h is the only place that has them.

local ffi = require "ffi"

local VERSION = "0.1.0"
local ABI = 1
local NAME = "libdyups-" .. VERSION

ffi.cdef "const char *dyups_cdef(void); uint32_t dyups_abi(void);"


-- The version is part of the file name. For a path that is loaded already, dlopen answers the old library. So after an
-- upgrade, a reload finds the new file by its new name.
local function find()
    -- No separator: the dots of the version are not directories.
    local path, tried = package.searchpath(NAME, package.cpath, "")
    if path then
        return path
    end
    return nil, "dyups: " .. NAME .. ".so is not in lua_package_cpath; looked for" .. (tried or " nothing")
end


local function load()
    local path, why = find()
    if not path then
        return nil, why
    end
    local ok, C = pcall(ffi.load, path)
    if not ok then
        return nil, "dyups: " .. path .. " does not load: " .. tostring(C)
    end
    local known, abi = pcall(function() return C.dyups_abi() end)
    if not known or abi ~= ABI then
        return nil, "dyups: " .. path .. " has ABI " .. (known and tostring(abi) or "unknown") .. ", lua/dyups needs "
            .. ABI .. ": restart nginx, or upgrade it by USR2"
    end
    ffi.cdef(ffi.string(C.dyups_cdef()))
    return C
end


-- Loaded once a Lua VM. Where it cannot be loaded: nil, and the reason.
local C, why = load()


-- failure() -> nil, the message of the library's last call
local function failure()
    return nil, ffi.string(C.dyups_error())
end


-- not_a_text(what, value) -> nil, message: only a text can go to the library as it is.
local function not_a_text(what, value)
    local shown = type(value) == "number" and tostring(value) or "a " .. type(value)
    return nil, what .. ": " .. shown .. ": allowed: a string"
end


-- outcome(code[, err]) -> true | nil, message: of a call that answered a code, or that was not made.
local function outcome(code, err)
    if not code then
        return nil, err
    elseif code < 0 then
        return failure()
    end
    return true
end


return {
    C = C, why = why, version = VERSION, failure = failure, not_a_text = not_a_text, outcome = outcome,
}
