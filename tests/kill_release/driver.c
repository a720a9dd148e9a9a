/* Calls the shipped library as it is told, line by line. It loads it as LuaJIT does, and knows of it what include/dyups.h says.
 *
 *     driver LIBRARY
 *
 * An order: a function's name without dyups_, and its texts, with tabs between. The answer: what it returned, a tab, and what
 * there is to say; the first one says that it listens. After the order `mark`, the next call stands between two SIGSTOPs that
 * the process sends to itself: who traces it knows by them where the call begins and ends. */

#define _GNU_SOURCE

#include "dyups.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUNCTIONS(F)                                                                                 \
    F(error) F(setup) F(notes) F(start) F(lost) F(open) F(close) F(look) F(find) F(find_cached) F(build_ring) \
    F(add_peer) F(set_peer) F(delete_peer) F(set_upstream) F(delete_upstream) F(healthcheck) F(status) F(report) \
    F(set_route) F(delete_route) F(route) F(admin) F(serve) \
    F(draft) F(draft_add) F(draft_set_upstream) F(draft_end)

static struct {
#define FIELD(name) __typeof__(&dyups_##name) name;
    FUNCTIONS(FIELD)
} lib;

static void load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
#define LOAD(name) *(void **)&lib.name = dlsym(library, "dyups_" #name);
    FUNCTIONS(LOAD)
}

static int marked;

static void mark(void)
{
    if (marked) {
        raise(SIGSTOP);
    }
}

#define CALL(call) (mark(), code = (call), mark())

/* How long a change may wait for its turn: nobody else is there who would take one for long. */
#define WAIT_MS 5000

static void answer(int32_t code, const char *text, size_t len)
{
    size_t i;
    printf("%d\t", (int)code);
    for (i = 0; i < len; i++) {
        putchar(text[i] == '\n' ? ' ' : text[i]);
    }
    putchar('\n');
    fflush(stdout);
}

/* A text of the order and its length, as most functions take it. */
#define T(i) field[i], strlen(field[i])

static int32_t pick(char *field[], const char **text, size_t *len)
{
    static dyups_picked picked;
    const char *key = *field[2] ? field[2] : NULL;
    int32_t code;
    dyups_handle *handle = lib.open(T(1));
    if (handle == NULL) {
        return DYUPS_NOT_FOUND;
    }
    CALL((field[0][4] ? lib.find_cached : lib.find)(handle, key, strlen(field[2]), 0, NULL, &picked));
    lib.close(handle);
    *text = (const char *)picked.text;
    *len = (size_t)picked.len;
    return code;
}

static int32_t look(char *field[])
{
    int32_t code;
    dyups_handle *handle = lib.open(T(1));
    if (handle == NULL) {
        return DYUPS_NOT_FOUND;
    }
    CALL(lib.look(handle));
    lib.close(handle);
    return code;
}

/* The text comes in two pieces. All calls that work at it are one operation. */
static int32_t draft_set_upstream(char *field[])
{
    int32_t code, draft = lib.draft();
    size_t half = strlen(field[2]) / 2;
    if (draft < 0) {
        return draft;
    }
    lib.draft_add((uint32_t)draft, field[2], half);
    lib.draft_add((uint32_t)draft, field[2] + half, strlen(field[2]) - half);
    mark();
    do {
        code = lib.draft_set_upstream((uint32_t)draft, T(1), WAIT_MS);
    } while (code == 1);
    mark();
    lib.draft_end((uint32_t)draft);
    return code;
}

/* A request as nginx hands it over, from a client that asks for an address. */
static int32_t serve(char *field[], dyups_reply *reply)
{
    int32_t code;
    dyups_request request;
    memset(&request, 0, sizeof request);
    request.method = (dyups_text){T(1)};
    request.path = (dyups_text){T(2)};
    request.body = (dyups_text){T(3)};
    request.host = (dyups_text){"127.0.0.1", 9};
    request.client = (dyups_text){"127.0.0.1", 9};
    CALL(lib.serve(&request, WAIT_MS, reply));
    return code;
}

static void obey(char *field[])
{
    const char *what = field[0], *text = "";
    size_t len = 0;
    int32_t code = DYUPS_INVALID;
    dyups_text status = {"", 0};
    dyups_slice slice;
    dyups_reply reply;

#define IS(name) (strcmp(what, name) == 0)
    if (IS("setup")) {
        CALL(lib.setup(T(1)));
        text = lib.notes();
        len = strlen(text);
    } else if (IS("start")) {
        CALL(lib.start());
    } else if (IS("lost")) {
        CALL(lib.lost());
    } else if (IS("report")) {
        CALL(lib.report(T(1), NULL, 0, "null", 4, NULL, 0, 0, &slice));
        text = slice.text.data;
        len = slice.text.len;
    } else if (IS("status")) {
        CALL(*field[1] ? lib.status(T(1), &status) : lib.status(NULL, 0, &status));
        text = status.data;
        len = status.len;
    } else if (IS("find") || IS("find_cached")) {
        code = pick(field, &text, &len);
    } else if (IS("build_ring")) {
        CALL(lib.build_ring(T(1), WAIT_MS));
    } else if (IS("add_peer")) {
        CALL(lib.add_peer(T(1), T(2), WAIT_MS));
    } else if (IS("set_peer")) {
        CALL(lib.set_peer(T(1), T(2), WAIT_MS));
    } else if (IS("delete_peer")) {
        CALL(lib.delete_peer(T(1), T(2), WAIT_MS));
    } else if (IS("set_upstream")) {
        CALL(lib.set_upstream(T(1), T(2), WAIT_MS));
    } else if (IS("draft_set_upstream")) {
        code = draft_set_upstream(field);
    } else if (IS("delete_upstream")) {
        CALL(lib.delete_upstream(T(1), T(2), WAIT_MS));
    } else if (IS("set_route")) {
        CALL(lib.set_route(T(1), T(2), WAIT_MS));
    } else if (IS("delete_route")) {
        CALL(lib.delete_route(T(1), T(2), WAIT_MS));
    } else if (IS("route")) {
        static dyups_routed routed;
        CALL(lib.route(T(1), NULL, 0, NULL, &routed));
        text = (const char *)routed.text;
        len = routed.len;
    } else if (IS("healthcheck")) {
        CALL(lib.healthcheck(T(1), T(2), WAIT_MS));
    } else if (IS("look")) {
        code = look(field);
    } else if (IS("admin") || IS("serve")) {
        if (IS("serve")) {
            code = serve(field, &reply);
        } else {
            CALL(lib.admin(T(1), T(2), T(3), WAIT_MS, &reply));
        }
        text = reply.body.data;
        len = reply.body.len;
        code = code == 0 && reply.status != 200 ? -(int32_t)reply.status : code;
    } else {
        text = "no such order";
        len = strlen(text);
    }
    if (code < 0 && len == 0) {
        text = lib.error();
        len = strlen(text);
    }
    marked = 0;
    answer(code, text, len);
}

int main(int argc, char **argv)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t len;

    if (argc != 2) {
        return 2;
    }
    load(argv[1]);
    answer(0, "", 0);
    while ((len = getline(&line, &room, stdin)) > 0) {
        char *field[4] = {"", "", "", ""}, *rest = line;
        int i;
        line[len - 1] = '\0';
        for (i = 0; i < 4 && rest != NULL; i++) {
            field[i] = strsep(&rest, "\t");
        }
        if (strcmp(field[0], "mark") == 0) {
            marked = 1;
        } else {
            obey(field);
        }
    }
    return 0;
}
