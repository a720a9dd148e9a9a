std = "ngx_lua"
max_line_length = 120
-- LuaJIT has it in its Lua 5.2 mode, which OpenResty builds and Debian does not.
read_globals = { "rawlen" }
files["tests/support/nginx/wrk.lua"] = { globals = { "wrk", "delay", "request" } }
