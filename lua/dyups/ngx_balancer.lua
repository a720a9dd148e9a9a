-- The functions of ngx_lua that balance calls. Those that this ngx_lua does not have are false or nil.
--
-- ngx.balancer is there in nginx alone. In stream {} it is there too, but a session is not a request.

local has_balancer, balancer = pcall(require, "ngx.balancer")
has_balancer = has_balancer and ngx.config.subsystem == "http"
local has_base, base = pcall(require, "resty.core.base")

return {
    is_here = has_balancer,
    get_request = has_base and base.get_request,
    set_current_peer = has_balancer and balancer.set_current_peer,
    set_more_tries = has_balancer and balancer.set_more_tries,
    set_timeouts = has_balancer and balancer.set_timeouts,
    get_last_failure = has_balancer and balancer.get_last_failure,
    enable_keepalive = has_balancer and balancer.enable_keepalive,
}
