/* Uses dyups as a C program would: include/dyups.h, the library, nothing else of the project.
 *
 *     main REGION VERSION
 *
 * Every check says its line when it fails; the exit status is 0 when none did. */

#define _XOPEN_SOURCE 700

#include "dyups.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int failures;

#define CHECK(what)                                                                                  \
    do {                                                                                             \
        if (!(what)) {                                                                               \
            failures++;                                                                              \
            printf("%s:%d: %s (dyups_error: %s)\n", __FILE__, __LINE__, #what, dyups_error());       \
        }                                                                                            \
    } while (0)

/* Text and its length, as most functions take it. */
#define T(text) (text), strlen(text)

static int says(const char *part)
{
    return strstr(dyups_error(), part) != NULL;
}

static int is(dyups_text text, const char *expected)
{
    return text.len == strlen(expected) && memcmp(text.data, expected, text.len) == 0;
}

static int has(dyups_text text, const char *part)
{
    size_t len = strlen(part), i;
    for (i = 0; i + len <= text.len; i++) {
        if (memcmp(text.data + i, part, len) == 0) {
            return 1;
        }
    }
    return 0;
}

static int picked_is(const dyups_picked *picked, const char *expected)
{
    return picked->len == (int32_t)strlen(expected) && memcmp(picked->text, expected, strlen(expected)) == 0;
}

static int32_t find(dyups_handle *handle, const char *key, uint32_t method, dyups_tried *tried, dyups_picked *picked)
{
    return dyups_find(handle, key, key ? strlen(key) : 0, method, tried, picked);
}

static void the_library_says_what_it_is(const char *version)
{
    CHECK(dyups_abi() == DYUPS_ABI);
    CHECK(strcmp(dyups_version(), version) == 0);
    CHECK(dyups_version() == dyups_version());
    CHECK(strstr(dyups_cdef(), "dyups_find") != NULL);
    CHECK(strstr(dyups_cdef(), "\n#") == NULL && dyups_cdef()[0] != '#');
    CHECK(strcmp(dyups_error(), "") == 0);
    CHECK(strcmp(dyups_notes(), "") == 0);
}

static void before_setup_everything_says_so(void)
{
    dyups_text text;
    dyups_reply reply;
    dyups_probe probe;
    dyups_news news;
    CHECK(dyups_start() == DYUPS_NOT_SET_UP && says("setup"));
    CHECK(dyups_lost() == DYUPS_NOT_SET_UP && says("setup"));
    CHECK(dyups_open(T("api")) == NULL && says("setup"));
    CHECK(dyups_build_ring(T("api"), 0) == DYUPS_NOT_SET_UP);
    CHECK(dyups_add_peer(T("api"), T("{\"host\":\"10.0.0.1\"}"), 0) == DYUPS_NOT_SET_UP);
    CHECK(dyups_set_peer(T("api"), T("{\"host\":\"10.0.0.1\"}"), 0) == DYUPS_NOT_SET_UP);
    CHECK(dyups_delete_peer(T("api"), T("{\"host\":\"10.0.0.1\"}"), 0) == DYUPS_NOT_SET_UP);
    CHECK(dyups_set_upstream(T("api"), T("{\"peers\":[]}"), 0) == DYUPS_NOT_SET_UP);
    CHECK(dyups_delete_upstream(T("api"), T("null"), 0) == DYUPS_NOT_SET_UP);
    CHECK(dyups_healthcheck(T("api"), T("{}"), 0) == DYUPS_NOT_SET_UP);
    CHECK(dyups_probe_tick() == DYUPS_NOT_SET_UP && says("setup"));
    CHECK(dyups_probe_next(&probe) == DYUPS_NOT_SET_UP && dyups_probe_news(&news) == DYUPS_NOT_SET_UP);
    CHECK(dyups_probe_feed(1, T("x")) == DYUPS_NOT_SET_UP && dyups_probe_end(1, 0, NULL, 0) == DYUPS_NOT_SET_UP);
    CHECK(dyups_probe_stop() == DYUPS_NOT_SET_UP);
    CHECK(dyups_probe_left(1) == 0 && dyups_probes_due() == 0 && dyups_probing() == 0);
    CHECK(dyups_status(NULL, 0, &text) == DYUPS_NOT_SET_UP);
    CHECK(dyups_admin(T("GET"), T("/list"), T(""), 0, &reply) == DYUPS_NOT_SET_UP && says("setup"));
    CHECK(dyups_method(T("rr")) > 0);
}

static void setup_refuses_and_then_maps(const char *region)
{
    char conf[1024];

    CHECK(dyups_setup(T("")) == DYUPS_INVALID && says("JSON"));
    CHECK(dyups_setup(T("5")) == DYUPS_INVALID && says("setup: 5: allowed: an object"));
    CHECK(dyups_setup(T("{\"shm_size\":1}")) == DYUPS_INVALID && says("setup.shm_size: 1: allowed"));
    CHECK(dyups_setup(T("{\"shm\":1}")) == DYUPS_INVALID && says("setup.shm: not known"));
    CHECK(dyups_setup(T("{\"shm_path\":\"/nowhere/at/all\"}")) == DYUPS_SYSTEM && says("/nowhere/at/all"));
    CHECK(dyups_setup(NULL, 0) == DYUPS_INVALID);
    CHECK(dyups_setup(NULL, 5) == DYUPS_INVALID && says("conf: NULL: allowed"));
    CHECK(dyups_start() == DYUPS_NOT_SET_UP);

    snprintf(conf, sizeof(conf), "{\"shm_path\":\"%s\",\"shm_size\":\"1m\"}", region);
    CHECK(dyups_setup(T(conf)) == 0);
    CHECK(strcmp(dyups_notes(), "") == 0);
    CHECK(dyups_setup(T(conf)) == 0);
    CHECK(strcmp(dyups_notes(), "") == 0);

    snprintf(conf, sizeof(conf), "{\"shm_path\":\"%s\",\"shm_size\":\"2m\"}", region);
    CHECK(dyups_setup(T(conf)) == 0);
    CHECK(strstr(dyups_notes(), "shm_size") != NULL && dyups_notes()[strlen(dyups_notes()) - 1] == '\n');

    snprintf(conf, sizeof(conf), "{\"shm_path\":\"%s\",\"shm_size\":\"1m\",\"files\":\"/nowhere\"}", region);
    CHECK(dyups_setup(T(conf)) == DYUPS_SYSTEM && says("/nowhere"));
    CHECK(dyups_lost() == 0);
}

static void a_worker_has_one_slot(void)
{
    int32_t slot = dyups_start();
    CHECK(slot >= 0 && slot < 512);
    CHECK(dyups_start() == slot);
}

static void a_probe_is_taken_answered_and_judged(void)
{
    dyups_probe probe;
    dyups_news news;
    int ticks, next = 0;
    CHECK(dyups_probe_next(&probe) == 0);
    CHECK(dyups_add_peer(T("probed"), T("{\"host\":\"10.0.0.7\",\"port\":81}"), 0) == 0);
    CHECK(dyups_healthcheck(T("probed"), T("{\"interval\":10,\"fall\":1}"), 0) == 0);
    for (ticks = 0; ticks < 10000 && next == 0; ticks++) {
        CHECK(dyups_probe_tick() >= 0);
        next = dyups_probe_next(&probe);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    CHECK(next == 1 && has(probe.host, "10.0.0.7") && probe.port == 81 && probe.tls == 0 && probe.answers == 1);
    CHECK(has(probe.request, "GET / HTTP/1.1\r\nHost: 10.0.0.7:81\r\n") && probe.name.len == 0);
    CHECK(dyups_probing() == 1 && probe.timeout > 0 && dyups_probe_left(probe.id) > 0);
    CHECK(dyups_probe_feed(probe.id, T("HTTP/1.1 20")) > 0);
    CHECK(dyups_probe_feed(probe.id, NULL, 5) == DYUPS_INVALID && says("data: NULL"));
    CHECK(dyups_probe_feed(probe.id + 1, T("x")) == 0 && dyups_probe_left(probe.id + 1) == 0);
    CHECK(dyups_probe_end(probe.id, 6, NULL, 0) == DYUPS_INVALID && says("stage: 6: allowed: 0 to 5"));
    CHECK(dyups_probe_end(probe.id, 4, NULL, 9) == DYUPS_INVALID && says("error: NULL"));
    CHECK(dyups_probe_end(probe.id + 1, 0, NULL, 0) == 0 && dyups_probing() == 1);
    CHECK(dyups_probe_end(probe.id, 4, T("closed")) == 0 && dyups_probing() == 0);
    CHECK(dyups_probe_news(&news) == 1 && news.is_change == 1 && news.after == 1);
    CHECK(has(news.upstream, "probed") && has(news.server, "10.0.0.7:81") && has(news.from, "up") && has(news.to, "down"));
    CHECK(has(news.line, "upstream probed: peer 10.0.0.7:81 went from up to down after 1 failed probe: "));
    CHECK(dyups_probe_news(&news) == 0 && dyups_probe_end(probe.id, 0, NULL, 0) == 0);
    CHECK(dyups_probe_next(NULL) == DYUPS_INVALID && says("orders: NULL"));
    CHECK(dyups_probe_news(NULL) == DYUPS_INVALID && says("news: NULL"));
    CHECK(dyups_probe_stop() == 0 && dyups_probes_due() == 0 && dyups_probe_next(&probe) == 0);
    CHECK(dyups_delete_upstream(T("probed"), T("{\"force\":true}"), 0) == 0);
}

static void peers_are_made_changed_and_deleted(void)
{
    dyups_text text;
    dyups_slice slice;

    CHECK(dyups_add_peer(T("api"), T("{\"host\":\"10.0.0.1\",\"port\":8080,\"weight\":5}"), 1000) == 0);
    CHECK(dyups_add_peer(T("api"), T("{\"server\":\"10.0.0.2:8080\"}"), 0) == 0);
    CHECK(dyups_add_peer(T("api"), T("{\"host\":\"[::1]\",\"port\":8080}"), UINT32_MAX) == 0);
    CHECK(dyups_status(T("api"), &text) == 0);
    CHECK(has(text, "{\"host\":\"10.0.0.1\",\"port\":8080,\"weight\":5,"));
    CHECK(dyups_set_peer(T("api"), T("{\"host\":\"10.0.0.1\",\"port\":8080,\"max_fails\":7}"), 0) == 0);
    CHECK(dyups_status(T("api"), &text) == 0 && has(text, "\"weight\":5") && has(text, "\"max_fails\":7"));

    CHECK(dyups_set_peer(T("api"), T("{\"host\":\"10.0.0.9\"}"), 0) == DYUPS_NOT_FOUND && says("10.0.0.9:80"));
    CHECK(dyups_set_peer(T("none"), T("{\"host\":\"10.0.0.9\"}"), 0) == DYUPS_NOT_FOUND && says("none"));
    CHECK(dyups_delete_peer(T("api"), T("{\"host\":\"10.0.0.9\"}"), 0) == DYUPS_NOT_FOUND);
    CHECK(dyups_delete_peer(T("none"), T("{\"host\":\"10.0.0.9\"}"), 0) == DYUPS_NOT_FOUND);
    CHECK(dyups_add_peer(T("api"), T("{\"host\":\"10.0.0.9\",\"weight\":-1}"), 0) == DYUPS_INVALID);
    CHECK(strcmp(dyups_error(), "peer.weight: -1: allowed: an integer from 0 to 65535") == 0);
    CHECK(dyups_add_peer(T("a b"), T("{\"host\":\"10.0.0.9\"}"), 0) == DYUPS_INVALID && says("upstream \"a b\""));
    CHECK(dyups_add_peer("a\0b", 3, T("{\"host\":\"10.0.0.9\"}"), 0) == DYUPS_INVALID && says("a\\x00b"));
    CHECK(dyups_status(T("none"), &text) == DYUPS_NOT_FOUND);
    CHECK(dyups_report(T("api"), NULL, 0, T("null"), NULL, 0, 0, &slice) == 0 && has(slice.text, "\"requests\":0"));
    CHECK(dyups_report(T("none"), NULL, 0, T("null"), NULL, 0, 0, &slice) == DYUPS_NOT_FOUND);
    CHECK(dyups_report(T("api"), NULL, 0, T("{\"seconds\": 0}"), NULL, 0, 0, &slice) == DYUPS_INVALID);

    CHECK(dyups_healthcheck(T("api"), T("{\"fall\":5}"), 0) == 0);
    CHECK(dyups_status(T("api"), &text) == 0 && has(text, "\"healthcheck\":{\"type\":\"http\"") && has(text, "\"fall\":5"));
    CHECK(dyups_healthcheck(T("api"), T("{\"fall\":0}"), 0) == DYUPS_INVALID);
    CHECK(strcmp(dyups_error(), "healthcheck.fall: 0: allowed: an integer from 1 to 255") == 0);
    CHECK(dyups_status(T("api"), &text) == 0 && has(text, "\"fall\":5"));
    CHECK(dyups_healthcheck(T("none"), T("{}"), 0) == DYUPS_NOT_FOUND && says("upstream none: not found"));
    CHECK(dyups_healthcheck(T("api"), T("false"), 0) == 0);
    CHECK(dyups_status(T("api"), &text) == 0 && has(text, "\"healthcheck\":false"));

    CHECK(dyups_set_upstream(T("tmp"), T("{\"peers\":[{\"host\":\"10.0.0.1\"}],\"method\":\"chash\"}"), 0) == 0);
    CHECK(dyups_status(T("tmp"), &text) == 0 && has(text, "\"method\":\"chash\"") && !has(text, "\"api\""));
    CHECK(dyups_delete_upstream(T("tmp"), T("null"), 0) == DYUPS_NOT_EMPTY && says("1 peer:"));
    CHECK(dyups_delete_upstream(T("tmp"), T("{\"force\":false}"), 0) == DYUPS_NOT_EMPTY);
    CHECK(dyups_delete_upstream(T("tmp"), T("{\"force\":1}"), 0) == DYUPS_INVALID && says("options.force: 1"));
    CHECK(dyups_delete_peer(T("tmp"), T("{\"server\":\"10.0.0.1:80\"}"), 0) == 0);
    CHECK(dyups_delete_upstream(T("tmp"), T("null"), 0) == 0);
    CHECK(dyups_delete_upstream(T("tmp"), T("{\"force\":true}"), 0) == DYUPS_NOT_FOUND);
    CHECK(dyups_status(NULL, 0, &text) == 0 && has(text, "\"api\"") && !has(text, "\"tmp\""));
}

/* Reads an answer to its end, and tells the number of its slices. */
static int slices_of(int32_t code, dyups_slice *slice, const char *wanted, int *found)
{
    int slices = 0;

    for (*found = 0; code == 0; code = dyups_next(slice, 1)) {
        slices++;
        *found += has(slice->text, wanted);
        CHECK(slice->text.len > 1 && slice->text.data[0] == '{' && slice->text.data[slice->text.len - 1] == '}');
        if (slice->rest == 0) {
            return slices;
        }
    }
    return -1;
}

static void a_long_answer_comes_in_slices(void)
{
    dyups_slice slice, other;
    uint64_t first;
    int i, found;

    CHECK(dyups_status_slices(NULL, 0, T("null"), 0, &slice) == 0 && slice.rest == 0 && has(slice.text, "\"changed\":false"));
    CHECK(slices_of(dyups_status_slices(T("api"), T("{\"stats\":true}"), 1, &slice), &slice, "\"stats\"", &found) > 3);
    CHECK(found > 2);
    CHECK(slices_of(dyups_report(T("api"), NULL, 0, T("null"), T("0;0=0:2a"), 1, &slice), &slice, "\"server\"", &found) > 3);
    CHECK(found > 2);
    CHECK(dyups_next(&slice, 1) == DYUPS_NOT_FOUND && says("given up") && slice.rest == 0);
    CHECK(dyups_status_slices(NULL, 0, T("null"), 1, &slice) == 0 && slice.rest != 0);
    first = slice.rest;
    dyups_give_up(&slice);
    CHECK(slice.rest == 0 && dyups_next(&slice, 1) == DYUPS_NOT_FOUND);
    slice.rest = first;
    CHECK(dyups_next(&slice, 1) == DYUPS_NOT_FOUND);
    CHECK(dyups_status_slices(NULL, 0, T("null"), 1, &slice) == 0 && slice.rest > first);
    /* The 17th answer that is not ended ends the oldest one. */
    for (i = 0; i < 16; i++) {
        CHECK(dyups_status_slices(NULL, 0, T("null"), 1, &other) == 0 && other.rest != 0);
    }
    CHECK(dyups_next(&slice, 1) == DYUPS_NOT_FOUND && dyups_next(&other, 0) == 0 && other.rest == 0);
    CHECK(dyups_report(T("api"), NULL, 0, T("null"), T("x"), 1, &slice) == DYUPS_INVALID && says("options.since: \"x\""));
    CHECK(dyups_report(T("api"), NULL, 0, T("null"), T("0;x"), 0, &slice) == DYUPS_INVALID && says("options.since: \"0;x\""));
    CHECK(dyups_report(T("api"), NULL, 0, T("{\"seconds\": 9}"), T("0"), 0, &slice) == DYUPS_INVALID);
    CHECK(dyups_status_slices(T("none"), T("null"), 1, &slice) == DYUPS_NOT_FOUND);
    CHECK(dyups_status_slices(NULL, 0, T("{\"stat\":true}"), 1, &slice) == DYUPS_INVALID && says("options.stat"));
    CHECK(dyups_status_slices(NULL, 0, T("null"), 1, NULL) == DYUPS_INVALID && says("slice: NULL"));
    CHECK(dyups_next(NULL, 1) == DYUPS_INVALID);
    dyups_give_up(NULL);
}

static int leads_to(const char *host, const char *key, const char *expected)
{
    dyups_routed routed;
    return dyups_route(T(host), key, key ? strlen(key) : 0, NULL, &routed) == 1 && routed.len == strlen(expected)
        && memcmp(routed.text, expected, routed.len) == 0;
}

static void a_host_leads_to_an_upstream(void)
{
    dyups_routed routed;
    dyups_slice slice;
    int i, green = 0;
    const char *split = "{\"targets\": [[\"blue\", 3], [\"green\", 1]], \"key\": \"$cookie_u\"}";

    CHECK(dyups_set_upstream(T("blue"), T("{\"peers\":[]}"), 0) == 0);
    CHECK(dyups_set_upstream(T("green"), T("{\"peers\":[]}"), 0) == 0);
    CHECK(dyups_route(T("www.example.com"), NULL, 0, NULL, &routed) == 0);
    CHECK(dyups_set_route(T("WWW.example.com."), T("\"blue\""), 0) == 0);
    CHECK(leads_to("www.example.com", NULL, "blue") && leads_to("www.EXAMPLE.com:80", "", "blue"));
    CHECK(dyups_set_route(T("*.example.com"), T(split), 0) == 0);
    for (i = 0; i < 40; i++) {
        green += leads_to("a.example.com", NULL, "green");
    }
    CHECK(green == 10);
    CHECK(leads_to("a.example.com", "a key", "blue") == leads_to("a.example.com", "a key", "blue"));
    CHECK(dyups_route_variable(T("a.example.com"), &routed) == 1 && routed.len == 8 && !memcmp(routed.text, "cookie_u", 8));
    CHECK(dyups_route_variable(T("www.example.com"), &routed) == 0 && dyups_route_variable(T("a"), &routed) == 0);
    CHECK(dyups_routes(0, &slice) == 0 && has(slice.text, "\"*.example.com\":{\"targets\":[[\"blue\",3],[\"green\",1]]"));
    CHECK(dyups_set_route(T("a"), T("\"none\""), 0) == DYUPS_NOT_FOUND && says("route a: upstream none: not found"));
    CHECK(dyups_set_route(T("a b"), T("\"blue\""), 0) == DYUPS_INVALID && says("route \"a b\""));
    CHECK(dyups_set_route(T("\xff"), T("\"blue\""), 0) == DYUPS_INVALID && says("route \"\\xff\""));
    CHECK(dyups_delete_upstream(T("green"), T("null"), 0) == DYUPS_NOT_EMPTY && says("route *.example.com leads there"));
    CHECK(dyups_delete_upstream(T("green"), T("{\"force\":true}"), 0) == 0 && leads_to("a.example.com", NULL, "blue"));
    CHECK(dyups_delete_upstream(T("blue"), T("{\"force\":true}"), 0) == 0);
    CHECK(dyups_route(T("a.example.com"), NULL, 0, NULL, &routed) == DYUPS_NOT_FOUND && says("no such upstream"));
    CHECK(dyups_delete_route(T("*.example.com"), T("null"), 0) == 0);
    CHECK(dyups_delete_route(T("*.example.com"), T("null"), 0) == DYUPS_NOT_FOUND);
    CHECK(dyups_delete_route(T("www.example.com"), T("{\"a\":1}"), 0) == DYUPS_INVALID && says("options.a"));
    CHECK(dyups_delete_route(T("www.example.com"), T("{}"), 0) == 0);
    CHECK(dyups_route(NULL, 1, NULL, 0, NULL, &routed) == DYUPS_INVALID && says("host: NULL"));
    CHECK(dyups_route_variable(NULL, 1, &routed) == DYUPS_INVALID && dyups_route_variable(T("a"), NULL) == DYUPS_INVALID);
    CHECK(dyups_route(T("a"), NULL, 0, NULL, NULL) == DYUPS_INVALID && dyups_routes(0, NULL) == DYUPS_INVALID);
}

static void round_robin_is_nginxs(void)
{
    static const char *const ORDER[] = {
        "10.0.0.1:8080", "10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.1:8080", "[::1]:8080", "10.0.0.1:8080", "10.0.0.1:8080",
    };
    dyups_handle *handle;
    dyups_picked picked;
    int i;

    CHECK(dyups_set_upstream(T("rr"),
                             T("{\"peers\":[{\"server\":\"10.0.0.1:8080\",\"weight\":5},{\"server\":\"10.0.0.2:8080\"},"
                               "{\"server\":\"[::1]:8080\"}]}"),
                             0) == 0);
    handle = dyups_open(T("rr"));
    CHECK(handle != NULL);
    if (!handle) {
        return;
    }
    for (i = 0; i < 70; i++) {
        int32_t index = find(handle, NULL, (uint32_t)dyups_method(T("rr")), NULL, &picked);
        CHECK(index >= 0 && index < 3 && picked.peers == 3 && picked.fresh == 1 && picked.wants_ring == 0);
        CHECK(picked_is(&picked, ORDER[i % 7]));
    }
    dyups_close(handle);
}

static void chash_keeps_a_key_and_asks_for_its_ring(void)
{
    uint32_t chash = (uint32_t)dyups_method(T("chash"));
    dyups_handle *handle = dyups_open(T("rr"));
    dyups_picked picked;
    int32_t first;

    CHECK(handle != NULL);
    if (!handle) {
        return;
    }
    first = find(handle, "key", chash, NULL, &picked);
    CHECK(first >= 0 && picked.wants_ring == 1);
    CHECK(find(handle, "key", 0, NULL, &picked) == first);
    CHECK(dyups_build_ring(T("rr"), 0) == 0);
    CHECK(find(handle, "key", chash, NULL, &picked) == first && picked.wants_ring == 0);
    CHECK(dyups_build_ring(T("none"), 0) == DYUPS_NOT_FOUND);
    CHECK(find(handle, NULL, chash, NULL, &picked) == dyups_find(handle, "", 0, chash, NULL, &picked));
    CHECK(dyups_find(handle, "a\0b", 3, chash, NULL, &picked) >= 0);
    dyups_close(handle);

    CHECK(dyups_method(T("nope")) == DYUPS_INVALID && says("rr, chash"));
    CHECK(dyups_method(NULL, 0) == 0 && dyups_method("", 0) == 0);
    CHECK(dyups_method(NULL, 2) == DYUPS_INVALID && says("method: NULL"));
}

static void texts_are_given_once_to_who_keeps_them(void)
{
    dyups_handle *handle;
    dyups_picked picked;
    int32_t index;

    CHECK(dyups_set_upstream(T("one"), T("{\"peers\":[{\"host\":\"unix:/run/a.sock\"}]}"), 0) == 0);
    handle = dyups_open(T("one"));
    CHECK(handle != NULL);
    if (!handle) {
        return;
    }
    index = dyups_find_cached(handle, NULL, 0, 0, NULL, &picked);
    CHECK(index == 0 && picked.fresh == 1 && picked_is(&picked, "unix:/run/a.sock"));
    CHECK(dyups_find_cached(handle, NULL, 0, 0, NULL, &picked) == 0 && picked.fresh == 0);
    CHECK(dyups_find_cached(handle, NULL, 0, 0, NULL, &picked) == 0 && picked.fresh == 0);
    CHECK(find(handle, NULL, 0, NULL, &picked) == 0 && picked.fresh == 1 && picked_is(&picked, "unix:/run/a.sock"));
    CHECK(dyups_set_upstream(T("one"), T("{\"peers\":[{\"host\":\"10.0.0.4\"}]}"), 0) == 0);
    CHECK(dyups_find_cached(handle, NULL, 0, 0, NULL, &picked) == 0 && picked.fresh == 1);
    CHECK(picked_is(&picked, "10.0.0.4:80"));
    CHECK(dyups_find_cached(handle, NULL, 0, 0, NULL, &picked) == 0 && picked.fresh == 0);

    /* The handle stays good when its upstream goes and comes back. */
    CHECK(dyups_delete_upstream(T("one"), T("{\"force\":true}"), 0) == 0);
    CHECK(dyups_find_cached(handle, NULL, 0, 0, NULL, &picked) == DYUPS_NOT_FOUND && says("upstream one: not found"));
    CHECK(dyups_open(T("one")) == NULL && says("upstream one: not found"));
    CHECK(dyups_set_upstream(T("one"), T("{\"peers\":[]}"), 0) == 0);
    CHECK(dyups_find_cached(handle, NULL, 0, 0, NULL, &picked) == DYUPS_NO_PEER && says("no live upstreams"));
    CHECK(dyups_add_peer(T("one"), T("{\"host\":\"10.0.0.5\"}"), 0) == 0);
    CHECK(dyups_find_cached(handle, NULL, 0, 0, NULL, &picked) == 0 && picked_is(&picked, "10.0.0.5:80"));
    dyups_close(handle);
}

static void tried_peers_are_passed_over(void)
{
    dyups_handle *handle = dyups_open(T("rr"));
    dyups_tried tried;
    dyups_picked picked;
    int seen[3] = {0, 0, 0}, i;

    CHECK(handle != NULL);
    if (!handle) {
        return;
    }
    memset(&tried, 0, sizeof(tried));
    for (i = 0; i < 3; i++) {
        int32_t index = find(handle, NULL, 1, &tried, &picked);
        CHECK(index >= 0 && index < 3 && !seen[index] && tried.count == (uint32_t)i + 1 && tried.idents[i] == picked.ident);
        if (index >= 0 && index < 3) {
            seen[index] = 1;
        }
    }
    CHECK(find(handle, NULL, 1, &tried, &picked) == DYUPS_NO_PEER && says("all of its peers were tried"));
    CHECK(tried.count == 3);
    tried.count = 0;
    CHECK(find(handle, "key", 2, &tried, &picked) >= 0 && tried.count == 1);
    /* A count that cannot be. */
    tried.count = UINT32_MAX;
    CHECK(find(handle, "key", 2, &tried, &picked) >= 0 || says("tried"));
    CHECK(find(handle, NULL, 1, &tried, &picked) >= 0 || says("tried"));
    dyups_close(handle);
}

static void the_http_interface_answers(void)
{
    dyups_reply reply;

    CHECK(dyups_admin(T("POST"), T("/upstream/web"), T("server 10.0.0.6:81; keepalive 9;"), 0, &reply) == 0);
    CHECK(reply.status == 200 && is(reply.body, "success") && is(reply.content_type, "text/plain"));
    CHECK(has(reply.error, "keepalive"));
    CHECK(dyups_admin(T("GET"), T("/upstream/web"), T(""), 0, &reply) == 0);
    CHECK(reply.status == 200 && is(reply.body, "server 10.0.0.6:81\n") && is(reply.error, ""));
    CHECK(dyups_admin(T("POST"), T("/upstream/web"), T("server x;"), 0, &reply) == 0);
    CHECK(reply.status == 500 && is(reply.body, "add server failed") && has(reply.error, "\"x\""));
    CHECK(dyups_admin(T("GET"), T("/status"), NULL, 0, 0, &reply) == 0);
    CHECK(reply.status == 200 && is(reply.content_type, "application/json") && has(reply.body, "\"web\""));
    CHECK(dyups_admin(T("DELETE"), T("/upstream/web"), NULL, 0, 0, &reply) == 0);
    CHECK(reply.status == 200 && is(reply.body, "success"));
    CHECK(dyups_admin(T("DELETE"), T("/upstream/web"), NULL, 0, 0, &reply) == 0);
    CHECK(reply.status == 404 && is(reply.body, "not found uptream"));
    CHECK(dyups_admin("\0", 1, "\0\xff", 2, "\0", 1, 0, &reply) == 0 && reply.status == 405);
    CHECK(dyups_admin(NULL, 0, NULL, 0, NULL, 0, 0, &reply) == 0 && reply.status == 405);
}

/* Calls one function with this name, json and length in the place of the argument that is meant. */
static void null_and_too_long_are_refused(void)
{
    static const size_t LENGTHS[] = {5, 67108865, (size_t)-1, (size_t)-1 / 2};
    const char *good = "{\"host\":\"10.0.0.1\"}";
    dyups_handle *handle = dyups_open(T("rr"));
    dyups_picked picked;
    dyups_tried tried;
    dyups_reply reply;
    dyups_text text;
    size_t i;

    memset(&tried, 0, sizeof(tried));
    /* A length of NULL that is not 0 is never looked at; one that is too large neither, whatever it points to. */
    for (i = 0; i < sizeof(LENGTHS) / sizeof(LENGTHS[0]); i++) {
        size_t len = LENGTHS[i];
        const char *pointers[2];
        int p;
        pointers[0] = NULL;
        pointers[1] = good;
        for (p = 0; p < (len > 5 ? 2 : 1); p++) {
            const char *bad = pointers[p];
            CHECK(dyups_setup(bad, len) == DYUPS_INVALID && says("conf: "));
            CHECK(dyups_method(bad, len) == DYUPS_INVALID && says("method: "));
            CHECK(dyups_open(bad, len) == NULL && says("upstream: "));
            CHECK(dyups_build_ring(bad, len, 0) == DYUPS_INVALID && says("upstream: "));
            CHECK(dyups_add_peer(bad, len, T(good), 0) == DYUPS_INVALID && says("upstream: "));
            CHECK(dyups_add_peer(T("api"), bad, len, 0) == DYUPS_INVALID && says("peer: "));
            CHECK(dyups_set_peer(bad, len, T(good), 0) == DYUPS_INVALID && says("upstream: "));
            CHECK(dyups_set_peer(T("api"), bad, len, 0) == DYUPS_INVALID && says("peer: "));
            CHECK(dyups_delete_peer(bad, len, T(good), 0) == DYUPS_INVALID && says("upstream: "));
            CHECK(dyups_delete_peer(T("api"), bad, len, 0) == DYUPS_INVALID && says("peer: "));
            CHECK(dyups_set_upstream(bad, len, T(good), 0) == DYUPS_INVALID && says("upstream: "));
            CHECK(dyups_set_upstream(T("api"), bad, len, 0) == DYUPS_INVALID && says("upstream: "));
            CHECK(dyups_delete_upstream(bad, len, T("null"), 0) == DYUPS_INVALID && says("upstream: "));
            CHECK(dyups_delete_upstream(T("api"), bad, len, 0) == DYUPS_INVALID && says("options: "));
            CHECK(dyups_healthcheck(bad, len, T("{}"), 0) == DYUPS_INVALID && says("upstream: "));
            CHECK(dyups_healthcheck(T("api"), bad, len, 0) == DYUPS_INVALID && says("healthcheck: "));
            CHECK(dyups_admin(bad, len, T("/list"), T(""), 0, &reply) == DYUPS_INVALID && says("method: "));
            CHECK(dyups_admin(T("GET"), bad, len, T(""), 0, &reply) == DYUPS_INVALID && says("path: "));
            CHECK(dyups_admin(T("POST"), T("/upstream/a"), bad, len, 0, &reply) == DYUPS_INVALID && says("body: "));
            if (bad) {
                CHECK(dyups_status(bad, len, &text) == DYUPS_INVALID && says("upstream: "));
                CHECK(dyups_find(handle, bad, len, 2, NULL, &picked) == DYUPS_INVALID && says("key: "));
            }
        }
    }
    /* NULL with no length is no bytes. */
    CHECK(dyups_open(NULL, 0) == NULL && says("upstream \"\""));
    CHECK(dyups_add_peer(NULL, 0, T(good), 0) == DYUPS_INVALID && says("upstream \"\""));
    CHECK(dyups_add_peer(T("api"), NULL, 0, 0) == DYUPS_INVALID && says("JSON"));
    CHECK(dyups_set_upstream(T("api"), NULL, 0, 0) == DYUPS_INVALID && says("JSON"));
    CHECK(dyups_delete_upstream(T("api"), NULL, 0, 0) == DYUPS_INVALID);
    /* Places to write to, and things to use. */
    CHECK(dyups_find(NULL, NULL, 0, 0, NULL, &picked) == DYUPS_INVALID && says("NULL: allowed: a pointer"));
    CHECK(dyups_find(handle, NULL, 0, 0, NULL, NULL) == DYUPS_INVALID && says("NULL"));
    CHECK(dyups_find(NULL, NULL, 0, 0, NULL, NULL) == DYUPS_INVALID);
    CHECK(dyups_find_cached(NULL, NULL, 0, 0, &tried, NULL) == DYUPS_INVALID);
    CHECK(dyups_find(handle, NULL, 7, 2, NULL, &picked) >= 0);
    CHECK(dyups_find(handle, NULL, 0, 7, NULL, &picked) == DYUPS_INVALID && says("method: 7: allowed: 0 to 6"));
    CHECK(dyups_find(handle, NULL, 0, UINT32_MAX, NULL, &picked) == DYUPS_INVALID && says("method: 4294967295"));
    CHECK(dyups_status(NULL, 0, NULL) == DYUPS_INVALID && says("text: NULL"));
    CHECK(dyups_status(NULL, 99, &text) == 0 && has(text, "\"api\""));
    CHECK(dyups_admin(T("GET"), T("/list"), T(""), 0, NULL) == DYUPS_INVALID && says("reply: NULL"));
    dyups_close(NULL);
    dyups_close(handle);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* A process that holds the writer's byte of this layout, or of one that is newer by so much: see src/shm/lock.rs. */
static pid_t another_writer(const char *region, long newer)
{
    char path[1100], json[65536], byte;
    const char *found;
    int ready[2];
    long layout = 0;
    pid_t child;
    dyups_text status;

    snprintf(path, sizeof(path), "%s.lock", region);
    CHECK(dyups_status(NULL, 0, &status) == 0);
    /* The text has no NUL at its end. */
    snprintf(json, sizeof(json), "%.*s", (int)status.len, status.data);
    found = strstr(json, "\"layout\":");
    CHECK(found != NULL && sscanf(found, "\"layout\":%ld", &layout) == 1);
    CHECK(pipe(ready) == 0);
    child = fork();
    if (child == 0) {
        struct flock lock;
        int fd = open(path, O_RDWR);
        memset(&lock, 0, sizeof(lock));
        lock.l_type = F_WRLCK;
        lock.l_whence = SEEK_SET;
        lock.l_start = ((layout + newer) << 12) + 1;
        lock.l_len = 1;
        if (fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0 && write(ready[1], "x", 1) == 1) {
            pause();
        }
        _exit(1);
    }
    close(ready[1]);
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    return child;
}

static void another_writer_is_busy_and_named(const char *region)
{
    char pid_text[32];
    pid_t child = another_writer(region, 0);
    double start;
    dyups_reply reply;
    dyups_handle *handle;
    dyups_picked picked;

    snprintf(pid_text, sizeof(pid_text), "pid %ld", (long)child);
    start = now();
    CHECK(dyups_add_peer(T("api"), T("{\"host\":\"10.0.0.7\"}"), 0) == DYUPS_BUSY && says("busy") && says(pid_text));
    CHECK(now() - start < 0.2);
    start = now();
    CHECK(dyups_delete_upstream(T("api"), T("{\"force\":true}"), 300) == DYUPS_BUSY && says(pid_text));
    CHECK(now() - start > 0.25 && now() - start < 3);
    CHECK(dyups_admin(T("POST"), T("/upstream/api"), T("server 10.0.0.1;"), 0, &reply) == DYUPS_BUSY);
    CHECK(reply.status == 409 && is(reply.body, "wait and try again\n") && has(reply.error, pid_text));
    CHECK(dyups_build_ring(T("one"), 0) == DYUPS_BUSY);
    handle = dyups_open(T("api"));
    CHECK(handle != NULL && find(handle, NULL, 0, NULL, &picked) >= 0);
    dyups_close(handle);

    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK(dyups_add_peer(T("api"), T("{\"host\":\"10.0.0.7\"}"), 0) == 0);
}

static void a_newer_layout_that_is_in_use_refuses_all_changes(const char *region)
{
    char pid_text[32];
    pid_t child = another_writer(region, 1);
    dyups_reply reply;
    dyups_handle *handle = dyups_open(T("api"));
    dyups_picked picked;

    snprintf(pid_text, sizeof(pid_text), "(held by pid %ld)", (long)child);
    CHECK(dyups_add_peer(T("api"), T("{\"host\":\"10.0.0.9\"}"), 5000) == DYUPS_SUPERSEDED);
    CHECK(says("superseded by layout ") && says(pid_text) && says("QUIT"));
    CHECK(dyups_build_ring(T("one"), 0) == DYUPS_SUPERSEDED);
    CHECK(dyups_admin(T("DELETE"), T("/upstream/api"), T(""), 0, &reply) == 0);
    CHECK(reply.status == 503 && is(reply.body, "superseded") && has(reply.error, pid_text));
    CHECK(handle != NULL && find(handle, NULL, 0, NULL, &picked) >= 0);
    CHECK(dyups_start() >= 0);
    dyups_close(handle);

    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK(dyups_add_peer(T("api"), T("{\"host\":\"10.0.0.9\"}"), 0) == 0);
}

static void a_child_shares_the_table_and_has_a_slot_of_its_own(void)
{
    int32_t mine = dyups_start();
    dyups_handle *handle;
    dyups_picked picked;
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        int32_t slot = dyups_start();
        int code = slot >= 0 && slot != mine ? 0 : 1;
        _exit(code + (dyups_set_upstream(T("child"), T("{\"peers\":[{\"server\":\"10.0.0.8:1\"}]}"), 1000) == 0 ? 0 : 2));
    }
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    handle = dyups_open(T("child"));
    CHECK(handle != NULL && find(handle, NULL, 0, NULL, &picked) == 0 && picked_is(&picked, "10.0.0.8:1"));
    dyups_close(handle);
    CHECK(dyups_start() == mine);
}

static void *fail_in_a_thread(void *unused)
{
    (void)unused;
    CHECK(strcmp(dyups_error(), "") == 0);
    CHECK(dyups_method(T("in-a-thread")) == DYUPS_INVALID && says("in-a-thread"));
    return NULL;
}

static void each_thread_has_its_own_message(void)
{
    pthread_t thread;

    CHECK(dyups_method(T("in-main")) == DYUPS_INVALID);
    CHECK(pthread_create(&thread, NULL, fail_in_a_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(says("in-main"));
}

static void a_full_region_is_an_error(void)
{
    static char json[400000];
    char name[16];
    size_t len = 0;
    int i;
    int32_t code = 0;
    dyups_text before, after;
    char *kept;

    len += (size_t)sprintf(json + len, "{\"peers\":[");
    for (i = 0; i < 5000; i++) {
        len += (size_t)sprintf(json + len, "%s{\"server\":\"10.1.%d.%d:8080\"}", i ? "," : "", i / 250, i % 250);
    }
    len += (size_t)sprintf(json + len, "]}");
    for (i = 0; i < 100 && code == 0; i++) {
        CHECK(dyups_status(NULL, 0, &before) == 0);
        kept = (char *)malloc(before.len + 1);
        memcpy(kept, before.data, before.len);
        before.data = kept;
        sprintf(name, "big%d", i);
        code = dyups_set_upstream(T(name), json, len, 0);
        if (code != 0) {
            CHECK(code == DYUPS_FULL && says("full") && says("shm_size"));
            CHECK(dyups_status(NULL, 0, &after) == 0);
            CHECK(after.len == before.len && memcmp(after.data, before.data, before.len) == 0);
        }
        free(kept);
    }
    CHECK(code == DYUPS_FULL);
    for (i = 0; i < 100; i++) {
        sprintf(name, "big%d", i);
        if (dyups_delete_upstream(T(name), T("{\"force\":true}"), 0) != 0) {
            break;
        }
    }
    CHECK(i > 0 && dyups_set_upstream(T("big"), json, len, 0) == 0);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        return 2;
    }
    the_library_says_what_it_is(argv[2]);
    before_setup_everything_says_so();
    setup_refuses_and_then_maps(argv[1]);
    a_worker_has_one_slot();
    a_probe_is_taken_answered_and_judged();
    peers_are_made_changed_and_deleted();
    a_long_answer_comes_in_slices();
    a_host_leads_to_an_upstream();
    round_robin_is_nginxs();
    chash_keeps_a_key_and_asks_for_its_ring();
    texts_are_given_once_to_who_keeps_them();
    tried_peers_are_passed_over();
    the_http_interface_answers();
    null_and_too_long_are_refused();
    another_writer_is_busy_and_named(argv[1]);
    a_newer_layout_that_is_in_use_refuses_all_changes(argv[1]);
    a_child_shares_the_table_and_has_a_slot_of_its_own();
    each_thread_has_its_own_message();
    a_full_region_is_an_error();
    if (failures) {
        printf("%d checks failed\n", failures);
    }
    return failures ? 1 : 0;
}
