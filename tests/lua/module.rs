//! The Lua modules in a VM without nginx: they fit the library they are made for, and say any Lua value as JSON.

use crate::vm::{LIBRARY, Vm, library, root};
use mlua::prelude::*;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::process::Command;

#[test]
fn the_modules_are_made_for_this_version_and_abi() {
    let source = std::fs::read_to_string(root().join("lua/dyups/library.lua")).expect("read library.lua");
    assert!(source.contains(&format!("local VERSION = \"{}\"\n", env!("CARGO_PKG_VERSION"))), "VERSION is not Cargo's");

    let vm = Vm::new();
    let (version, abi, library): (String, u32, String) = vm.run(
        r#"
        local library = require "dyups.library"
        assert(library.C, library.why)
        return library.version, library.C.dyups_abi(), require("ffi").string(library.C.dyups_version())
        "#,
    );
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_eq!(library, env!("CARGO_PKG_VERSION"));
    assert!(source.contains(&format!("local ABI = {abi}\n")), "ABI is not the library's");
    assert_eq!(vm.run::<String>("return require('dyups')._VERSION"), env!("CARGO_PKG_VERSION"));
}

#[test]
fn luajit_takes_every_declaration_of_the_header() {
    let vm = Vm::new();
    let header = std::fs::read_to_string(root().join("include/dyups.h")).expect("read dyups.h");
    let names = header
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("dyups_"));
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        vm.run::<()>(&format!("assert(require('dyups.library').C.{name})"));
    }
    vm.run::<()>(
        r#"
        local ffi = require "ffi"
        local C = require("dyups.library").C
        for _, struct in ipairs { "dyups_tried", "dyups_picked", "dyups_text", "dyups_reply" } do
            assert(ffi.sizeof(struct) > 8)
        end
        assert(C.DYUPS_INVALID == -1 and C.DYUPS_NOT_FOUND == -2)
        "#,
    );
}

/// The part of ngx in the stream module's Lua that balance() asks for. Debian has no such module.
const STREAM: &str = r#"
    said, ended = {}, {}
    ngx = {
        config = { subsystem = "stream", nginx_version = 1022001, prefix = function() return "/" end }, ERR = 4, WARN = 5,
        NOTICE = 6, INFO = 7,
        get_phase = function() return phase end,
        log = function(level, ...) said[#said + 1] = level .. " " .. table.concat { ... } end,
        exit = function(code) ended[#ended + 1] = code end,
    }
    package.loaded["ngx.balancer"] = {}
"#;

#[test]
fn balance_in_stream_ends_the_session_and_says_why() {
    let vm = Vm::new();
    vm.run::<()>(STREAM);
    let (answered, said, ended): (usize, String, i32) = vm.run(
        r#"
        phase = "balancer"
        local answers = select('#', require('dyups').balance("api", 1, 2, 3))
        assert(#said == 1 and #ended == 1)
        return answers, said[1], ended[1]
        "#,
    );
    assert_eq!((answered, ended), (0, -3), "NGX_BUSY, and never the placeholder");
    assert!(said.starts_with("4 dyups: balance: called in stream {}: allowed: balancer_by_lua of http {}"), "{said}");
    // Elsewhere there is no session to end.
    let (none, why): (Option<bool>, String) = vm.run("phase = 'content' return require('dyups').balance('api')");
    assert!(none.is_none() && why.starts_with("balance: called in stream {}"), "{why}");
}

#[test]
fn a_split_in_stream_is_by_the_variable_of_its_session_and_in_a_timer_by_the_key_of_the_caller() {
    let vm = Vm::new();
    vm.set("region", vm.scratch.path().join("region").to_str().expect("UTF-8"));
    vm.run::<()>(STREAM);
    vm.run::<()>(
        r#"
        local dyups = require "dyups"
        assert(dyups.setup { shm_path = region, shm_size = "128m", routes = true })
        for _, name in ipairs { "blue", "green" } do
            assert(dyups.set_upstream(name, { peers = { { host = name == "blue" and "10.0.0.1" or "10.0.0.2", port = 80 } } }))
        end
        local split = { { "blue", 1 }, { "green", 1 } }
        assert(dyups.set_route("by.variable", split, { key = "$ssl_preread_server_name" }))
        assert(dyups.set_route("by.turns", split))

        local function counts(lead)
            local of = {}
            for i = 1, 20 do
                local found = assert(lead(i))
                of[found] = (of[found] or 0) + 1
            end
            return of
        end

        -- Its value decides, in each phase that has it, for find and for route.
        for _, has_it in ipairs { "preread", "content", "balancer", "log" } do
            phase = has_it
            local peers = {}
            for i = 1, 20 do
                ngx.var = { ssl_preread_server_name = "name " .. i }
                local peer = assert(dyups.find("by.variable", "a key of chash"))
                assert(peer == dyups.find("by.variable"), "the same value, the same upstream")
                assert((peer == "10.0.0.1:80") == (dyups.route("by.variable") == "blue"))
                peers[peer] = true
            end
            assert(peers["10.0.0.1:80"] and peers["10.0.0.2:80"], "no two of 20 values differ")
            -- No value: turns.
            ngx.var = {}
            assert(counts(function() return dyups.route("by.variable") end).blue == 10)
        end

        -- A phase without variables, such as a timer: the caller gives the value.
        phase, ngx.var = "timer", setmetatable({}, { __index = function() error("API disabled") end })
        for i = 1, 20 do
            local peer = dyups.find("by.variable", "user " .. i)
            assert(peer == dyups.find("by.variable", "user " .. i), "the same value, the same upstream")
            assert((peer == "10.0.0.1:80") == (dyups.route("by.variable", "user " .. i) == "blue"))
        end
        assert(counts(function() return dyups.find("by.variable") end)["10.0.0.1:80"] == 10, "no value: turns")
        -- The key of chash is none of a route whose requests take turns.
        assert(counts(function() return dyups.find("by.turns", "one key") end)["10.0.0.1:80"] == 10)
        "#,
    );
}

#[test]
fn a_library_of_another_abi_is_refused_with_what_to_do() {
    let vm = Vm::new();
    let source = vm.scratch.write(
        "other.c",
        "unsigned dyups_abi(void) { return 999; } const char *dyups_cdef(void) { return \"not for you\"; }",
    );
    let lib = vm.scratch.path().join(LIBRARY);
    std::fs::remove_file(&lib).expect("remove the library");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&lib).arg(source).status().expect("run cc");
    assert!(built.success());
    let (up, why): (Option<bool>, String) = vm.run("return require('dyups').setup {}");
    assert_eq!(up, None);
    assert!(why.contains("has ABI 999, lua/dyups needs") && why.contains("restart nginx"), "{why}");
}

#[test]
fn a_library_that_does_not_load_is_said_so_by_every_function() {
    let vm = Vm::new();
    std::fs::remove_file(vm.scratch.path().join(LIBRARY)).expect("remove the library");
    vm.scratch.write(LIBRARY, "no library");
    let wrong: Vec<String> = vm.run(
        r#"
        local wrong = {}
        for name, call in pairs(require "dyups") do
            if type(call) == "function" then
                local done, value, why = pcall(call)
                if not done or value ~= nil or not tostring(why):find("does not load", 1, true) then
                    wrong[#wrong + 1] = name .. ": " .. tostring(why or value)
                end
            end
        end
        return wrong
        "#,
    );
    assert_eq!(wrong, Vec::<String>::new());
}

/// One test, since the table is one a process.
#[test]
fn without_nginx_the_modules_work_as_within() {
    let vm = Vm::new();
    vm.set("region", vm.scratch.path().join("region").to_str().expect("UTF-8"));
    a_table_is_made_and_picked_from(&vm.lua);
    more_upstreams_than_are_remembered_are_found(&vm.lua);
    a_new_vm_meets_the_table_of_the_old_one(vm);
}

fn a_table_is_made_and_picked_from(lua: &Lua) {
    lua.load(
        r#"
        package.loaded["cjson.safe"] = { decode = function(json) return json end }
        dyups = require "dyups"
        assert(dyups.setup { shm_path = region, shm_size = "128m" })
        assert(dyups.start())
        assert(dyups.set_upstream("api", { peers = { { host = "10.0.0.1", weight = 5 }, { host = "10.0.0.2" } } }))
        assert(dyups.add_peer("api", { host = "10.0.0.3" }))
        local all = {}
        for i = 1, 7 do
            all[i] = dyups.find("api"):match("%.(%d):80")
        end
        -- nginx's order, 1121311, from its fifth turn on: add_peer has moved the round robin by 0.618 of its 7 turns.
        assert(table.concat(all) == "3111121", table.concat(all))
        assert(dyups.find("api", "key") == dyups.find("api", "key", "chash"))
        assert(dyups.status("api"):find('"10.0.0.3"', 1, true))
        assert(dyups.delete_peer("api", { host = "10.0.0.3" }))
        local gone, why = dyups.delete_peer("api", { host = "10.0.0.3" })
        assert(gone == nil and why == "not found")
        "#,
    )
    .exec()
    .expect("a table");
}

/// dyups.lua keeps a handle for 16,384 names.
fn more_upstreams_than_are_remembered_are_found(lua: &Lua) {
    lua.load(
        r#"
        local N = 17000
        for i = 1, N do
            assert(dyups.set_upstream("u" .. i, { peers = { { host = "10.0.0.1", port = i } } }))
        end
        local function round()
            for i = 1, N do
                assert(dyups.find("u" .. i) == "10.0.0.1:" .. i)
            end
            collectgarbage()
            collectgarbage()
            return collectgarbage("count")
        end
        round()
        local before = round()
        local after = round()
        assert(after - before < 1024, "grew by " .. after - before .. " KB")
        for i = 1, N do
            assert(dyups.delete_upstream("u" .. i, { force = true }))
            assert(not dyups.find("u" .. i))
        end
        "#,
    )
    .exec()
    .expect("many upstreams");
}

/// As after a reload: the old VM is closed, which may dlclose the library, and the new one finds it as it was.
fn a_new_vm_meets_the_table_of_the_old_one(old: Vm) {
    let Vm { lua, scratch } = old;
    let path = scratch.path().to_str().expect("UTF-8").to_string();
    drop(lua);
    // SAFETY: as in Vm::new.
    #[allow(unsafe_code)]
    let new = unsafe { Lua::unsafe_new() };
    new.globals().set("dir", path).expect("set a global");
    new.globals().set("lua_dir", root().join("lua").to_str().expect("UTF-8")).expect("set a global");
    new.load(
        r#"
        package.path, package.cpath = lua_dir .. "/?.lua", dir .. "/?.so"
        local dyups = require "dyups"
        -- setup was called by the old one.
        assert(dyups.find("api"))
        assert(dyups.setup { shm_path = dir .. "/region", shm_size = "128m" })
        assert(dyups.start())
        assert(dyups.add_peer("api", { host = "10.0.0.3" }))
        "#,
    )
    .exec()
    .expect("the table of the old VM");
}

#[test]
fn the_library_stays_when_it_is_closed() {
    // The linker marks it so, and a Lua VM that closes relies on that.
    let out = Command::new("readelf").arg("-d").arg(library()).output();
    let Ok(out) = out else { return eprintln!("no readelf: not tried") };
    assert!(String::from_utf8_lossy(&out.stdout).contains("NODELETE"));
}

/// `encode` of lua/dyups/encode.lua.
fn encoder() -> (Lua, LuaFunction) {
    let lua = Lua::new();
    let source = std::fs::read(root().join("lua/dyups/encode.lua")).expect("read encode.lua");
    let module: LuaTable = lua.load(source).set_name("encode.lua").eval().expect("encode.lua");
    let encode = module.get("encode").expect("encode");
    (lua, encode)
}

fn encoded(encode: &LuaFunction, value: impl IntoLuaMulti) -> Value {
    let json: LuaString = encode.call(value).expect("encode never throws");
    let json = String::from_utf8_lossy(&json.as_bytes()).into_owned();
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// A JSON value as Lua has it.
fn to_lua(lua: &Lua, value: &Value) -> LuaValue {
    match value {
        Value::Null => LuaValue::Nil,
        Value::Bool(value) => LuaValue::Boolean(*value),
        Value::Number(value) => LuaValue::Number(value.as_f64().expect("a number")),
        Value::String(value) => LuaValue::String(lua.create_string(value).expect("a string")),
        Value::Array(list) => {
            LuaValue::Table(lua.create_sequence_from(list.iter().map(|item| to_lua(lua, item))).expect("a list"))
        }
        Value::Object(map) => {
            let entries = map.iter().map(|(key, item)| (key.as_str(), to_lua(lua, item)));
            LuaValue::Table(lua.create_table_from(entries).expect("a table"))
        }
    }
}

/// Values that are equal in Lua are equal here: numbers are floats, an empty list is an empty object.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(list) if list.is_empty() => json!({}),
        Value::Array(list) => list.iter().map(normal).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(key, item)| (key.clone(), normal(item))).collect()),
        _ => value.clone(),
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        // serde_json reads longer ones with an error of one bit.
        any::<i16>().prop_map(|number| Value::from(f64::from(number) / 16.0)),
        any::<String>().prop_map(Value::from),
        "[\\x00-\\x1f\"\\\\/\\x7f<>ö\u{2028}]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_is_json_that_reads_as_the_same(value in any_json()) {
        let (lua, encode) = encoder();
        prop_assert_eq!(normal(&encoded(&encode, to_lua(&lua, &value))), normal(&value));
    }

    #[test]
    fn any_bytes_are_a_text(bytes: Vec<u8>) {
        let (lua, encode) = encoder();
        let text = lua.create_string(&bytes).expect("a string");
        prop_assert_eq!(encoded(&encode, text), Value::from(String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn any_number_is_itself(number in any::<f64>().prop_filter("finite", |number| number.is_finite())) {
        let (_lua, encode) = encoder();
        prop_assert_eq!(encode.call::<String>(number).expect("encode").parse(), Ok(number));
    }

    #[test]
    fn tables_of_any_shape_are_json(code in any_table(4)) {
        let (lua, encode) = encoder();
        let value: LuaValue = lua.load(format!("local self = {{}} self.self = self return {code}")).eval().expect("Lua");
        encoded(&encode, value);
    }
}

/// A table constructor with keys of all kinds, as Lua.
fn any_table(depth: u32) -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "nil",
        "true",
        "1",
        "-0.5",
        "0/0",
        "1/0",
        "''",
        "'x'",
        "'\\0'",
        "print",
        "self",
        "coroutine.create(print)",
        "{}",
    ]);
    let key = prop::sample::select(vec![
        "",
        "",
        "",
        "a = ",
        "b = ",
        "[1] = ",
        "[2] = ",
        "[0] = ",
        "[-1] = ",
        "[1.5] = ",
        "[1e9] = ",
        "[true] = ",
        "[print] = ",
        "[self] = ",
        "['\\255'] = ",
    ]);
    leaf.prop_map(str::to_string).prop_recursive(depth, 64, 6, move |inner| {
        prop::collection::vec((key.clone(), inner), 0..6).prop_map(|items| {
            let items: Vec<String> = items.into_iter().map(|(key, value)| format!("{key}{value}")).collect();
            format!("{{ {} }}", items.join(", "))
        })
    })
}

#[test]
fn what_json_has_no_word_for_is_named() {
    let (lua, encode) = encoder();
    for (code, name) in [
        ("0/0", "nan"),
        ("1/0", "inf"),
        ("-1/0", "-inf"),
        ("print", "function"),
        ("coroutine.create(print)", "thread"),
        ("{ 1, a = 2 }", "mixed"),
        ("{ [1.5] = 1 }", "mixed"),
        ("{ [true] = 1 }", "mixed"),
        ("{ [0] = 1 }", "mixed"),
        ("{ [1] = 1, [2] = 2, [4294967296] = 3 }", "mixed"),
    ] {
        let value: LuaValue = lua.load(format!("return {code}")).eval().expect("Lua");
        assert_eq!(encoded(&encode, value), json!({ "\u{1}lua": name }), "{code}");
    }
    assert_eq!(encoded(&encode, LuaValue::Nil), Value::Null);
    assert_eq!(encoded(&encode, lua.create_table().expect("a table")), json!({}));
}

#[test]
fn tables_that_have_no_end_as_text_come_to_one() {
    let (lua, encode) = encoder();
    let value = |code: &str| -> Value { encoded(&encode, lua.load(code).eval::<LuaValue>().expect("Lua")) };
    let recursive = json!({"\u{1}lua": "recursive"});
    assert_eq!(value("local t = {} t.a, t.b = t, t return t"), json!({"a": recursive, "b": recursive}));
    assert_eq!(value("local t = {} t[1], t[2] = t, t return t"), json!([recursive, recursive]));
    // The same table twice is no recursion.
    assert_eq!(value("local t = { 1 } return { a = t, b = t }"), json!({"a": [1], "b": [1]}));
    // Two ways at each of 30 levels: 2^30 values if nothing stopped it.
    let started = std::time::Instant::now();
    let json: LuaString = lua
        .load("local t = {} for _ = 1, 30 do t = { t, t } end return t")
        .eval::<LuaValue>()
        .and_then(|wide| encode.call(wide))
        .expect("encode never throws");
    assert!(String::from_utf8_lossy(&json.as_bytes()).contains("too large"));
    assert!(started.elapsed().as_secs() < 30);
    let deep = value("local t = {} for _ = 1, 100 do t = { t } end return t");
    assert!(deep.to_string().contains("recursive"));
}

#[test]
fn metatables_are_not_asked() {
    let (lua, encode) = encoder();
    let value: LuaValue = lua
        .load(
            "return setmetatable({ a = 1 }, { __index = error, __len = error, __pairs = error, __tostring = error,
             __metatable = 'locked' })",
        )
        .eval()
        .expect("Lua");
    assert_eq!(encoded(&encode, value), json!({"a": 1}));
}
