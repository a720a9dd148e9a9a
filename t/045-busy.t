# Another process is writing: a change waits for its turn without stalling its worker, and then names that process. While a
# newer layout is in use, a change is refused at once.

use lib 't/lib';
use Dyups;
use Test::Nginx::Socket 'no_plan';

use Fcntl qw(F_SETLK F_WRLCK F_UNLCK SEEK_SET);
use POSIX ();

# Holds, or frees, the writer's byte of the region that this block of the file has, or that of a newer layout.
my %held;

sub writer {
    my ($name, $type, $newer) = @_;
    my $path = Dyups::shm_path($name) . '.lock';
    open $held{$name}, '+<', $path or die "$path: $!\n" if !$held{$name};
    my $lock = pack 's s x4 q q i x4', $type, SEEK_SET, Dyups::writer_byte($name, $newer), 1, 0;
    fcntl $held{$name}, F_SETLK, $lock or die "$path: fcntl: $!\n";
}

sub hold      { writer($_[0], F_WRLCK) }
sub supersede { writer($_[0], F_WRLCK, 1) }
sub free      { writer($_[0], F_UNLCK, 1) }

# Another process holds it for a second, and dies.
sub hold_until_death {
    my ($name) = @_;
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        hold($name);
        sleep 1;
        POSIX::_exit(0);
    }
    select undef, undef, undef, 0.2;
}

master_on();
workers(2);
no_long_string();
Dyups::defaults();
run_tests();

__DATA__

=== TEST 1: a change that does not get its turn in two seconds is refused with the holder's pid, and changes nothing
--- http_config eval
Dyups::proxy(shm => 'refused', init => q{ assert(dyups.set_upstream("api", { peers = { { host = "127.0.0.1", port = T.port + 1 } } })) })
--- init
main::hold('refused');
--- config
    location = /t {
        content_by_lua_block {
            local before = T.show(dyups.status())
            local start = ngx.now()
            local ok, err = dyups.add_peer("api", { host = "10.0.0.1" })
            ngx.update_time()
            local took = ngx.now() - start
            ngx.say(ok, " ", (err:gsub("pid " .. T.pid, "pid of the tests")))
            ngx.say(took > 1.5 and took < 4 and "in time" or took)
            ngx.say(T.show(dyups.status()) == before)
            ngx.say(T.get("api"))
        }
    }
--- timeout: 8
--- response_body_like
^nil .*busy.*pid of the tests.*
in time
true
1$


=== TEST 2: the HTTP interface answers 409 then, with a newline as the module has it
--- http_config eval: Dyups::proxy(shm => 'conflict')
--- init
main::hold('conflict');
--- config
    location = /t {
        content_by_lua_block {
            local function ask(method, body)
                local status, text, headers = T.request(T.port + 8, method, "/upstream/api", body)
                ngx.say(method, " ", status, " ", (text:gsub("\n", "|")), " ", headers["x-dyups-error"]:match("busy"))
            end
            local post = ngx.thread.spawn(ask, "POST", "server 127.0.0.1:8088;")
            ngx.thread.wait(post)
            ngx.say((T.request(T.port + 8, "GET", "/list")))
        }
    }
--- timeout: 8
--- response_body
POST 409 wait and try again| busy
204


=== TEST 3: a worker whose change waits goes on with other requests
--- http_config eval
Dyups::proxy(shm => 'waiting', init => q{ assert(dyups.set_upstream("api", { peers = { { host = "127.0.0.1", port = T.port + 1 } } })) })
--- init
main::hold('waiting');
--- config
    location = /t {
        content_by_lua_block {
            local done, answer = false, nil
            local change = ngx.thread.spawn(function()
                answer = T.show(dyups.delete_peer("api", { host = "127.0.0.1", port = T.port + 1 }))
                done = true
            end)
            local finds, longest = 0, 0
            while not done do
                finds = finds + (dyups.find("api") and 1 or 0)
                ngx.update_time()
                local before = ngx.now()
                ngx.sleep(0.001)
                ngx.update_time()
                longest = math.max(longest, ngx.now() - before)
            end
            ngx.thread.wait(change)
            ngx.say(answer:match("^nil .*busy"), " ", finds > 100, " ", longest < 0.2 and "never stalled" or longest)
        }
    }
--- timeout: 8
--- response_body_like
^nil .*busy true never stalled$


=== TEST 4: a change that gets its turn while it waits is made
--- http_config eval: Dyups::proxy(shm => 'freed')
--- init
main::hold_until_death('freed');
--- config
    location = /t {
        content_by_lua_block {
            local start = ngx.now()
            T.say(dyups.add_peer("api", { host = "10.0.0.1", port = 81 }))
            ngx.update_time()
            ngx.say(ngx.now() - start > 0.3 and "after a while" or ngx.now() - start)
            ngx.say(T.peers("api"))
        }
    }
--- timeout: 8
--- response_body
true
after a while
10.0.0.1:81 1 up


=== TEST 5: where nginx cannot wait, a change gives up within a blink
--- http_config eval: Dyups::proxy(shm => 'nowait')
--- init
main::hold('nowait');
--- config
    location = /filters {
        return 200 "";
        header_filter_by_lua_block {
            local start = ngx.now()
            local ok, err = dyups.add_peer("api", { host = "10.0.0.1" })
            ngx.update_time()
            ngx.header.took = ngx.now() - start
            ngx.header.answer = tostring(ok) .. " " .. err
        }
    }
    location = /t {
        content_by_lua_block {
            local _, _, headers = T.request(T.port, "GET", "/filters")
            ngx.say(headers.answer:match("^nil .*busy"), " ", tonumber(headers.took) < 0.2 and "soon" or headers.took)
        }
    }
--- response_body_like
^nil .*busy soon$


=== TEST 6: below a C function, which no yield can cross, a change gives up within a blink, and none throws
--- http_config eval: Dyups::proxy(shm => 'crossing')
--- init
main::hold('crossing');
--- config
    location = /t {
        content_by_lua_block {
            local function change()
                return dyups.add_peer("api", { host = "10.0.0.1" })
            end
            local ways = {
                function(f) string.gsub("a", ".", f) end,
                function(f) table.sort({ 1, 2 }, function() f() return false end) end,
                function(f)
                    package.loaded.made, package.preload.made = nil, function() f() return {} end
                    require "made"
                end,
                function(f) xpcall(error, f) end,
            }
            -- Each of these can wait, as a plain call can.
            local others = {
                function(f) xpcall(f, print) end,
                function(f) return setmetatable({}, { __index = f }).x end,
                function(f) return tostring(setmetatable({}, { __tostring = function() f() return "" end })) end,
                function(f) return setmetatable({}, { __concat = f }) .. "" end,
                function(f) for _ in function() f() end do return end end,
                function(f) coroutine.wrap(f)() end,
                function(f) ngx.thread.wait(ngx.thread.spawn(f)) end,
            }
            local function run(way)
                local answers = {}
                ngx.update_time()
                local start = ngx.now()
                local ok, err = pcall(way, function()
                    answers[#answers + 1] = { pcall(change) }
                end)
                ngx.update_time()
                return answers[1] or { ok, err }, ngx.now() - start
            end
            for number, way in ipairs(ways) do
                local answer, took = run(way)
                ngx.say(number, " ", answer[1], " ", answer[2], " ", tostring(answer[3]):match("^busy"), " ", took < 0.2 or took)
            end
            -- No timer is left behind that would wake this sooner.
            ngx.update_time()
            local start = ngx.now()
            ngx.sleep(0.3)
            ngx.update_time()
            ngx.say("slept ", ngx.now() - start >= 0.29)
            local threads = {}
            for number, way in ipairs(others) do
                threads[number] = ngx.thread.spawn(function() return run(way) end)
            end
            for number, thread in ipairs(threads) do
                local _, answer, took = ngx.thread.wait(thread)
                ngx.say(number, " ", answer[1], " ", answer[2], " ", tostring(answer[3]):match("^busy"), " ", took > 1.5 or took)
            end
        }
    }
--- timeout: 8
--- response_body
1 true nil busy true
2 true nil busy true
3 true nil busy true
4 true nil busy true
slept true
1 true nil busy true
2 true nil busy true
3 true nil busy true
4 true nil busy true
5 true nil busy true
6 true nil busy true
7 true nil busy true


=== TEST 7: lookups by chash that could build the ring go on without it while another process writes, and build it then
--- http_config eval
Dyups::proxy(shm => 'ringless', init => q{ assert(dyups.set_upstream("api", { peers = { { host = "10.0.0.1" }, { host = "10.0.0.2" }, { host = "10.0.0.3" } } }))
    assert(dyups.set_upstream("ringed", { method = "chash", peers = { { host = "10.0.0.1" }, { host = "10.0.0.2" }, { host = "10.0.0.3" } } }))
    assert(dyups.set_upstream("heavy", { peers = { { host = "10.0.0.1", weight = 20001 } } })) }, size => '32m')
--- init
main::hold_until_death('ringless');
--- config
    location = /t {
        content_by_lua_block {
            local function generation(name) return dyups.status(name).upstreams[name].generation end
            local before, heavy = generation("api"), generation("heavy")
            local function right()
                for number = 1, 100 do
                    local key = "key" .. number
                    if dyups.find("api", key, "chash") ~= dyups.find("ringed", key) then return key end
                end
                return "as with a ring"
            end
            ngx.say(right(), ", ", generation("api") - before)
            ngx.say((select(2, dyups.find("heavy", "key", "chash"))), ", ", generation("heavy") - heavy)
            while not dyups.set_upstream("other", { peers = {} }) do end
            ngx.say(right(), ", ", generation("api") - before)
            ngx.say(dyups.find("heavy", "key", "chash"), ", ", generation("heavy") - heavy)
        }
    }
--- timeout: 8
--- response_body
as with a ring, 0
upstream heavy: chash: it has no ring yet, and too much weight to do without: declare method = "chash", 0
as with a ring, 1
10.0.0.1:80, 1


=== TEST 8: while a newer layout is in use, changes are refused at once with the process that uses it, and all else goes on
--- http_config eval
Dyups::proxy(shm => 'superseded', init => q{ assert(dyups.set_upstream("api", { peers = { { host = "127.0.0.1", port = T.port + 1 } } })) })
--- init
main::supersede('superseded');
--- config
    location = /t {
        content_by_lua_block {
            local before = T.show(dyups.status().upstreams)
            local start = ngx.now()
            for _, change in ipairs { "add_peer", "set_peer", "delete_peer", "set_upstream", "delete_upstream" } do
                local ok, err = dyups[change]("api", change == "delete_upstream" and { force = true }
                    or change == "set_upstream" and { peers = {} } or { host = "127.0.0.1", port = T.port + 1, weight = 2 })
                ngx.say(change, " ", ok, " ", (err:gsub("pid " .. T.pid, "pid of the tests")))
            end
            for method, body in pairs { POST = "server 127.0.0.1:1;", DELETE = "" } do
                local status, text, headers = T.request(T.port + 8, method, "/upstream/api", body)
                ngx.say(status, " ", text, " ", headers["x-dyups-error"]:match("^superseded by layout %d+"))
            end
            ngx.update_time()
            ngx.say(ngx.now() - start < 1 and "at once" or ngx.now() - start)
            ngx.say(T.show(dyups.status().upstreams) == before, " ", T.get("api"))
        }
    }
--- response_body_like
^add_peer nil superseded by layout \d+ \(held by pid of the tests\): .*QUIT.*
set_peer nil superseded .*
delete_peer nil superseded .*
set_upstream nil superseded .*
delete_upstream nil superseded .*
503 superseded superseded by layout \d+
503 superseded superseded by layout \d+
at once
true 1$


=== TEST 9: setup succeeds while a newer layout is in use, and says that it loaded no files
--- http_config eval
my $file = Dyups::file('late.json', '{"upstreams": {"late": {"peers": [{"host": "127.0.0.1", "port": 81}]}}}');
Dyups::proxy(shm => 'late', init => qq{
    again = function() return dyups.setup{ shm_path = T.shm_path, shm_size = "1m", files = "$file" } end
})
--- init
main::supersede('late');
--- config
    location = /t {
        content_by_lua_block {
            T.say(again())
            ngx.say(T.peers("late"))
        }
    }
--- response_body
true
upstream late: not found
--- error_log eval
qr{\[warn\] .*dyups: files are not loaded: upstream late: superseded by layout}


=== TEST 10: when it is gone, changes are made again
--- http_config eval: Dyups::proxy(shm => 'again')
--- init
main::supersede('again');
main::free('again');
--- config
    location = /t {
        content_by_lua_block {
            T.say(dyups.add_peer("api", { host = "10.0.0.1", port = 81 }))
        }
    }
--- response_body
true
