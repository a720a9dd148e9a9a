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

# The checkout: tools/prove runs tests from there.
my $root = Cwd::getcwd();

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
my $dir   = "$target/t-work/" . File::Basename::basename($0, '.t');

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

# Takes the files of a region away, so that the next nginx begins with none.
sub clean {
    my $path = shm_path(@_);
    unlink glob "$path*";
}

File::Path::remove_tree($dir);

END {
    # Test::Nginx forks; only the process that began the file ends it.
    File::Path::remove_tree($dir) if $$ == $owner && !$ENV{TEST_NGINX_NO_CLEAN};
}

# The http block's part. Arguments, all optional: init, Lua for init_by_lua_block, in which $root, $library and
# $shm_path are replaced; more, nginx directives; shm, the name of the region.
sub http_config {
    my %arg = (init => '', more => '', @_);
    my %value = (root => $root, library => library(), shm_path => shm_path($arg{shm}));
    (my $init = $arg{init}) =~ s/\$(root|library|shm_path)\b/$value{$1}/g;
    return <<"CONF";
    lua_package_path "$root/lua/?.lua;;";
    lua_package_cpath "$target/release/?.so;;";
    init_by_lua_block {
        $init
    }
    $arg{more}
CONF
}

1;
