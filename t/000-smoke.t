# The ground that the other files stand on: nginx starts with two workers, and the library loads in it.

use lib 't/lib';
use Dyups;
use Test::Nginx::Socket;

plan tests => repeat_each() * 2 * 4;

master_on();
workers(2);
no_long_string();
run_tests();

__DATA__

=== TEST 1: the library that init_by_lua loads is there in every worker
--- http_config eval
Dyups::http_config(
    init => q{
        library = require("ffi").load("$library")
    },
    more => q{
        lua_shared_dict seen 1m;
        init_worker_by_lua_block {
            ngx.shared.seen:set(ngx.worker.id(), type(library))
        }
    },
)
--- config
    location = /t {
        content_by_lua_block {
            local seen = ngx.shared.seen
            for _ = 1, 200 do
                if seen:get(0) and seen:get(1) then
                    break
                end
                ngx.sleep(0.01)
            end
            ngx.say(ngx.worker.count(), " workers: ", seen:get(0), " ", seen:get(1))
        }
    }
--- request
GET /t
--- response_body
2 workers: userdata userdata
--- error_code: 200
--- no_error_log
[error]
[alert]


=== TEST 2: workers run as the user that tools/prove chose
--- http_config eval
Dyups::http_config()
--- config
    location = /t {
        content_by_lua_block {
            for line in io.lines("/proc/self/status") do
                local uid = line:match("^Uid:%s+(%d+)")
                if uid then
                    ngx.say(uid)
                end
            end
        }
    }
--- request
GET /t
--- response_body eval
my ($user) = split " ", $ENV{TEST_NGINX_WORKER_USER} // "";
(defined $user ? scalar getpwnam $user : $>) . "\n"
--- error_code: 200
--- no_error_log
[error]
[alert]
