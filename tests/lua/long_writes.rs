//! A long list is written and read in parts, where Lua can yield: the answer and the table are those of one piece.

use crate::vm::Vm;
use mlua::prelude::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// nginx's part: a phase that can yield, and a sleep that does. `in_parts(f)` runs f as nginx runs a request, and answers its
/// results and how often it yielded.
const NGINX: &str = r#"
    ngx = {
        NOTICE = 6, WARN = 5, ERR = 4, config = {}, null = {},
        get_phase = function() return "content" end,
        sleep = function() coroutine.yield() end,
        -- A second goes by between two looks.
        now = function() seconds = (seconds or 0) + 1 return seconds end,
        log = function() end,
    }
    function in_parts(f)
        local thread, yields = coroutine.create(f), 0
        while true do
            local ok, value, err = coroutine.resume(thread)
            assert(ok, value)
            if coroutine.status(thread) == "dead" then
                return value, err, yields
            end
            yields = yields + 1
            if between then between(yields) end
        end
    end
    function peers(count, from)
        local list = {}
        for i = 1, count do
            local n = i + (from or 0)
            list[i] = { host = ("10.%d.%d.%d"):format(n / 65536 % 256, n / 256 % 256, n % 256), weight = i % 3 + 1 }
        end
        return list
    end
    -- The table as it is, and the answers to a change in parts and in one piece.
    function both(conf)
        local ok, err, yields = in_parts(function() return dyups.set_upstream("api", conf) end)
        local parts = in_table()
        local whole_ok, whole_err = dyups.set_upstream("api", conf)
        assert(ok == whole_ok and err == whole_err, ("%s %s, in one piece %s %s"):format(ok, err, whole_ok, whole_err))
        assert(parts == in_table(), "other peers")
        return ok, err, yields
    end
    function in_table()
        local json = dyups.status("api")
        return json and json:match('"peers":%[.*') and json:gsub('"since":%d+', ""):match('"peers":(%[.-%])') or "none"
    end
"#;

fn vm() -> Vm {
    let vm = Vm::set_up();
    vm.run::<()>(NGINX);
    vm
}

#[test]
fn a_long_list_lets_nginx_serve_requests_in_between_and_a_short_one_is_one_call() {
    let vm = vm();
    let (ok, err, yields): (bool, Option<String>, u32) = vm.run("return both { peers = peers(5000), method = 'rr' }");
    assert!(ok && err.is_none() && yields > 10, "{err:?}, {yields} yields");
    assert!(vm.run::<String>("return in_table()").contains(r#""host":"10.0.19.136""#), "peer 5,000");
    let (ok, _, yields): (bool, Option<String>, u32) = vm.run("return both { peers = peers(1000) }");
    assert!(ok && yields == 0, "{yields} yields");
}

#[test]
fn a_bad_value_far_behind_is_named_as_in_one_piece_and_nothing_is_changed() {
    let vm = vm();
    vm.run::<()>("assert(dyups.set_upstream('api', { peers = peers(3) }))");
    let before: String = vm.run("return in_table()");
    for (spoil, message) in [
        ("list[2345].weight = -1", "upstream.peers[2345].weight: -1: allowed: an integer from 0 to 65535"),
        ("list[2345].weight = 0/0", "upstream.peers[2345].weight: nan: allowed: an integer from 0 to 65535"),
        ("list[2345] = print", "upstream.peers[2345]: function: allowed: an object"),
        ("list[2345].self = list", "upstream.peers[2345].self: not known to this version"),
        ("list[2345].weight = list", "upstream.peers[2345].weight: recursive: allowed"),
        ("list[2345].weight = conf", "upstream.peers[2345].weight: recursive: allowed"),
        ("list[2345].host = list[7].host", "upstream.peers[2345]: 10.0.0.7: the same address as upstream.peers[7]"),
        ("list[2345] = nil", "upstream.peers: a list with holes: allowed: a list"),
        ("list.x = 1", "upstream.peers: mixed: allowed: a list"),
        ("conf.method = 'no'; list[7] = 7", r#"upstream.method: "no": allowed"#),
        ("conf.moore = 1; list[7] = 7", "upstream.moore: not known to this version"),
        ("conf[7] = 1", "upstream: mixed: allowed: an object"),
        ("conf.healthcheck = { fall = 0 }; list[7] = 7", "upstream.healthcheck.fall: 0: allowed"),
        ("conf.peers = nil; conf.method = list", "upstream.method: [{"),
        ("name = 'a b'", r#"upstream "a b": allowed: a name"#),
    ] {
        vm.set("spoil", spoil);
        let (ok, err): (Option<bool>, String) = vm.run(
            r#"
            name, conf, list = "api", {}, peers(5000)
            conf.peers = list
            assert(loadstring(spoil))()
            local function change() return dyups.set_upstream(name, conf) end
            local ok, err, yields = in_parts(change)
            local whole_ok, whole_err = change()
            assert(ok == whole_ok and err == whole_err, tostring(err) .. "\n" .. tostring(whole_err))
            return ok, err
            "#,
        );
        assert!(ok.is_none() && err.starts_with(message), "{spoil}: {err}");
        assert_eq!(vm.run::<String>("return in_table()"), before, "{spoil}");
    }
}

#[test]
fn options_of_all_changes_hold_for_a_change_in_parts() {
    let vm = vm();
    let err: String = vm.run("return select(2, in_parts(function() return dyups.set_upstream('api', { peers = peers(5000) }, { by = 7 }) end))");
    assert_eq!(err, "options.by: 7: allowed: a text of 1 to 255 bytes");
    vm.run::<()>("ngx.log = function(_, ...) said = table.concat({ ... }) end");
    vm.run::<()>(
        "assert(in_parts(function() return dyups.set_upstream('api', { peers = peers(5000) }, { by = 'me' }) end))",
    );
    let said: String = vm.run("return said");
    assert!(said.contains(r#"upstream api: made by Lua ("me"): 0 -> 5000 peers (5000 added"#), "{said}");
}

#[test]
fn of_two_changes_of_one_upstream_in_parts_one_is_the_table() {
    let vm = vm();
    vm.run::<()>(
        r#"
        local threads = {}
        for i = 1, 2 do
            threads[i] = coroutine.create(function()
                assert(dyups.set_upstream("api", { peers = peers(5000, i * 100000) }))
            end)
        end
        local seen = {}
        while coroutine.status(threads[1]) ~= "dead" or coroutine.status(threads[2]) ~= "dead" do
            for i = 1, 2 do
                if coroutine.status(threads[i]) ~= "dead" then
                    assert(coroutine.resume(threads[i]))
                end
            end
            local peers = in_table()
            local of_1, of_2 = peers:find('"10.1.', 1, true), peers:find('"10.3.', 1, true)
            assert(not (of_1 and of_2), "a mixture")
            seen[#seen + 1] = of_1 and 1 or of_2 and 2 or nil
        end
        assert(seen[#seen], "none was made")
        "#,
    );
}

#[test]
fn another_change_meanwhile_is_replaced_by_the_whole_of_the_longer_one() {
    let vm = vm();
    vm.run::<()>(
        r#"
        local list = peers(5000)
        function between() dyups.add_peer("api", { host = "10.9.9.9" }) end
        assert(in_parts(function() return dyups.set_upstream("api", { peers = list }) end))
        between = nil
        local count = select(2, in_table():gsub('"host"', ""))
        assert(count == 5000 and not in_table():find("10.9.9.9", 1, true), count)
        "#,
    );
}

#[test]
fn a_change_that_ends_midway_changes_nothing_and_leaves_nothing_behind() {
    let vm = vm();
    vm.run::<()>(
        r#"
        assert(dyups.set_upstream("api", { peers = peers(2) }))
        local before, conf, midway = in_table(), { peers = peers(5000) }, 0
        for round = 1, 100 do
            local thread = coroutine.create(function() return dyups.set_upstream("api", conf) end)
            for _ = 1, round % 12 + 1 do
                -- How many parts there are, the clock decides.
                if coroutine.status(thread) ~= "dead" then
                    assert(coroutine.resume(thread))
                end
            end
            if coroutine.status(thread) ~= "dead" then
                midway = midway + 1
                assert(in_table() == before)
            else
                before = in_table()
            end
            thread = nil
            collectgarbage()
            collectgarbage()
        end
        assert(midway >= 30, midway)
        -- Eight drafts are free again.
        local ids = {}
        for i = 1, 8 do
            ids[i] = C.dyups_draft()
            assert(ids[i] > 0)
        end
        assert(C.dyups_draft() == C.DYUPS_FULL)
        -- With none left, a long list is one call.
        local ok, err, yields = in_parts(function() return dyups.set_upstream("api", conf) end)
        assert(ok and yields == 0, err)
        for i = 1, 8 do
            assert(C.dyups_draft_end(ids[i]) == 0)
        end
        "#,
    );
}

#[test]
fn a_list_that_another_coroutine_changes_meanwhile_makes_no_error_of_lua() {
    let vm = vm();
    vm.run::<()>(
        r#"
        for round = 1, 3 do
            local list = peers(5000)
            local conf = { peers = list, method = "rr" }
            function between(yields)
                list[5000 - yields], conf[tostring(yields)] = nil, yields
                if round == 2 then conf.peers = nil end
                if round == 3 then conf.method = nil; collectgarbage() end
            end
            local ok, err = in_parts(function() return dyups.set_upstream("api", conf) end)
            between = nil
            assert(ok or err:find("upstream.", 1, true) == 1, err)
        end
        "#,
    );
}

#[test]
fn a_draft_that_is_not_there_or_is_over_is_refused_by_its_number() {
    let vm = vm();
    let said: Vec<String> = vm.run(
        r#"
        local said, reply, request = {}, ffi_reply, nil
        local function say(code) said[#said + 1] = code .. " " .. require("ffi").string(C.dyups_error()) end
        say(C.dyups_draft_add(77, "x", 1))
        say(C.dyups_draft_set_upstream(77, "api", 3, 0))
        local id = C.dyups_draft()
        C.dyups_draft_add(id, "7", 1)
        local code
        repeat code = C.dyups_draft_set_upstream(id, "api", 3, 0) until code ~= 1
        say(code)
        say(C.dyups_draft_set_upstream(id, "api", 3, 0))
        say(C.dyups_draft_add(id, "x", 1))
        assert(C.dyups_draft_end(id) == 0 and C.dyups_draft_end(id) == 0 and C.dyups_draft_end(0) == 0)
        say(C.dyups_draft_add(id, "x", 1))
        return said
        "#,
    );
    let none = |id: &str| format!("-1 draft: {id}: allowed: one of dyups_draft that has not ended");
    assert_eq!(said[..2], [none("77"), none("77")]);
    assert_eq!(said[2], "-1 upstream: 7: allowed: an object");
    assert_eq!(said[3], "-1 draft: it has ended: allowed: a new one");
    assert_eq!(said[4], "-1 draft: it is being read: allowed: a new one");
    assert!(said[5].contains("allowed: one of dyups_draft"), "{}", said[5]);
}

#[test]
fn more_than_64_mib_are_refused_with_their_number() {
    let vm = vm();
    let said: String = vm.run(
        r#"
        local id, piece = C.dyups_draft(), (" "):rep(1048576)
        for i = 1, 65 do assert(C.dyups_draft_add(id, piece, #piece) == 0) end
        assert(C.dyups_draft_set_upstream(id, "api", 3, 0) == -1)
        C.dyups_draft_end(id)
        return require("ffi").string(C.dyups_error())
        "#,
    );
    assert_eq!(said, "upstream: 68157440 bytes: allowed: at most 67108864 bytes");
}

/// Any value that a caller may have in a peer.
fn any_value() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "1",
        "-1",
        "0/0",
        "'x'",
        "true",
        "print",
        "{}",
        "{ 1, nil, 3 }",
        "nil",
        "'10.0.0.9'",
        "conf",
        "7.5",
    ])
    .prop_map(str::to_owned)
}

#[test]
fn any_list_is_answered_in_parts_as_in_one_piece() {
    let fields = prop::sample::select(vec!["host", "weight", "backup", "status", "x"]);
    let spoilt = prop::collection::vec((any::<prop::sample::Index>(), fields, any_value()), 0..3);
    let (vm, mut runner) = (vm(), TestRunner::new(ProptestConfig::with_cases(24)));
    let is_the_same = |(count, spoilt): (usize, Vec<(prop::sample::Index, &str, String)>)| {
        let mut code = format!("conf = {{ peers = peers({count}) }}\n");
        for (at, field, value) in spoilt {
            code += &format!("conf.peers[{}].{field} = {value}\n", at.index(count) + 1);
        }
        let _: LuaMultiValue = vm.run(&(code + "return both(conf)"));
        Ok(())
    };
    runner.run(&(1001usize..3000, spoilt), is_the_same).unwrap_or_else(|error| panic!("{error}"));
}
