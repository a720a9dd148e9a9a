# Sourced by the scripts here. Finds the nginx to use, and the modules it has to load to speak Lua.
#
#   find_nginx             sets nginx, an absolute path (USR2 executes argv[0], so a bare name would not do):
#                          $DYUPS_NGINX if set ($NGINX is nginx's own, for sockets), else openresty, else nginx
#   find_module NAME PAT   sets module to the .so that adds ngx_http_NAME_module, or to "" when it is compiled in (PAT
#                          matches its --add-module directory). False when this nginx has it in neither way
# shellcheck shell=bash

nginx=
find_nginx() {
    local name path
    # A user's PATH often lacks the sbin directories.
    local PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
    for name in ${DYUPS_NGINX:-openresty nginx}; do
        path=$(type -P "$name") || continue
        case $path in
            /*) nginx=$path ;;
            *) nginx=$PWD/$path ;;
        esac
        nginx_args=$("$nginx" -V 2>&1) || continue
        return 0
    done
    nginx=
    return 1
}

module=
find_module() {
    local dir
    module=
    if [[ $nginx_args =~ --add-module=[^[:space:]]*($2) ]]; then
        return 0
    fi
    if [[ $nginx_args =~ --modules-path=([^[:space:]\']+) ]]; then
        dir=${BASH_REMATCH[1]}
    elif [[ $nginx_args =~ --prefix=([^[:space:]\']+) ]]; then
        dir=${BASH_REMATCH[1]}/modules
    else
        dir=/usr/local/nginx/modules
    fi
    module=$dir/ngx_http_$1_module.so
    [[ $1 == ndk ]] && module=$dir/ndk_http_module.so
    [[ -f $module ]] || { module=; return 1; }
}

# Sets modules: those that have to be loaded for Lua, in order. False when this nginx cannot have Lua.
find_lua_modules() {
    modules=()
    find_module lua '(lua-nginx-module|ngx_lua)' || return 1
    [[ -z $module ]] && return 0
    local lua=$module
    find_module ndk '(ngx_devel_kit|ndk)' || return 1
    modules=(${module:+"$module"} "$lua")
}
