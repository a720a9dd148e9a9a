package Dyups;

# What the files in t/ share: where things are, the http block that loads dyups, and a region of their own.
#
#     use Dyups;
#     use Test::Nginx::Socket 'no_plan';
#     master_on();
#     workers(2);
#     run_tests();
#     __DATA__
#     === TEST 1: ...
#     --- http_config eval: Dyups::http_config(init => q{ ... })

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Path ();
use File::Temp ();
use IO::Socket::INET ();

# The checkout: tools/prove runs tests from there.
my $root = Cwd::getcwd();

# The files of t/ run side by side, each with ports and a server root of its own. Test::Nginx, which is loaded later, reads both here.
# Another process may listen on some of these ports: the file takes the next ones that are free then.
my $name = File::Basename::basename($0, '.t');
use constant PORTS => 20;
{
    my @names = map { File::Basename::basename($_, '.t') } sort glob "$root/t/*.t";
    my ($rank) = grep { $names[$_] eq $name } 0 .. $#names;
    my $first = ($ENV{TEST_NGINX_PORT} || 1984) + PORTS * ($rank // @names);
    $first += PORTS * (@names + 1) until $first > 30_000 || all_free($first);
    $ENV{TEST_NGINX_PORT} = $first;
    $ENV{TEST_NGINX_SERVROOT} .= "/$name" if $ENV{TEST_NGINX_SERVROOT};
}

# Whether no process listens on the ports from this one on.
sub all_free {
    my ($first) = @_;
    for my $port ($first .. $first + PORTS - 1) {
        IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => $port, Listen => 1, ReuseAddr => 1) or return 0;
    }
    return 1;
}

# Where cargo builds, and where tests may write.
my $target = $ENV{DYUPS_TARGET} || "$root/target";

sub root   { $root }
sub target { $target }

# The version in Cargo.toml, which the library has in its name.
my $version;

sub version {
    return $version if defined $version;
    open my $in, '<', "$root/Cargo.toml" or die "$root/Cargo.toml: $!: run tests with tools/prove\n";
    while (<$in>) {
        return $version = $1 if /^version\s*=\s*"(.*)"/;
    }
    die "$root/Cargo.toml has no version\n";
}

sub library { "$target/release/libdyups-" . version() . '.so' }

# Said here, since a die in an `eval` section of a test becomes that section's text.
sub import {
    -f library() or die library() . " is not there: run make build\n";
}

# A directory of this test file alone, emptied when the file begins and removed when it ends. Workers may pass through
# it, but not list it.
my $owner = $$;
my $dir   = "$target/t-work/$name";

sub dir {
    if (!-d $dir) {
        File::Path::make_path($dir);
        chmod 0711, $dir or die "$dir: $!\n";
    }
    return $dir;
}

# Where the region of this test file lies. Blocks that name none share "region"; a block that wants a table that no
# other has seen names its own.
sub shm_path { dir() . '/' . ($_[0] // 'region') }

# The byte of its lock file that a writer locks, or a writer of a layout that is newer by so much: see src/shm/lock.rs.
sub writer_byte {
    my ($name, $newer) = @_;
    my ($layout) = map { /\.v(\d+)$/ } glob shm_path($name) . '.v*';
    return ($layout + ($newer // 0) << 12) + 1;
}

# A port of its own: 0 is the one that Test::Nginx listens on. proxy() uses those up to 8.
sub port { ($ENV{TEST_NGINX_SERVER_PORT} || $ENV{TEST_NGINX_PORT} || 1984) + $_[0] }

# Where port(ANY_WORKER) answers: see any_worker in t/lib/dyups_test.lua.
use constant ANY_WORKER => 5;

# Writes a file into dir() and tells its path.
sub file {
    my ($name, $text) = @_;
    my $path = dir() . "/$name";
    open my $out, '>', $path or die "$path: $!\n";
    print $out $text;
    close $out or die "$path: $!\n";
    return $path;
}

# A path for a unix socket, which has to be short: in dir(), or in a directory of its own when that is a long one.
my $sockets;

sub socket {
    my $path = dir() . "/$_[0]";
    return $path if length $path < 100;
    $sockets //= do {
        my $made = File::Temp::tempdir('dyups-t-XXXXXX', TMPDIR => 1);
        chmod 0711, $made or die "$made: $!\n";
        $made;
    };
    return "$sockets/$_[0]";
}

# Takes the files of a region away, so that the next nginx begins with none.
sub clean {
    my $path = shm_path(@_);
    unlink glob "$path*";
}

File::Path::remove_tree($dir);

END {
    # Test::Nginx forks; only the process that began the file ends it.
    File::Path::remove_tree($dir, $sockets // ()) if $$ == $owner && !$ENV{TEST_NGINX_NO_CLEAN};
}

# The http block's part. Arguments, all optional: init, Lua for init_by_lua_block, in which $root, $library and
# $shm_path are replaced; more, nginx directives; shm, the name of the region.
sub http_config {
    my %arg = (init => '', more => '', @_);
    my %value = (root => $root, library => library(), shm_path => shm_path($arg{shm}));
    (my $init = $arg{init}) =~ s/\$(root|library|shm_path)\b/$value{$1}/g;
    return <<"CONF";
    lua_package_path "$root/lua/?.lua;$root/t/lib/?.lua;;";
    lua_package_cpath "$target/release/?.so;;";
    init_by_lua_block {
        $init
    }
    $arg{more}
CONF
}

# What a request is when a block does not say, and that nothing may be logged that an operator would have to look at.
sub defaults {
    Test::Nginx::Util::add_block_preprocessor(sub {
        my $block = shift;
        $block->set_value(request => 'GET /t') if !defined $block->request && !defined $block->raw_request;
        $block->set_value(no_error_log => "[error]\n[alert]\n[crit]")
            if !defined $block->no_error_log && !defined $block->error_log;
    });
}

# The http block of a proxy whose upstreams change, with a region that no other block has seen. Arguments, all optional:
# setup, the inside of dyups.setup{...}; shm, the name of a region that blocks share; init and more, as in http_config;
# init_worker, Lua; size, shm_size; and these are there:
#
#   require "dyups" as the global dyups, require "dyups_test" as the global T, which knows its shm_path
#   upstream dyups { }, whose name is the Host of the request, and its key the argument key
#   backends at port(1) to port(4), which answer with their port
#   the HTTP interface at port(8), and below /prefix there
#   port(ANY_WORKER), where either worker may answer, for T.in_other_worker
my $regions = 0;

sub proxy {
    my %arg = (setup => '', init => '', init_worker => '', more => '', size => '1m', @_);
    my $shm     = $arg{shm} // 'region-' . ++$regions;
    my $listen  = join "\n", map { "listen 127.0.0.1:" . port($_) . ';' } 1 .. 4;
    my $any     = port(ANY_WORKER);
    my $http    = port(0);
    return http_config(
        shm  => $shm,
        init => qq{
            dyups = require "dyups"
            T = require "dyups_test"
            T.port, T.any_worker, T.pid, T.shm_path = $http, $any, $$, "\$shm_path"
            assert(dyups.setup{ shm_path = "\$shm_path", shm_size = "$arg{size}", $arg{setup} })
            require "dyups.admin"
            require "ngx.balancer"
            $arg{init}
        },
        more => qq[
            lua_socket_log_errors off;
            init_worker_by_lua_block {
                assert(dyups.start())
                $arg{init_worker}
            }
            upstream dyups {
                server 127.0.0.1:1;
                balancer_by_lua_block {
                    local peer, err = dyups.find(ngx.var.host, ngx.var.arg_key)
                    if not peer then
                        ngx.log(ngx.WARN, "dyups: ", err)
                        return ngx.exit(-3)
                    end
                    assert(require("ngx.balancer").set_current_peer(peer))
                }
                keepalive 16;
            }
            server {
                $listen
                location / { return 200 "\$server_port\\n"; }
            }
            server {
                listen 127.0.0.1:$any reuseport;
                location / { content_by_lua_block { T.any_worker_answers() } }
            }
            server {
                listen 127.0.0.1:] . port(6) . qq[;
                location / {
                    proxy_pass http://dyups;
                    proxy_http_version 1.1;
                    proxy_set_header Connection "";
                }
            }
            server {
                listen 127.0.0.1:] . port(8) . qq[;
                client_max_body_size 16m;
                location / { content_by_lua_block { require("dyups.admin").serve() } }
                location /prefix/ { content_by_lua_block { require("dyups.admin").serve("/prefix") } }
            }
            $arg{more}
        ],
    );
}

1;
