# Sourced by the scripts here, by root. Makes Debian systems of other releases in directories, and runs commands in them.
#
#   make_root DIR SUITE            debootstraps SUITE into DIR, unless it is there. The archive, and how to reach it, are this
#                                  machine's: apt's sources, keys and proxies, cargo's configuration, certificates
#   enter DIR NET [PATH]...        sets entering to what has to stand before a command that is to run in DIR, where it has processes
#                                  and mounts of its own, and processes that outlive it are killed. Each PATH is there too. NET is
#                                  "own", a network of nothing but a loopback, or "shared", this machine's
#
# shellcheck shell=bash

# The archives of Debian among apt's sources: lines of "LABEL URI".
debian_archives() {
    # shellcheck disable=SC2016 # the words are apt's
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 ~ /^Debian(-Security)?$/ && !seen[$0]++'
}

# The sources.list of a machine of SUITE that reaches the archives as this one does.
sources_for() { # SUITE
    local label uri
    while read -r label uri; do
        case $label/$1 in
            Debian-Security/forky | Debian-Security/sid) ;;
            Debian-Security/*) echo "deb $uri $1-security main" ;;
            Debian/forky | Debian/sid) echo "deb $uri $1 main" ;;
            Debian/*) printf 'deb %s %s main\n' "$uri" "$1" "$uri" "$1-updates" ;;
        esac
    done < <(debian_archives)
}

# Lets the system in DIR reach the same places as this machine, by the same ways. Credentials stay here.
connect_root() { # DIR SUITE
    local file
    cp /etc/resolv.conf /etc/hosts "$1/etc/"
    rm -f "$1"/etc/apt/sources.list.d/*
    sources_for "$2" >"$1/etc/apt/sources.list"
    for file in /etc/apt/trusted.gpg.d /etc/apt/keyrings /usr/local/share/ca-certificates; do
        [[ -d $file ]] || continue
        mkdir -p "$1$file"
        cp -rn "$file/." "$1$file/"
    done
    apt-config dump | grep -E '^Acquire::(https?|ftp|Check|Retries|Allow)' >"$1/etc/apt/apt.conf.d/90machine"
    mkdir -p "$1/root/.cargo"
    for file in "${CARGO_HOME:-$HOME/.cargo}"/config{,.toml}; do
        if [[ -f $file ]]; then cp "$file" "$1/root/.cargo/"; fi
    done
}

make_root() { # DIR SUITE
    [[ -e $1/.made ]] && return
    local archive proxy= script=$2
    archive=$(debian_archives | awk '$1 == "Debian" { print $2; exit }')
    if [[ -z $archive ]]; then
        echo "roots: apt-get has no Debian archive among its sources" >&2
        return 1
    fi
    # A release that debootstrap does not know yet is made as sid is.
    [[ -e /usr/share/debootstrap/scripts/$2 ]] || script=sid
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    rm -rf --one-file-system "$1"
    mkdir -p "$1"
    if ! env ${proxy:+http_proxy="$proxy"} debootstrap --variant=minbase "$2" "$1" "$archive" "$script" >"$1.log" 2>&1; then
        tail -n 20 "$1.log" >&2
        return 1
    fi
    connect_root "$1" "$2"
    touch "$1/.made"
}

# How a command begins in a root: with mounts that no other process sees.
# shellcheck disable=SC2016 # it is expanded there
inside='
    set -e
    root=$1 net=$2 count=$3
    shift 3
    # Packets to other machines get lost there, as in the field. Without a route, connecting would be an error at once.
    [[ $net == shared ]] || { ip link set lo up; ip route add default dev lo; }
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    for ((; count; count--)); do
        mkdir -p "$root$1"
        mount --bind "$1" "$root$1"
        shift
    done
    mkdir -p "$root/.machine"
    cd "$root"
    pivot_root . .machine
    cd /
    umount -l /.machine
    set +e
    # This shell is the first process there: it has to wait for all others that lose their parents.
    "$@"
    exit $?'

enter() { # DIR NET [PATH]...
    local root=$1 net=$2 name value
    shift 2
    entering=(env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
    # How to reach registries, and nothing else of this environment.
    while IFS='=' read -r name value; do
        case $name in
            *TOKEN* | *CREDENTIAL*) ;;
            http_proxy | https_proxy | no_proxy | HTTP_PROXY | HTTPS_PROXY | NO_PROXY | TERM | \
                CARGO_HTTP_* | CARGO_NET_* | CARGO_SOURCE_* | CARGO_REGISTRIES_*) entering+=("$name=$value") ;;
        esac
    done < <(env)
    # unshare waits with INT and TERM blocked. KILL ends it, and all that runs there with it.
    entering+=(unshare --mount --pid --fork --kill-child)
    [[ $net == shared ]] || entering+=(--net)
    entering+=(bash -c "$inside" "in $root" "$root" "$net" $# "$@")
}
