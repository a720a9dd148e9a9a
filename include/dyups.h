/* dyups: changes nginx upstreams while nginx runs. The C ABI.
 * Generated from src/ffi by `make header`; do not edit.
 *
 * A negative result is a dyups_code; dyups_error() then has the message. Bytes are given by pointer and length. */

#ifndef DYUPS_H
#define DYUPS_H

#include <stddef.h>
#include <stdint.h>

// Version of this ABI. It changes when a function or a struct of `dyups.h` changes in a way that breaks an old caller.
#define DYUPS_ABI 1

// The reason why a call failed. The numbers are part of the C ABI (`DYUPS_*` in `dyups.h`).
typedef enum {
  // An argument or a field is not allowed; nothing was changed.
  DYUPS_INVALID = -1,
  // There is no such upstream or peer.
  DYUPS_NOT_FOUND = -2,
  // The upstream to be deleted has peers, or a route names it, and there is no `force`.
  DYUPS_NOT_EMPTY = -3,
  // The region, its file system or one of its fixed tables is full; nothing was changed.
  DYUPS_FULL = -4,
  // Another process holds the writer lock; nothing was changed, try again.
  DYUPS_BUSY = -5,
  // The table changed under the reader more often than it may try again.
  DYUPS_CHANGING = -6,
  // The upstream is there, but none of its peers can be picked.
  DYUPS_NO_PEER = -7,
  // `setup` has not succeeded in this process.
  DYUPS_NOT_SET_UP = -8,
  // The region does not make sense: a damaged or foreign file.
  DYUPS_DAMAGED = -9,
  // The operating system refused: a file, a mapping, a permission.
  DYUPS_SYSTEM = -10,
  // A bug in dyups: a panic that was caught at the edge of the library.
  DYUPS_INTERNAL = -11,
  // nginx was upgraded to a version with another table, and that version lives: it takes the changes.
  DYUPS_SUPERSEDED = -12,
} dyups_code;

// An upstream's name and its last known place and header. A handle belongs to one thread.
typedef struct dyups_handle dyups_handle;

// The peers that a request has tried, by the identity of their address, so that it outlives changes of the table.
typedef struct {
  // How many of `idents` are set, at most 64; then there is no peer left for the request. 0 for a new one.
  uint32_t count;
  // Identities of the tried peers.
  uint64_t idents[64];
} dyups_tried;

// The answer of a pick beside the index.
typedef struct {
  // 0: nothing below is set, since the caller has had all of it before (`dyups_find_cached` only). 1: read on.
  int32_t fresh;
  // 1 when the upstream lacks the ring that this pick wanted.
  int32_t wants_ring;
  // How many peers this version of the upstream has; every index is below it.
  int32_t peers;
  // Bytes of `text` that are set.
  int32_t len;
  // Identity of the peer's address, as a tried set has it.
  uint64_t ident;
  // `host:port`, `[host]:port` or `unix:/path`; not terminated.
  uint8_t text[120];
} dyups_picked;

// The options of `dyups_balance`. Times are in milliseconds; 0: nginx.conf's own.
typedef struct {
  // Most tries of a request; 0: as many as there are peers.
  uint32_t tries;
  // Retries for a hundred requests; 4294967295: any number.
  uint32_t retry_percent;
  // Retries that are always allowed, in ten seconds.
  uint32_t retry_floor;
  // Until the connection is there.
  uint32_t connect_timeout;
  // Between two writes.
  uint32_t send_timeout;
  // Between two reads.
  uint32_t read_timeout;
  // 1: connections are kept for the next request.
  uint32_t keepalive;
  // How long a connection is kept while it is unused.
  uint32_t keepalive_timeout;
  // How many requests a connection serves.
  uint32_t keepalive_requests;
} dyups_options;

// The answer of `dyups_balance` beside the index.
typedef struct {
  // 1: if this try fails, the request may try once more.
  int32_t again;
  // 1: the budget of retries is spent, and the log should say so. `dyups_error` has the message, also where there is an
  // index.
  int32_t warn;
  // As in `dyups_find_cached`.
  dyups_picked picked;
} dyups_given;

// The name of an upstream that a host leads to.
typedef struct {
  // Bytes of the name.
  uint32_t len;
  // The name, not terminated.
  uint8_t text[256];
} dyups_routed;

// A text that belongs to the library: valid until the next call in this thread that returns one.
typedef struct {
  // The bytes, not terminated; never NULL.
  const char *data;
  // Their number.
  size_t len;
} dyups_text;

// A slice of an answer.
typedef struct {
  // The bytes, valid until the next call in this thread that returns a text.
  dyups_text text;
  // The number of the rest; 0: there is none, and the answer is whole.
  uint64_t rest;
} dyups_slice;

// A probe to be made.
typedef struct {
  // The number of the probe, for the calls that follow.
  uint32_t id;
  // The host to connect to: an IPv4 address, an IPv6 address in brackets, or `unix:/path`, which has no port.
  dyups_text host;
  // 0: none.
  int32_t port;
  // 0: no TLS; 1: TLS; 2: TLS, and the certificate is verified.
  int32_t tls;
  // The name that TLS asks for and verifies; may be empty.
  dyups_text name;
  // The certificate to show, in PEM, followed by those of its signers; empty: none.
  dyups_text cert;
  // Its key, in PEM.
  dyups_text key;
  // Another number for each content of `cert`.
  uint32_t cert_id;
  // The same of `key`.
  uint32_t key_id;
  // The bytes to send; may be empty.
  dyups_text request;
  // Milliseconds for the whole probe.
  int32_t timeout;
  // 1: the probe reads an answer.
  int32_t answers;
} dyups_probe;

// An event of the probes for the operator.
typedef struct {
  // The event in a line, for a log.
  dyups_text line;
  // 0: a warning, and nothing below is set. 1: a peer has come up or gone down.
  int32_t is_change;
  // The number of results in a row that led to the change.
  int32_t after;
  // The upstream.
  dyups_text upstream;
  // The peer's address.
  dyups_text server;
  // The old state: `up` or `down`.
  dyups_text from;
  // The new state.
  dyups_text to;
  // The result of the last probe.
  dyups_text why;
} dyups_news;

// A request of the HTTP interface. A header that is not there has NULL for its bytes.
typedef struct {
  // In capitals.
  dyups_text method;
  // Decoded, without the query.
  dyups_text path;
  // The name of an upstream, in place of the path `/upstream/NAME`; NULL where the path has it.
  dyups_text upstream;
  // The text behind the `?`.
  dyups_text query;
  // The header `Accept`.
  dyups_text accept;
  // Body; NULL where `draft` has it.
  dyups_text body;
  // The draft with the body, of `dyups_draft`; 0: none.
  uint32_t draft;
  // The header `Host`.
  dyups_text host;
  // The header `Origin`.
  dyups_text origin;
  // The header `Sec-Fetch-Site`.
  dyups_text site;
  // The address of the client, for the log; NULL for a request without HTTP.
  dyups_text client;
  // 1: the request came through a unix socket; 0: it did not.
  uint32_t is_unix;
  // The length of the slices in which a long body is to be read, see `dyups_next`; 0: bodies are whole.
  uint32_t peers;
} dyups_request;

// An answer to an HTTP request.
typedef struct {
  // HTTP status.
  uint32_t status;
  // Body.
  dyups_text body;
  // Content-Type of the body.
  dyups_text content_type;
  // The whole error, or a warning; empty when all is well.
  dyups_text error;
  // The number of the rest of the body, for `dyups_next`; 0: the body is whole.
  uint64_t rest;
} dyups_reply;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The message of the last call in this thread that failed: one line of UTF-8, NUL-terminated.
//
// # Returns
//
// Never NULL; empty when no call has failed yet. Valid until the next call of the library in this thread.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// if (dyups_start() < 0) fprintf(stderr, "%s\n", dyups_error());
// ```
const char *dyups_error(void);

// The version of the ABI: `DYUPS_ABI` of the header that the library was built with. It does nothing else, so
// benchmarks use it as the empty call.
//
// # Returns
//
// The version. A caller that was built for another version must not call any other function.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// if (dyups_abi() != DYUPS_ABI) return 1;
// ```
uint32_t dyups_abi(void);

// The version of the library.
//
// # Returns
//
// A text such as `0.1.0`, NUL-terminated, valid for the life of the process.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// puts(dyups_version());
// ```
const char *dyups_version(void);

// The declarations of `dyups.h` in the form that LuaJIT's `ffi.cdef` takes.
//
// # Returns
//
// A text, NUL-terminated, valid for the life of the process.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// puts(dyups_cdef());
// ```
const char *dyups_cdef(void);

// Maps the region, or makes it if it is not there, and loads the files with upstreams. Call it in nginx's master
// (`init_by_lua`), so that all workers inherit the mapping, and again at each reload. More calls are harmless.
//
// # Arguments
//
// - `conf`, `len`: a JSON object. All its fields are optional:
//   - `shm_path` (text): the region is `shm_path.vN`, N for its layout, and its lock file `shm_path.lock`
//   - `shm_size` (bytes, or a text like `"64m"`): 256 KiB to 4 GiB, default `"128m"`
//   - `statistics` (bool, default `true`): tries are counted, for `dyups_report`
//   - `stats_size` (as `shm_size`): the size of their file, 64 KiB to 16 GiB, default `"64m"`
//   - `files` (a path or a list of paths): JSON, or nginx's `upstream` blocks
//   - `overwrite` (bool, default `false`): the files win over changes at run time
//   - `routes` (bool, default `false`): for the caller, which looks for a route before it picks: see `dyups_route`
//   - `healthcheck` (as in `dyups_healthcheck`, default `false`): for upstreams whose file and callers set none
//   - `admin` (an object with `hosts`, a list of names): names by which clients may call the HTTP interface, beside
//     addresses and `localhost`
//   - `prefix` (text, default `/`): where relative paths start
//   - `nginx_version` (nginx's own number, such as 1022001 for 1.22.1): without it, nothing is refused that some
//     version of nginx takes
//
// # Returns
//
// 0. Afterwards, also after an error, `dyups_notes` has messages for the operator.
//
// # Errors
//
// - `DYUPS_INVALID`: a field, or a file of upstreams. The region stays mapped when only the files are wrong.
// - `DYUPS_SYSTEM`: owner, mode, permission, a foreign file, another layout.
// - `DYUPS_FULL`: the file system or the region.
// - `DYUPS_BUSY`: another process is writing.
//
// # Example
//
// ```c
// const char *conf = "{\"shm_path\": \"/dev/shm/example\", \"files\": \"upstreams.json\"}";
// if (dyups_setup(conf, strlen(conf)) < 0) fprintf(stderr, "%s\n", dyups_error());
// ```
//
// # Safety
//
// `conf` points to `len` bytes.
int32_t dyups_setup(const char *conf, size_t len);

// Messages of the last `dyups_setup` of this thread for the operator, also of one that failed.
//
// # Returns
//
// Lines, each with a newline at its end, NUL-terminated. Never NULL; valid until the next `dyups_setup` of this
// thread.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// fputs(dyups_notes(), stderr);
// ```
const char *dyups_notes(void);

// Claims a worker slot for the life of this process, and counts its connections there. Call it once in each worker
// (`init_worker_by_lua`). More calls are harmless. Where there is no memory to count in, `dyups_tick` says so, and
// tries again.
//
// # Returns
//
// The number of the slot, 0 to 511.
//
// # Errors
//
// - `DYUPS_NOT_SET_UP`
// - `DYUPS_FULL`: all slots are taken.
//
// # Example
//
// ```c
// if (dyups_start() < 0) fprintf(stderr, "%s\n", dyups_error());
// ```
int32_t dyups_start(void);

// Whether a file of the region was deleted or replaced under its users. It reads the file system, so do not call it in
// the path of a request.
//
// # Returns
//
// 0: all is well. 1: a file was, and `dyups_error` tells the consequence.
//
// # Errors
//
// - `DYUPS_NOT_SET_UP`
//
// # Example
//
// ```c
// if (dyups_lost() == 1) fprintf(stderr, "%s\n", dyups_error());
// ```
int32_t dyups_lost(void);

// The number of a method, for `dyups_find`.
//
// # Arguments
//
// - `name`, `len`: `rr`, `chash`, `least_conn`, `random`, `random two` or `ip_hash`; or empty, as a variable of nginx
//   is that is not set
//
// # Returns
//
// The number, at least 1. For an empty name 0, the upstream's own method.
//
// # Errors
//
// - `DYUPS_INVALID`: the message lists the known methods.
//
// # Example
//
// ```c
// int32_t chash = dyups_method("chash", 5);
// ```
//
// # Safety
//
// `name` points to `len` bytes.
int32_t dyups_method(const char *name, size_t len);

// Opens a handle for an upstream, from which `dyups_find` picks. The handle stays valid when the upstream changes, is
// deleted and is made again.
//
// # Arguments
//
// - `name`, `len`: the upstream, which has to exist now
//
// # Returns
//
// A handle for this thread, to be closed with `dyups_close`; NULL on error.
//
// # Errors
//
// `dyups_error` has the message: no such upstream, a name that no upstream can have, not set up.
//
// # Example
//
// ```c
// dyups_handle *api = dyups_open("api", 3);
// ```
//
// # Safety
//
// `name` points to `len` bytes.
dyups_handle *dyups_open(const char *name, size_t len);

// Closes a handle.
//
// # Arguments
//
// - `handle`: may be NULL
//
// # Returns
//
// Nothing.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// dyups_close(api);
// ```
//
// # Safety
//
// `handle` comes from `dyups_open`, was not closed before, and is not used afterwards.
void dyups_close(dyups_handle *handle);

// Whether the upstream of a handle has changed. Callers that keep handles, and texts by index, learn here which they
// may drop.
//
// # Arguments
//
// - `handle`: an open handle
//
// # Returns
//
// 0: the upstream is as it was at the last pick by this handle, or at the last call of this function. 1: it has
// changed, and no text by index is valid any more.
//
// # Errors
//
// - `DYUPS_NOT_FOUND`: the upstream was deleted.
// - The others of `dyups_find`.
//
// # Example
//
// ```c
// if (dyups_look(api) == DYUPS_NOT_FOUND) dyups_close(api);
// ```
//
// # Safety
//
// `handle` is open and of this thread.
int32_t dyups_look(dyups_handle *handle);

// Picks a peer of an upstream. It takes no lock and makes no system call. It allocates only for an address of more
// than 24 bytes, where chash has no ring.
//
// A lookup by chash without a ring costs 0.25 µs a unit of weight. Once the lookups of a handle have cost as much as
// the ring, the next call tries the writer lock once. So does a call where the weight forbids such lookups. If it gets
// the lock, it builds the ring, which takes memory and 2.4 µs a unit of weight. `dyups_build_ring` builds it sooner.
// If the ring cannot be built, `dyups_tick` says why.
//
// # Arguments
//
// - `handle`: from `dyups_open`
// - `key`, `key_len`: the bytes that chash hashes; NULL or empty: rr, as in nginx
// - `method`: a number from `dyups_method`; 0: the upstream's own, else chash with a key and rr without
// - `tried`: NULL, or the peers that this request has tried. The pick passes over them, and adds its peer
// - `picked`: where the rest of the answer goes
//
// # Returns
//
// The index of the peer in this version of its upstream, at least 0. `picked->text` has `picked->len` bytes such as
// `10.0.0.1:8080`, `[::1]:80` or `unix:/path`, without a NUL. `picked->wants_ring` is 1 where chash had no ring.
//
// # Errors
//
// - `DYUPS_NOT_FOUND`: the upstream was deleted.
// - `DYUPS_NO_PEER`: no peer can be picked, or all were tried, or chash needs a ring that is not there. In the last
//   case `picked->wants_ring` is 1.
// - `DYUPS_CHANGING`: 16 changes met one read; try again.
// - `DYUPS_INVALID`: the method, or NULL.
// - `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`
//
// # Example
//
// ```c
// dyups_picked picked;
// if (dyups_find(api, NULL, 0, 0, NULL, &picked) >= 0) printf("%.*s\n", picked.len, (const char *)picked.text);
// ```
//
// # Safety
//
// `handle` is open and of this thread; `key` points to `key_len` bytes or is NULL; `tried` is NULL or valid; `picked`
// is valid.
int32_t dyups_find(dyups_handle *handle,
                   const char *key,
                   size_t key_len,
                   uint32_t method,
                   dyups_tried *tried,
                   dyups_picked *picked);

// As `dyups_find`, for a caller that keeps texts by index, as Lua does to make no new strings.
//
// # Arguments
//
// As `dyups_find`.
//
// # Returns
//
// As `dyups_find`. When this handle has answered the same index before, and the upstream has not changed since,
// `picked->fresh` is 0 and nothing else is written. Otherwise `picked->fresh` is 1.
//
// # Errors
//
// As `dyups_find`.
//
// # Example
//
// ```c
// dyups_picked picked;
// int32_t index = dyups_find_cached(api, NULL, 0, 0, NULL, &picked);
// if (index >= 0 && picked.fresh) printf("%.*s\n", picked.len, (const char *)picked.text);
// ```
//
// # Safety
//
// As `dyups_find`.
int32_t dyups_find_cached(dyups_handle *handle,
                          const char *key,
                          size_t key_len,
                          uint32_t method,
                          dyups_tried *tried,
                          dyups_picked *picked);

// Builds the ring that a find by chash lacked, before a find builds it. From then on every version of the upstream has
// one.
//
// # Arguments
//
// - `name`, `len`: the upstream
// - `wait_ms`: as in `dyups_add_peer`
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_INVALID`: its weights make the ring too large.
// - The others of `dyups_set_peer`.
//
// # Example
//
// ```c
// if (dyups_build_ring("api", 3, 0) == DYUPS_BUSY) puts("another process is writing");
// ```
//
// # Safety
//
// `name` points to `len` bytes.
int32_t dyups_build_ring(const char *name, size_t len, uint32_t wait_ms);

// Reads the options of `dyups_balance`.
//
// # Arguments
//
// - `json`, `len`: an object with any of `tries`, `retry_percent`, `retry_floor`, `connect_timeout`, `send_timeout`,
//   `read_timeout`, `keepalive`, `keepalive_timeout`, `keepalive_requests` and `host`
// - `options`: where they go
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_INVALID`: the message names the option, its value and the allowed values.
//
// # Example
//
// ```c
// dyups_options options;
// const char *json = "{\"tries\": 2, \"connect_timeout\": 500}";
// if (dyups_balance_options(json, strlen(json), &options) < 0) fprintf(stderr, "%s\n", dyups_error());
// ```
//
// # Safety
//
// `json` points to `len` bytes; `options` is valid.
int32_t dyups_balance_options(const char *json, size_t len, dyups_options *options);

// Picks a peer for a request of nginx, counts the connection, and ends the request's try before this one. The library
// asks nginx to report the end of the request, so the caller does not.
//
// # Arguments
//
// - `handle`, `key`, `key_len`, `method`: as in `dyups_find`
// - `request`: nginx's request
// - `last`: 0: nginx begins with this upstream; 1: the last try failed; 2: it did not fail, and nginx wants another
//   peer
// - `status`: that of the last try, as ngx_lua says it; 0: none
// - `options`: from `dyups_balance_options`
// - `given`: where the rest of the answer goes
//
// # Returns
//
// The index of the peer, as `dyups_find_cached`.
//
// # Errors
//
// - `DYUPS_NO_PEER`: as in `dyups_find`, or there were too many retries.
// - `DYUPS_SYSTEM`: this is no nginx.
// - The others of `dyups_find`.
//
// # Example
//
// ```c
// dyups_given given;
// int32_t index = dyups_balance(api, request, NULL, 0, 0, 0, 0, &options, &given);
// if (index >= 0 && given.picked.fresh) printf("%.*s\n", given.picked.len, (const char *)given.picked.text);
// ```
//
// # Safety
//
// As `dyups_find`; `request` is the request that this thread is balancing; `options` and `given` are valid.
int32_t dyups_balance(dyups_handle *handle,
                      void *request,
                      const char *key,
                      size_t key_len,
                      uint32_t method,
                      uint32_t last,
                      uint32_t status,
                      const dyups_options *options,
                      dyups_given *given);

// How many connections nginx keeps by their addresses alone, for the block `upstream {}` of a request. A connection
// that was verified for one name may carry a request for another. Connections that ngx_lua keeps by name do not count.
//
// # Arguments
//
// - `request`: nginx's request, which this thread is balancing
//
// # Returns
//
// The number; 0: none.
//
// # Errors
//
// - `DYUPS_SYSTEM`: the library cannot tell.
//
// # Example
//
// ```c
// if (dyups_keeps_by_address(request) == 1) puts("nginx keeps its connections by address alone");
// ```
//
// # Safety
//
// `request` is the request that this thread is balancing.
int32_t dyups_keeps_by_address(void *request);

// How many requests of this worker hold a connection.
//
// # Returns
//
// The number.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// printf("%d requests\n", (int)dyups_balancing());
// ```
int32_t dyups_balancing(void);

// Ends the tries that nginx is over with although their requests go on. Call it ten times a second in each worker.
// `max_conns` and `least_conn` lag behind by no more than that. It also adds the worker's last tries to the statistics.
//
// # Arguments
//
// - `is_last`: 1: the worker ends, and calls it no more; 0: it does not
//
// # Returns
//
// 0.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// dyups_sweep(0);
// ```
int32_t dyups_sweep(int32_t is_last);

// Takes back the counts of dead workers, marks upstreams that are well again, and deletes peers that have drained.
// Call it once a second in each worker. It does all of this, even where a part fails. `dyups_changes` has a line for
// each upstream whose peers were deleted.
//
// # Returns
//
// 0.
//
// # Errors
//
// Those of the first part that failed:
//
// - `DYUPS_FULL`: there is no memory to count all connections in, or no room for a ring that a pick wanted.
// - `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`, `DYUPS_SYSTEM`, and those of `dyups_build_ring`.
//
// # Example
//
// ```c
// if (dyups_tick() < 0) fprintf(stderr, "%s\n", dyups_error());
// ```
int32_t dyups_tick(void);

// Adds a peer to an upstream, and makes the upstream if it is new. Of a peer that is there, the given fields change
// and the others keep their values.
//
// # Arguments
//
// - `name`, `len`: the upstream, 1 to 255 bytes
// - `json`, `json_len`: an object:
//   - `host`: an IPv4 address, an IPv6 address in brackets, or `unix:/path`
//   - `port`: 1 to 65535, default 80; or `server` with both in one
//   - `weight`: 0 to 65535, default 1
//   - `status`: `up` (default), `down` or `drain`
//   - `leaving` (bool): the peer drains, and is deleted when it is idle. A call that names such a peer without it
//     keeps the peer, here as `up`
//   - `backup` (bool)
//   - `max_conns`, `max_fails`: 0 to 4294967295, default 0 and 1
//   - `fail_timeout`, `slow_start`: seconds, default 10 and 0
//   - `check_port`: 1 to 65535; `check_url`: a path of at most 8192 bytes; `check_host`: the `Host`. Of its probes;
//     `false`, the default: as in `dyups_healthcheck`
// - `wait_ms`: milliseconds, at most 60000, in which the call tries to get the writer lock. With 0 it never sleeps,
//   and `DYUPS_BUSY` asks the caller to try again
//
// # Returns
//
// 0. The change is one step, and every pick that begins afterwards sees it.
//
// # Errors
//
// After each of them the table is as it was.
//
// - `DYUPS_INVALID`: the message names the field, its value and the allowed values.
// - `DYUPS_FULL`
// - `DYUPS_BUSY`: the message names the process that is writing.
// - `DYUPS_SUPERSEDED`: a newer nginx takes the changes.
// - `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`
//
// # Example
//
// ```c
// const char *peer = "{\"host\": \"10.0.0.1\", \"port\": 8080, \"weight\": 3}";
// int32_t code = dyups_add_peer("api", 3, peer, strlen(peer), 1000);
// ```
//
// # Safety
//
// `name` points to `len` bytes, `json` to `json_len`.
int32_t dyups_add_peer(const char *name, size_t len, const char *json, size_t json_len, uint32_t wait_ms);

// Changes the given fields of a peer that is there.
//
// # Arguments
//
// As `dyups_add_peer`.
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_NOT_FOUND`: there is no such upstream or peer.
// - The others of `dyups_add_peer`.
//
// # Example
//
// ```c
// const char *peer = "{\"server\": \"10.0.0.1:8080\", \"status\": \"drain\"}";
// int32_t code = dyups_set_peer("api", 3, peer, strlen(peer), 1000);
// ```
//
// # Safety
//
// As `dyups_add_peer`.
int32_t dyups_set_peer(const char *name, size_t len, const char *json, size_t json_len, uint32_t wait_ms);

// Takes a peer out of an upstream. The upstream stays, even without peers.
//
// # Arguments
//
// - `json`, `json_len`: an object with the address as in `dyups_add_peer`, and `drain` (bool): the peer gets no new
//   picks from now on, and is deleted when it is idle
// - the others: as in `dyups_add_peer`
//
// # Returns
//
// 0.
//
// # Errors
//
// As `dyups_set_peer`.
//
// # Example
//
// ```c
// const char *peer = "{\"server\": \"10.0.0.1:8080\", \"drain\": true}";
// int32_t code = dyups_delete_peer("api", 3, peer, strlen(peer), 1000);
// ```
//
// # Safety
//
// As `dyups_add_peer`.
int32_t dyups_delete_peer(const char *name, size_t len, const char *json, size_t json_len, uint32_t wait_ms);

// Replaces an upstream as a whole, or makes it. No pick sees a mixture of old and new.
//
// # Arguments
//
// - `json`, `json_len`: an object:
//   - `peers`: a list of objects as in `dyups_add_peer`; may be empty
//   - `method`: as in `dyups_method`; without it, each call says
//   - `hash_id`: `nginx` (default) or `host:port`
//   - `healthcheck`: as in `dyups_healthcheck`; without it the check stays as it is set
// - the others: as in `dyups_add_peer`
//
// # Returns
//
// 0.
//
// # Errors
//
// As `dyups_add_peer`.
//
// # Example
//
// ```c
// const char *upstream = "{\"method\": \"chash\", \"peers\": [{\"server\": \"10.0.0.1:8080\"}]}";
// int32_t code = dyups_set_upstream("api", 3, upstream, strlen(upstream), 1000);
// ```
//
// # Safety
//
// As `dyups_add_peer`.
int32_t dyups_set_upstream(const char *name, size_t len, const char *json, size_t json_len, uint32_t wait_ms);

// Sets how the peers of an upstream are checked. An option that is not given stays as it is set, or has its default.
// Every process may make the same call when it starts: the later ones change nothing.
//
// # Arguments
//
// - `json`, `json_len`: `false` for no checks, or an object. Texts have at most 8192 bytes; `false` takes away one
//   that is set:
//   - `type`: `http` (default), `https` or `tcp`
//   - `interval`: milliseconds, 10 to 86400000, default 3000
//   - `interval_down`: the same of a peer that is down or changing; `false`, the default: as `interval`
//   - `timeout`: milliseconds, 1 to 86400000, default 2000
//   - `rise`, `fall`: 1 to 255, default 2 and 3
//   - `concurrency`: 1 to 10000, default 10
//   - `port`: 1 to 65535; `false`, the default: the peer's
//   - `default_down` (bool)
//   - `panic_threshold`: percent, 0 to 100, default 0
//   - http and https: `http_req`: one whole request; `false`, the default: built from `url` (a path, default `/`),
//     `host` and `headers` (an object, or a list of `Name: value`)
//   - http and https: `valid_statuses`: a list of 100 to 599, default 200 and 302; `expect_body`: a text that has to
//     be in the body
//   - https: `ssl_verify` (bool, default true); `ssl_cert` and `ssl_key`: paths of a certificate that probes show, and
//     of its key. This process reads them now
//   - tcp: `send`, `expect`: texts
// - the others: as in `dyups_add_peer`
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_NOT_FOUND`: there is no such upstream.
// - The others of `dyups_add_peer`.
//
// # Example
//
// ```c
// const char *check = "{\"type\": \"http\", \"url\": \"/up\", \"fall\": 5}";
// int32_t code = dyups_healthcheck("api", 3, check, strlen(check), 1000);
// ```
//
// # Safety
//
// As `dyups_add_peer`.
int32_t dyups_healthcheck(const char *name, size_t len, const char *json, size_t json_len, uint32_t wait_ms);

// Deletes an upstream.
//
// # Arguments
//
// - `json`, `json_len`: `null`, or an object with `force` (bool): delete it with its peers, also where a route names it
// - the others: as in `dyups_add_peer`
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_NOT_FOUND`: there is no such upstream.
// - `DYUPS_NOT_EMPTY`: it has peers, or a route names it, and there is no `force`.
// - The others of `dyups_add_peer`.
//
// # Example
//
// ```c
// int32_t code = dyups_delete_upstream("api", 3, "{\"force\": true}", 15, 1000);
// ```
//
// # Safety
//
// As `dyups_add_peer`.
int32_t dyups_delete_upstream(const char *name, size_t len, const char *json, size_t json_len, uint32_t wait_ms);

// Says on whose behalf this thread makes its next change. The line of [`dyups_changes`] names it. It holds for one
// call, that of the next function that changes an upstream, whether that call succeeds or not.
//
// # Arguments
//
// - `json`, `len`: an object with `by` (a text of 1 to 255 bytes); `null`: no name
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_INVALID`
//
// # Example
//
// ```c
// dyups_by("{\"by\": \"deploy 42\"}", 19);
// ```
//
// # Safety
//
// `json` points to `len` bytes.
int32_t dyups_by(const char *json, size_t len);

// Lines for a log, at level notice: the changes of this thread's last call that may change upstreams. A call that
// changes nothing has no line.
//
// ```text
// upstream api: changed by Lua: 2 -> 3 peers (1 added, 0 removed, 0 changed), version 17
// ```
//
// # Returns
//
// Lines, each with a newline at its end, NUL-terminated. Never NULL; empty when they were read before. Valid until the
// next call of this function in this thread.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// fputs(dyups_changes(), stderr);
// ```
const char *dyups_changes(void);

// Begins a draft: a change by a text that is too long to be worked off in one call. The text comes by `dyups_draft_add`.
// `dyups_draft_set_upstream` or `dyups_serve` works it off, with many short calls. `dyups_draft_end` ends the draft, done
// or not. A draft belongs to the thread that has begun it.
//
// # Returns
//
// The number of the draft, 1 or more.
//
// # Errors
//
// - `DYUPS_FULL`: this thread has eight drafts. One that was not used for a minute gives way.
//
// # Example
//
// ```c
// int32_t draft = dyups_draft();
// if (draft > 0) dyups_draft_end((uint32_t)draft);
// ```
int32_t dyups_draft(void);

// Adds a piece to the text of a draft.
//
// # Arguments
//
// - `draft`: the number of the draft
// - `data`, `len`: the bytes, at most 64 MiB; the pieces may be cut anywhere
//
// # Returns
//
// 0. Where all pieces together have more than 64 MiB, the call that works them off says so.
//
// # Errors
//
// - `DYUPS_INVALID`: there is no such draft; its text is being worked off; NULL, or more than 64 MiB.
//
// # Example
//
// ```c
// int32_t draft = dyups_draft();
// const char *pieces[] = {"{\"peers\": [", "{\"host\": \"10.0.0.1\"}", "]}"};
// for (int i = 0; i < 3; i++) dyups_draft_add((uint32_t)draft, pieces[i], strlen(pieces[i]));
// ```
//
// # Safety
//
// `data` points to `len` bytes.
int32_t dyups_draft_add(uint32_t draft, const char *data, size_t len);

// Works at a draft whose text is that of `dyups_set_upstream`, for some milliseconds. The last call makes the change, which
// is one step.
//
// # Arguments
//
// - `draft`: the number of the draft
// - `name`, `len`, `wait_ms`: as in `dyups_add_peer`, in each call the same
//
// # Returns
//
// 1: make the same call again. 0: the change is made.
//
// # Errors
//
// As `dyups_set_upstream`. After `DYUPS_BUSY` the same call may be made again; after another error only a new draft can make
// the change.
//
// # Example
//
// ```c
// int32_t draft = dyups_draft(), code;
// dyups_draft_add((uint32_t)draft, "{\"peers\": []}", 13);
// while ((code = dyups_draft_set_upstream((uint32_t)draft, "api", 3, 1000)) == 1) { /* serve requests */ }
// dyups_draft_end((uint32_t)draft);
// ```
//
// # Safety
//
// `name` points to `len` bytes.
int32_t dyups_draft_set_upstream(uint32_t draft,
                                 const char *name,
                                 size_t len,
                                 uint32_t wait_ms);

// Ends a draft, and frees its memory. A change that was not made is not made any more.
//
// # Arguments
//
// - `draft`: the number of the draft
//
// # Returns
//
// 0, also where there is no such draft.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// int32_t draft = dyups_draft();
// dyups_draft_end((uint32_t)draft);
// ```
int32_t dyups_draft_end(uint32_t draft);

// Leads a host to an upstream, or a host that has several to one of them.
//
// # Arguments
//
// - `host`, `host_len`: the host, in any case, with a port or without
// - `key`, `key_len`: decides between several upstreams: equal keys lead to the same one. Empty: requests take turns.
//   NULL: it is the value of the route's own variable
// - `request`: nginx's request in `http {}`, for that variable. A request that has tried an upstream stays there where
//   it takes turns. NULL: there is none, and so no variable
// - `routed`: where the name of the upstream goes
//
// # Returns
//
// 1: `routed` has the name. 0: there is no route for this host.
//
// # Errors
//
// - `DYUPS_NOT_FOUND`: the upstreams that the route names are not there any more.
// - `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_INVALID`, `DYUPS_DAMAGED`
//
// # Example
//
// ```c
// dyups_routed routed;
// if (dyups_route("www.example.com", 15, NULL, 0, NULL, &routed) == 1) {
//     printf("%.*s\n", (int)routed.len, (const char *)routed.text);
// }
// ```
//
// # Safety
//
// `host` points to `host_len` bytes; `key` points to `key_len` or is NULL; `request` is NULL, or a request of nginx
// that this thread is processing; `routed` is valid.
int32_t dyups_route(const char *host,
                    size_t host_len,
                    const char *key,
                    size_t key_len,
                    void *request,
                    dyups_routed *routed);

// Finds the variable of nginx by whose value the route of a host chooses between several upstreams: for a caller that has no request of
// `http {}`, reads the value itself, and hands it to `dyups_route` as the key.
//
// # Arguments
//
// - `host`, `host_len`: as in `dyups_route`
// - `routed`: where the name of the variable goes, without its `$`
//
// # Returns
//
// 1: `routed` has the name. 0: there is no route for this host, or requests take turns.
//
// # Errors
//
// - `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_INVALID`, `DYUPS_DAMAGED`
//
// # Example
//
// ```c
// dyups_routed routed;
// if (dyups_route_variable("www.example.com", 15, &routed) == 1) {
//     printf("$%.*s\n", (int)routed.len, (const char *)routed.text);
// }
// ```
//
// # Safety
//
// `host` points to `host_len` bytes; `routed` is valid.
int32_t dyups_route_variable(const char *host,
                             size_t host_len,
                             dyups_routed *routed);

// Makes the route of a host, or replaces it as a whole.
//
// # Arguments
//
// - `host`, `len`: a host such as `www.example.com` or `[::1]`, with a port or without; `*.example.com` for all below
//   it; or `default` for all that have no route
// - `json`, `json_len`: the name of an upstream; a list of up to 64 pairs of a name and a weight; or an object:
//   - `targets`: either of these
//   - `key`: the variable of nginx that decides between them, such as `$cookie_user`; default `false`: requests take
//     turns
// - `wait_ms`: as in `dyups_add_peer`
//
// # Returns
//
// 0. The change is one step, and every pick that begins afterwards sees it.
//
// # Errors
//
// - `DYUPS_NOT_FOUND`: there is no such upstream.
// - The others of `dyups_add_peer`.
//
// # Example
//
// ```c
// const char *split = "{\"targets\": [[\"blue\", 90], [\"green\", 10]], \"key\": \"$cookie_user\"}";
// int32_t code = dyups_set_route("www.example.com", 15, split, strlen(split), 1000);
// ```
//
// # Safety
//
// `host` points to `len` bytes, `json` to `json_len`.
int32_t dyups_set_route(const char *host, size_t len, const char *json, size_t json_len, uint32_t wait_ms);

// Deletes the route of exactly this host.
//
// # Arguments
//
// - `host`, `len`: as in `dyups_set_route`
// - `json`, `json_len`: `null`
// - `wait_ms`: as in `dyups_add_peer`
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_NOT_FOUND`: there is no such route.
// - The others of `dyups_add_peer`.
//
// # Example
//
// ```c
// int32_t code = dyups_delete_route("www.example.com", 15, "null", 4, 1000);
// ```
//
// # Safety
//
// As `dyups_set_route`.
int32_t dyups_delete_route(const char *host, size_t len, const char *json, size_t json_len, uint32_t wait_ms);

// All routes as JSON: an object by host, in the shape of `routes` of the upstreams file, with read-only fields.
//
// # Arguments
//
// - `peers`: the length of the first slice, see `dyups_next`. Each slice is a JSON object. All of them make the answer when
//   objects are merged by their keys, and lists are put one behind the other. 0: one object, the whole answer
// - `slice`: where the first slice goes
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_INVALID`, `DYUPS_DAMAGED`
//
// # Example
//
// ```c
// dyups_slice json;
// if (dyups_routes(0, &json) == 0) printf("%.*s\n", (int)json.text.len, json.text.data);
// ```
//
// # Safety
//
// `slice` is valid.
int32_t dyups_routes(uint32_t peers,
                     dyups_slice *slice);

// Finds the probes that are due. Call it in one thread of each worker, again and again. After it, `dyups_probe_next`
// answers the probes that are due. Each of them is a connection to make, and ends with `dyups_probe_end`.
// `dyups_probe_news` then has the changes. A worker without a slot probes nothing. The number of a probe is valid in
// the thread that it was given in.
//
// # Returns
//
// Milliseconds until the next call.
//
// # Errors
//
// - `DYUPS_NOT_SET_UP`, `DYUPS_CHANGING`, `DYUPS_DAMAGED`
//
// # Example
//
// ```c
// int32_t ms = dyups_probe_tick();
// if (ms < 0) fprintf(stderr, "%s\n", dyups_error());
// ```
int32_t dyups_probe_tick(void);

// Takes a probe that is due.
//
// # Arguments
//
// - `orders`: where the probe goes; its texts are valid until the next call of this function in this thread
//
// # Returns
//
// 1; 0: none is due, or as many as allowed are under way.
//
// # Errors
//
// - `DYUPS_INVALID`
// - Those of `dyups_probe_tick`.
//
// # Example
//
// ```c
// dyups_probe probe;
// while (dyups_probe_next(&probe) == 1) printf("%.*s:%d\n", (int)probe.host.len, probe.host.data, (int)probe.port);
// ```
//
// # Safety
//
// `orders` is valid.
int32_t dyups_probe_next(dyups_probe *orders);

// How many probes may begin, as of the last `dyups_probe_tick`. Where it is 0, `dyups_probe_next` has none.
//
// # Returns
//
// The number.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// if (dyups_probes_due() > 0) puts("some probes may begin");
// ```
int32_t dyups_probes_due(void);

// Gives a probe the next bytes of its peer's answer.
//
// # Arguments
//
// - `id`: from `dyups_probe_next`
// - `data`, `len`: the bytes
//
// # Returns
//
// Milliseconds that are left for the rest. 0: the probe is over, or there is none of this number; call
// `dyups_probe_end` next.
//
// # Errors
//
// - `DYUPS_INVALID`, `DYUPS_NOT_SET_UP`
//
// # Example
//
// ```c
// const char *bytes = "HTTP/1.1 200 OK\r\n\r\n";
// if (dyups_probe_feed(id, bytes, strlen(bytes)) == 0) puts("it is over");
// ```
//
// # Safety
//
// `data` points to `len` bytes.
int32_t dyups_probe_feed(uint32_t id, const char *data, size_t len);

// How much time a probe has left.
//
// # Arguments
//
// - `id`: from `dyups_probe_next`
//
// # Returns
//
// Milliseconds; 0: it is over.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// int32_t ms = dyups_probe_left(id);
// ```
int32_t dyups_probe_left(uint32_t id);

// Ends a probe whose connection is closed.
//
// # Arguments
//
// - `id`: from `dyups_probe_next`
// - `stage`: where it ended. 0: nothing was left to do; 1: connecting; 2: TLS; 3: sending; 4: receiving; 5: before it
//   began, by the fault of this worker, so that it says nothing about the peer
// - `error`, `len`: the error of nginx, such as `closed` and `timeout`
//
// # Returns
//
// 0, also when its result does not count any more.
//
// # Errors
//
// - `DYUPS_INVALID`
// - Those of `dyups_probe_tick`.
//
// # Example
//
// ```c
// dyups_probe_end(id, 1, "connection refused", 18);
// ```
//
// # Safety
//
// `error` points to `len` bytes.
int32_t dyups_probe_end(uint32_t id, uint32_t stage, const char *error, size_t len);

// Takes the next event of the probes: a change of a peer, or a warning for the operator.
//
// # Arguments
//
// - `news`: where the event goes; its texts are valid until the next call of this function in this thread
//
// # Returns
//
// 1; 0: there is none.
//
// # Errors
//
// - `DYUPS_INVALID`, `DYUPS_NOT_SET_UP`
//
// # Example
//
// ```c
// dyups_news news;
// while (dyups_probe_news(&news) == 1) printf("%.*s\n", (int)news.line.len, news.line.data);
// ```
//
// # Safety
//
// `news` is valid.
int32_t dyups_probe_news(dyups_news *news);

// Says how many handlers of events a Lua VM of this worker has, and asks whether that VM takes the events. A worker
// may have two VMs, of `http {}` and of `stream {}`. Both may probe, and one alone takes the events of both.
//
// # Arguments
//
// - `vm`: 0: `http {}`; 1: `stream {}`
// - `handlers`: their number
//
// # Returns
//
// 1: this VM has to call `dyups_probe_news`. 0: the other one does.
//
// # Errors
//
// - `DYUPS_INVALID`
//
// # Example
//
// ```c
// if (dyups_probe_listens(0, 1) == 1) puts("this VM takes the events");
// ```
int32_t dyups_probe_listens(uint32_t vm, uint32_t handlers);

// Stops probing: probes under way count for nothing, and the other workers take this worker's peers. Call it when a
// worker shuts down. `dyups_probe_tick` begins again.
//
// # Returns
//
// 0.
//
// # Errors
//
// Those of `dyups_probe_tick`.
//
// # Example
//
// ```c
// dyups_probe_stop();
// ```
int32_t dyups_probe_stop(void);

// How many probes of this worker are under way.
//
// # Returns
//
// The number.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// while (dyups_probing() > 0) sleep(1);
// ```
int32_t dyups_probing(void);

// Makes a text safe for a log. It escapes bytes that are not UTF-8, control characters, separators of lines and
// characters that change the direction of text (`\\x0a`, `\\u{202e}`). All else stays as it is.
//
// # Arguments
//
// - `data`, `len`: any bytes
// - `text`: where the answer goes, valid until the next call of this function in this thread
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_INVALID`: NULL, or more than 64 MiB.
//
// # Example
//
// ```c
// dyups_text text;
// if (dyups_plain("a\nb", 3, &text) == 0) printf("%.*s\n", (int)text.len, text.data);
// ```
//
// # Safety
//
// `data` points to `len` bytes; `text` is valid.
int32_t dyups_plain(const char *data, size_t len, dyups_text *text);

// The next slice of an answer.
//
// # Arguments
//
// - `slice`: the slice before, whose `rest` is not 0; the next one goes there
// - `peers`: about how many peers, or as much other work, the slice is long; it takes 2 ms at most. 0: the whole rest
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_NOT_FOUND`: there is no such rest. A thread keeps 16 rests; one more ends the one that waited longest.
// - `DYUPS_CHANGING`, `DYUPS_DAMAGED`: the rest cannot be read. It is given up.
// - `DYUPS_INVALID`: NULL.
//
// # Example
//
// ```c
// dyups_slice slice;
// int32_t code = dyups_routes(1000, &slice);
// while (code == 0 && slice.rest != 0) code = dyups_next(&slice, 1000);
// ```
//
// # Safety
//
// `slice` is valid.
int32_t dyups_next(dyups_slice *slice, uint32_t peers);

// Gives up the rest of an answer. A slice without a rest is left as it is.
//
// # Arguments
//
// - `slice`: the last slice
//
// # Returns
//
// Nothing.
//
// # Errors
//
// None.
//
// # Example
//
// ```c
// dyups_slice slice;
// if (dyups_routes(1000, &slice) == 0) dyups_give_up(&slice);
// ```
//
// # Safety
//
// `slice` is valid, or NULL.
void dyups_give_up(dyups_slice *slice);

// The numbers of an upstream's tries and of each of its peers, as JSON.
//
// # Arguments
//
// - `name`, `len`: the upstream
// - `server`, `server_len`: one of its peers; NULL: the upstream and all its peers
// - `json`, `json_len`: an object with `seconds` (1 to 3600: the last ones), or `null`: since the statistics began, or
//   since an earlier report
// - `since`, `since_len`: the texts of the `mark` of an earlier report, joined by `;`; NULL: there is none
// - `peers`, `slice`: as in `dyups_routes`
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_NOT_FOUND`: there is no such upstream, or no such peer.
// - `DYUPS_INVALID`: statistics are off, or an option is wrong.
// - `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`
//
// # Example
//
// ```c
// dyups_slice json;
// if (dyups_report("api", 3, NULL, 0, "{\"seconds\": 60}", 15, NULL, 0, 0, &json) == 0)
//     printf("%.*s\n", (int)json.text.len, json.text.data);
// ```
//
// # Safety
//
// `name` points to `len` bytes, `server` to `server_len` or is NULL, `json` to `json_len`, `since` to
// `since_len` or is NULL; `slice` is valid.
int32_t dyups_report(const char *name,
                     size_t len,
                     const char *server,
                     size_t server_len,
                     const char *json,
                     size_t json_len,
                     const char *since,
                     size_t since_len,
                     uint32_t peers,
                     dyups_slice *slice);

// The same as `dyups_status`, a slice at a time, and with totals where they are asked for.
//
// # Arguments
//
// - `name`, `len`: the upstream; NULL: all
// - `json`, `json_len`: an object with `stats` (true: each upstream and each peer has the totals of its tries), or `null`
// - `peers`, `slice`: as in `dyups_routes`
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_NOT_FOUND`: there is no such upstream.
// - `DYUPS_INVALID`: an option is wrong, or totals are asked for and statistics are off.
// - `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`
//
// # Example
//
// ```c
// dyups_slice json;
// int32_t code = dyups_status_slices(NULL, 0, "{\"stats\": true}", 15, 1000, &json);
// while (code == 0 && json.rest != 0) code = dyups_next(&json, 1000);
// ```
//
// # Safety
//
// `name` points to `len` bytes or is NULL, `json` to `json_len`; `slice` is valid.
int32_t dyups_status_slices(const char *name,
                            size_t len,
                            const char *json,
                            size_t json_len,
                            uint32_t peers,
                            dyups_slice *slice);

// The table, or one upstream of it, as JSON in the shape of the upstreams file, with read-only fields.
//
// # Arguments
//
// - `name`, `len`: the upstream; NULL: all
// - `text`: where the answer goes
//
// # Returns
//
// 0.
//
// # Errors
//
// - `DYUPS_NOT_FOUND`: there is no such upstream.
// - `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_INVALID`, `DYUPS_DAMAGED`
//
// # Example
//
// ```c
// dyups_text json;
// if (dyups_status(NULL, 0, &json) == 0) printf("%.*s\n", (int)json.len, json.data);
// ```
//
// # Safety
//
// `name` points to `len` bytes or is NULL; `text` is valid.
int32_t dyups_status(const char *name, size_t len, dyups_text *text);

// Answers a request of the HTTP interface as `dyups_admin`, and refuses requests that pages of other sites may have
// sent: they get status 403. The `Host` has to be an address, `localhost` or a name in `admin.hosts` of `dyups_setup`,
// except through a unix socket. A change may have no foreign `Origin` or `Sec-Fetch-Site`.
//
// # Arguments
//
// - `request`: the request
// - `wait_ms`, `reply`: as in `dyups_admin`
//
// # Returns
//
// As `dyups_admin`. 1: there is no answer yet, since the request has a draft, and the call has worked at that for some
// milliseconds. Make the same call again.
//
// # Errors
//
// As `dyups_admin`. `DYUPS_INVALID`: there is no such draft.
//
// # Example
//
// ```c
// dyups_request request = {0};
// request.method = (dyups_text){"GET", 3};
// request.path = (dyups_text){"/list", 5};
// request.host = (dyups_text){"localhost", 9};
// dyups_reply reply;
// if (dyups_serve(&request, 1000, &reply) == 0) printf("%.*s", (int)reply.body.len, reply.body.data);
// ```
//
// # Safety
//
// `request` is valid, and its texts point to as many bytes as they say; `reply` is valid.
int32_t dyups_serve(const dyups_request *request, uint32_t wait_ms, dyups_reply *reply);

// Answers a request of the HTTP interface: that of ngx_http_dyups_module (`/list`, `/detail`, `/upstream/NAME`), and
// `/status`. It is for a caller that trusts the sender. See `dyups_serve` for one that does not.
//
// # Arguments
//
// - `method`, `path` (decoded, without query), `body`: each with its length
// - `wait_ms`: as in `dyups_add_peer`
// - `reply`: where the answer goes
//
// # Returns
//
// 0, also for an answer with a status of failure.
//
// # Errors
//
// - `DYUPS_BUSY`: try the change again. The reply is complete too (status 409), for a caller that gives up.
// - `DYUPS_NOT_SET_UP`
// - `DYUPS_INVALID`: NULL, or more than 64 MiB.
//
// # Example
//
// ```c
// dyups_reply reply;
// int32_t code = dyups_admin("GET", 3, "/list", 5, NULL, 0, 1000, &reply);
// ```
//
// # Safety
//
// The pointers point to as many bytes as their lengths say; `reply` is valid.
int32_t dyups_admin(const char *method,
                    size_t method_len,
                    const char *path,
                    size_t path_len,
                    const char *body,
                    size_t body_len,
                    uint32_t wait_ms,
                    dyups_reply *reply);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DYUPS_H */
