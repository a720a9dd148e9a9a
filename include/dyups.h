/* dyups: changes nginx upstreams while nginx runs. The C ABI.
 * Generated from src/ffi by `make header`; do not edit.
 *
 * A negative result is a dyups_code; dyups_error() then has the message. Bytes are given by pointer and length. */

#ifndef DYUPS_H
#define DYUPS_H

#include <stddef.h>
#include <stdint.h>

// Version of this ABI. It changes when a function or a struct of `dyups.h` changes in a way that an old caller would not survive.
#define DYUPS_ABI 1

// Why a call failed. The numbers are part of the C ABI (`DYUPS_*` in `dyups.h`).
typedef enum {
  // An argument or a field is not what is allowed; nothing was changed.
  DYUPS_INVALID = -1,
  // There is no such upstream or peer.
  DYUPS_NOT_FOUND = -2,
  // An upstream that still has peers was to be deleted without force.
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
  // nginx was upgraded to a version whose table is another one, and that version lives: changes are made there.
  DYUPS_SUPERSEDED = -12,
} dyups_code;

// An upstream's name and what was last seen of it. Belongs to one thread.
typedef struct dyups_handle dyups_handle;

// The peers that a request has tried, by the identity of their address, so that it outlives changes of the table.
typedef struct {
  // How many of `idents` are set, at most 64; then there is no peer left for the request. 0 for a new one.
  uint32_t count;
  // Identities of the tried peers.
  uint64_t idents[64];
} dyups_tried;

// What a pick says beside the index.
typedef struct {
  // 0: nothing below is set, since the caller has had all of it before (`dyups_find_cached` only). 1: read on.
  int32_t fresh;
  // 1 when the upstream lacks the ring that this pick wanted.
  int32_t wants_ring;
  // How many peers this version of the upstream has; every index is below it.
  int32_t peers;
  // Bytes of `text` that are set.
  int32_t len;
  // Identity of the peer's address: what a tried set holds.
  uint64_t ident;
  // `host:port`, `[host]:port` or `unix:/path`; not terminated.
  uint8_t text[120];
} dyups_picked;

// What a call of `dyups_balance` goes by. In milliseconds; 0: nginx.conf's own.
typedef struct {
  // Most tries of a request; 0: as many as there are peers.
  uint32_t tries;
  // Retries for a hundred requests; 4294967295: any number.
  uint32_t retry_percent;
  // Retries that are always allowed, in ten seconds.
  uint32_t retry_floor;
  // For a connection to be there.
  uint32_t connect_timeout;
  // Between two writes.
  uint32_t send_timeout;
  // Between two reads.
  uint32_t read_timeout;
  // 1: connections are kept for the next request.
  uint32_t keepalive;
  // How long, unused.
  uint32_t keepalive_timeout;
  // For how many requests.
  uint32_t keepalive_requests;
} dyups_options;

// What `dyups_balance` says beside the index.
typedef struct {
  // 1: if this try fails, the request may try once more.
  int32_t again;
  // 1: the budget of retries is spent and it is time to say so: `dyups_error` has the words, also where there is an index.
  int32_t warn;
  // As in `dyups_find_cached`.
  dyups_picked picked;
} dyups_given;

// A text that belongs to the library: valid until the next call in this thread that returns one.
typedef struct {
  // The bytes, not terminated; never NULL.
  const char *data;
  // How many.
  size_t len;
} dyups_text;

// A probe to be made.
typedef struct {
  // Names it in the calls that follow.
  uint32_t id;
  // Where to connect to: an IPv4 address, an IPv6 address in brackets, or `unix:/path`, which has no port.
  dyups_text host;
  // 0: none.
  int32_t port;
  // 0: no TLS; 1: TLS; 2: and the certificate is verified.
  int32_t tls;
  // The name that TLS asks for and verifies; may be empty.
  dyups_text name;
  // The certificate to show, in PEM, with those of who signed it; empty: none.
  dyups_text cert;
  // Its key, in PEM.
  dyups_text key;
  // Another number for each content of `cert`.
  uint32_t cert_id;
  // The same of `key`.
  uint32_t key_id;
  // What to send; may be empty.
  dyups_text request;
  // Milliseconds for all of it.
  int32_t timeout;
  // 1: an answer is waited for.
  int32_t answers;
} dyups_probe;

// What an operator should know of the probes.
typedef struct {
  // All of it in a line, for a log.
  dyups_text line;
  // 0: a warning, and nothing below is set. 1: a peer has come up or gone down.
  int32_t is_change;
  // After how many results in a row.
  int32_t after;
  // The upstream.
  dyups_text upstream;
  // The peer's address.
  dyups_text server;
  // `up` or `down`: what it was.
  dyups_text from;
  // And what it is.
  dyups_text to;
  // What the last probe found.
  dyups_text why;
} dyups_news;

// A request of the HTTP interface. A header that is not there has NULL for its bytes.
typedef struct {
  // In capitals.
  dyups_text method;
  // Decoded, without the query.
  dyups_text path;
  // The name of an upstream, in place of the path `/upstream/NAME`; NULL where the path says.
  dyups_text upstream;
  // What stands behind the `?`.
  dyups_text query;
  // Body.
  dyups_text body;
  // The header `Host`.
  dyups_text host;
  // The header `Origin`.
  dyups_text origin;
  // The header `Sec-Fetch-Site`.
  dyups_text site;
  // The address of the client, for the log; NULL where no HTTP is spoken.
  dyups_text client;
  // 1: it came in through a unix socket, 0: it did not.
  uint32_t is_unix;
} dyups_request;

// An answer to an HTTP request.
typedef struct {
  // HTTP status.
  uint32_t status;
  // Body.
  dyups_text body;
  // Content-Type of the body.
  dyups_text content_type;
  // What went wrong or should be read, in full; empty when all is well.
  dyups_text error;
} dyups_reply;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The message of the last call in this thread that failed: one line of UTF-8, NUL-terminated.
//
// Arguments: none. Returns: never NULL; empty when nothing has failed yet. Valid until the next call of the library in this
// thread. Errors: none.
const char *dyups_error(void);

// The version of the ABI, `DYUPS_ABI` of the header that the library was built with.
//
// Arguments: none. Returns: the version; a caller who was made for another one must not call anything else.
// Errors: none. It does nothing else, so benchmarks use it as the empty call.
uint32_t dyups_abi(void);

// The version of the library, such as `0.1.0`, NUL-terminated, for the life of the process.
const char *dyups_version(void);

// The declarations of `dyups.h` in the form that LuaJIT's `ffi.cdef` takes, NUL-terminated, for the life of the process.
const char *dyups_cdef(void);

// Maps the region, making it if it is not there, and loads the files with upstreams. To be called in nginx's master
// (`init_by_lua`), so that all workers inherit it; again at each reload; harmless to call more often.
//
// Arguments: `conf`, `len`: a JSON object with `shm_path` (text: the region is `shm_path.vN`, N for its layout, its lock file
// `shm_path.lock`), `shm_size` (bytes, or a text like `"64m"`, 256 KiB to
// 4 GiB, default `"128m"`), `files` (a path or a list of paths: JSON, or nginx's `upstream` blocks), `overwrite` (bool),
// `healthcheck` (as `dyups_healthcheck` takes it: that of all upstreams of which neither a file nor a call says what it is; default
// `false`), `admin` (an object with `hosts`, a list of names: those that the HTTP interface may be called by, beside addresses and
// `localhost`), `prefix` (text: where relative paths start, default `/`), `nginx_version` (nginx's own number,
// such as 1022001 for 1.22.1; left out: not known, and nothing is refused that some version of nginx takes).
//
// Returns: 0. `dyups_notes` then has what an operator should read, also after an error.
//
// Errors: `DYUPS_INVALID` (a field, a file), `DYUPS_SYSTEM` (owner, mode, permission, a foreign file, another layout),
// `DYUPS_FULL` (file system or region), `DYUPS_BUSY` (another process is at it). The region stays mapped when only the files
// are wrong.
//
// # Safety
//
// `conf` points to `len` bytes.
int32_t dyups_setup(const char *conf,
                    size_t len);

// What the last `dyups_setup` of this thread, also one that failed, wants an operator to read: lines, each with a newline at its end,
// NUL-terminated. Returns: never NULL; valid until the next `dyups_setup` of this thread.
const char *dyups_notes(void);

// Claims a worker slot for the life of this process, and counts its connections there. To be called once in each worker
// (`init_worker_by_lua`); harmless to call again. What keeps it from counting, `dyups_tick` says, and tries again.
//
// Arguments: none. Returns: the number of the slot, 0 to 511.
// Errors: `DYUPS_NOT_SET_UP`, `DYUPS_FULL` when all slots are taken.
int32_t dyups_start(void);

// Whether a file of the region was deleted or replaced under its users.
//
// Arguments: none. Returns: 0 if all is well; 1 if it was, and `dyups_error` then says what that means.
// Errors: `DYUPS_NOT_SET_UP`. It reads the file system: not for the request path.
int32_t dyups_lost(void);

// The number of a method, for `dyups_find`.
//
// Arguments: `name`, `len`: `rr`, `chash`, `least_conn`, `random`, `random two` or `ip_hash`. Returns: its number, at least 1; 0, the
// upstream's own, for an empty name, which is what a variable of nginx is that nobody has set.
// Errors: `DYUPS_INVALID`; the message lists the known methods.
//
// # Safety
//
// `name` points to `len` bytes.
int32_t dyups_method(const char *name,
                     size_t len);

// Opens a handle for an upstream, which `dyups_find` picks from. It stays good when the upstream changes, goes and comes back.
//
// Arguments: `name`, `len`: the upstream, which must be there now. Returns: a handle for this thread, to be closed with
// `dyups_close`; NULL on error.
//
// Errors (in `dyups_error`): no such upstream, a name that cannot be, not set up.
//
// # Safety
//
// `name` points to `len` bytes.
dyups_handle *dyups_open(const char *name,
                         size_t len);

// Closes a handle. NULL is allowed.
//
// # Safety
//
// `handle` comes from `dyups_open`, was not closed before, and is not used afterwards.
void dyups_close(dyups_handle *handle);

// Whether the upstream of a handle is still there, for callers that keep handles and texts by index: they need not keep those of one
// that is gone.
//
// Arguments: `handle`. Returns: 0: it is as it was at the last pick by this handle, or the last call of this. 1: it has changed; no
// text by index that the caller has kept is good. Errors: `DYUPS_NOT_FOUND`, and as `dyups_find`.
//
// # Safety
//
// `handle` is open and of this thread.
int32_t dyups_look(dyups_handle *handle);

// Picks a peer of an upstream: no lock, no system call, no allocation (but for an address of more than 24 bytes, where
// chash has to do without a ring).
//
// Arguments: `handle`; `key`, `key_len`: what chash hashes (NULL or empty: rr, as in nginx); `method`: 0 for the upstream's own (else chash
// with a key, rr without), or a number from `dyups_method`; `tried`: NULL, or the peers that this request has tried, which are
// passed over and to which the picked one is added; `picked`: what there is to say beside the index.
//
// Returns: the index of the peer in this version of its upstream, at least 0. `picked->text` then holds `picked->len` bytes such
// as `10.0.0.1:8080`, `[::1]:80` or `unix:/path`, without a NUL. `picked->wants_ring` 1: chash had to do without a ring.
//
// Such a lookup costs 0.25 µs a unit of weight. Once those of a handle have cost as much as the ring would, or where one would be
// refused for its weight, the next call tries the writer lock once, and builds the ring if it gets that: it then takes 2.4 µs a
// unit of weight, and memory. `dyups_build_ring` does so sooner. If it cannot, `dyups_tick` says why.
//
// Errors: `DYUPS_NOT_FOUND` (no such upstream any more), `DYUPS_NO_PEER` (nobody can be picked, all were tried, or chash lacks a
// ring that it cannot do without: `wants_ring` is 1 then too),
// `DYUPS_CHANGING` (16 changes met one read: try again), `DYUPS_INVALID` (method, NULL), `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`.
//
// # Safety
//
// `handle` is open and of this thread; `key` points to `key_len` bytes or is NULL; `tried` is NULL or valid; `picked` is valid.
int32_t dyups_find(dyups_handle *handle,
                   const char *key,
                   size_t key_len,
                   uint32_t method,
                   dyups_tried *tried,
                   dyups_picked *picked);

// As `dyups_find`, but `picked->fresh` is 0 and nothing else is written when this handle has given out the same index before
// and the upstream has not changed since: for a caller who keeps texts by index, as Lua does to save the strings.
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

// Gives an upstream the ring that a find by chash lacked, before a find builds it. From then on every version of it has one.
//
// Arguments: `name`, `len`: the upstream; `wait_ms`: see `dyups_add_peer`. Returns: 0.
// Errors: as `dyups_add_peer`; `DYUPS_INVALID` when its weights make too large a ring.
//
// # Safety
//
// `name` points to `len` bytes.
int32_t dyups_build_ring(const char *name,
                         size_t len,
                         uint32_t wait_ms);

// Reads the options of `dyups_balance`.
//
// Arguments: `json`, `len`: an object; `options`: where they go. Returns: 0.
// Errors: `DYUPS_INVALID`; the message names the option, the value and what is allowed.
//
// # Safety
//
// `json` points to `len` bytes, `options` is valid.
int32_t dyups_balance_options(const char *json, size_t len, dyups_options *options);

// Picks a peer for a request of nginx, counts the connection, and ends the request's try before this one. Nothing needs to be
// called when the request ends: the library asks nginx to be told.
//
// Arguments: `handle`, `key`, `key_len`, `method`: as `dyups_find`; `request`: nginx's request; `last`: 0 if nginx begins with
// this upstream, 1 if the last try failed, 2 if it did not and another peer is to be asked; `status`: of the last try, as ngx_lua
// says it, 0 if it says none; `options`: from `dyups_balance_options`; `given`: what there is to say beside the index.
//
// Returns: the index of the peer, as `dyups_find_cached`. Errors: as `dyups_find`; `DYUPS_NO_PEER` too when there were too many
// retries already; `DYUPS_SYSTEM` when this is no nginx.
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

// How many connections nginx keeps by their addresses alone, for the block `upstream {}` that a request is balanced in. One that was
// verified for one name may carry a request for another. Connections that ngx_lua keeps by name are not counted.
//
// Arguments: `request`: nginx's request, which this thread is balancing. Returns: the number; 0: none. Errors: `DYUPS_SYSTEM`: it
// cannot be told.
//
// # Safety
//
// `request` is as said.
int32_t dyups_keeps_by_address(void *request);

// How many requests of this worker hold something: 0 when none is balanced.
//
// Arguments: none. Returns: the number. Errors: none.
int32_t dyups_balancing(void);

// Ends the tries that nginx is over with, though their requests go on. To be called ten times a second in each worker: where
// `max_conns` or `least_conn` count, they are behind by no more than that.
//
// Arguments: none. Returns: 0. Errors: none.
int32_t dyups_sweep(void);

// What is to be done once a second in each worker: takes back what dead workers have counted, and lets go of what is well again.
// All of it is done, whatever goes wrong with some. Peers that have drained are deleted: `dyups_changes` has a line for each upstream.
//
// Arguments: none. Returns: 0. Errors, of what went wrong first: `DYUPS_NOT_SET_UP`, `DYUPS_FULL` (there is no memory to count
// all connections in, or no room for a ring that a pick wanted), `DYUPS_DAMAGED`, `DYUPS_SYSTEM`, and those of
// `dyups_build_ring`.
int32_t dyups_tick(void);

// Adds a peer to an upstream, making the upstream if it is new. On a peer that is there the given fields change and the others
// keep their values.
//
// Arguments: `name`, `len`: the upstream, 1 to 255 bytes. `json`, `json_len`: an object with `host` (an IPv4 address, an IPv6
// address in brackets, or `unix:/path`), `port` (1 to 65535, default 80), or both as `server`; `weight` (0 to 65535, default
// 1), `status` (`up`, `down`, `drain`), `leaving` (bool: it drains, and is deleted when it is idle; who names such a peer
// without it keeps the peer, here as `up`), `backup` (bool), `max_conns` and `max_fails` (0 to 4294967295, default 0 and 1),
// `fail_timeout` and `slow_start` (seconds, default 10 and 0), `check_port` (1 to 65535), `check_url` (a path of at most 8192
// bytes) and `check_host` (the `Host`) of its probes, `false` for what `dyups_healthcheck` says, the default. `wait_ms`: milliseconds (at most 60000) to try for the
// writer's turn; with 0 the call never sleeps, and `DYUPS_BUSY` asks the caller to come again.
//
// Returns: 0. Errors: `DYUPS_INVALID`, `DYUPS_FULL`, `DYUPS_BUSY` (names the holder), `DYUPS_SUPERSEDED` (by a newer nginx),
// `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`. The table is as it was after any of them.
//
// # Safety
//
// `name` points to `len` bytes, `json` to `json_len`.
int32_t dyups_add_peer(const char *name,
                       size_t len,
                       const char *json,
                       size_t json_len,
                       uint32_t wait_ms);

// Changes the given fields of a peer that is there.
//
// Arguments, errors: as `dyups_add_peer`; and `DYUPS_NOT_FOUND` when there is no such upstream or peer. Returns: 0.
//
// # Safety
//
// As `dyups_add_peer`.
int32_t dyups_set_peer(const char *name, size_t len, const char *json, size_t json_len, uint32_t wait_ms);

// Takes a peer out of an upstream. The upstream stays, even without peers.
//
// Arguments: as `dyups_add_peer`, of which only the address counts, and `drain` (bool): it gets no new picks from now on, and is
// taken out when it is idle. Returns: 0.
// Errors: as `dyups_set_peer`.
//
// # Safety
//
// As `dyups_add_peer`.
int32_t dyups_delete_peer(const char *name,
                          size_t len,
                          const char *json,
                          size_t json_len,
                          uint32_t wait_ms);

// Replaces an upstream as a whole, or makes it: no pick sees a mixture.
//
// Arguments: `name`, `len`: the upstream. `json`, `json_len`: an object with `peers` (a list of objects as in
// `dyups_add_peer`), `method` (as `dyups_method`; left out: by the call), `hash_id` (`nginx`, the default, or `host:port`),
// `healthcheck` (as `dyups_healthcheck` takes it; left out: as it is set).
// `wait_ms`: as there. Returns: 0. Errors: as `dyups_add_peer`.
//
// # Safety
//
// As `dyups_add_peer`.
int32_t dyups_set_upstream(const char *name,
                           size_t len,
                           const char *json,
                           size_t json_len,
                           uint32_t wait_ms);

// Sets how the peers of an upstream are checked. What is not given stays as it is set; where nothing is, it has its default. Every
// process may say the same when it starts: nothing changes then.
//
// Arguments: `name`, `len`: the upstream. `json`, `json_len`: `false` for no checks, or an object with `type` (`http`, the default,
// `https`, `tcp`); `interval`, `interval_down` (of a peer that is down or changing; `false`, the default: as `interval`) and
// `timeout` (milliseconds: 10, 10 and 1 to 86400000, default 3000 and 2000); `rise` and `fall` (1 to 255, default 2 and 3);
// `concurrency` (1 to 10000, default 10); `port` (1 to 65535, or `false`, the default: the peer's); `default_down` (bool);
// `panic_threshold` (percent, 0 to 100, default 0). http and https: `http_req` (one whole request, or `false`, the default: one
// is built from `url`, a path, default `/`, `host`, and `headers`, an object or a list of `Name: value`), `valid_statuses` (a list
// of 100 to 599, default 200 and 302), `expect_body` (a text that has to be in the body). https: `ssl_verify` (bool, default
// true), `ssl_cert` and `ssl_key` (paths of a certificate that probes show and of its key: this process reads them now). tcp: `send` and `expect` (texts). Texts have at most 8192 bytes; `false` takes away one that is set. `wait_ms`: as in
// `dyups_add_peer`.
//
// Returns: 0. Errors: `DYUPS_NOT_FOUND` when there is no such upstream, and those of `dyups_add_peer`.
//
// # Safety
//
// As `dyups_add_peer`.
int32_t dyups_healthcheck(const char *name,
                          size_t len,
                          const char *json,
                          size_t json_len,
                          uint32_t wait_ms);

// Deletes an upstream.
//
// Arguments: `name`, `len`: the upstream. `json`, `json_len`: `null`, or an object with `force` (bool): delete it with its
// peers. `wait_ms`: as in `dyups_add_peer`. Returns: 0.
// Errors: `DYUPS_NOT_FOUND`, `DYUPS_NOT_EMPTY` (it has peers and there is no force), and those of `dyups_add_peer`.
//
// # Safety
//
// As `dyups_add_peer`.
int32_t dyups_delete_upstream(const char *name,
                              size_t len,
                              const char *json,
                              size_t json_len,
                              uint32_t wait_ms);

// Says on whose behalf the next change of this thread is made: the line of [`dyups_changes`] names it.
//
// Arguments: `json`, `len`: an object with `by` (a text of 1 to 255 bytes); `null` is none. It is for one call: that of the next
// function which changes an upstream, whatever comes of it. Returns: 0. Errors: `DYUPS_INVALID`.
//
// # Safety
//
// `json` points to `len` bytes.
int32_t dyups_by(const char *json,
                 size_t len);

// What the last call of this thread that may change upstreams has changed: lines, each with a newline at its end, NUL-terminated. It
// is for a log, at level notice. A change that changed nothing has no line.
//
// ```text
// upstream api: changed by Lua: 2 -> 3 peers (1 added, 0 removed, 0 changed), version 17
// ```
//
// Arguments: none. Returns: never NULL; empty where the lines were asked for before. Valid until the next call of this function in
// this thread. Errors: none.
const char *dyups_changes(void);

// Looks which probes are due. To be called in one thread of each worker, again and again: after it `dyups_probe_next` gives those
// that are due, each of which is a connection to be made and ends with `dyups_probe_end`; and `dyups_probe_news` says what that
// has changed. A worker without a slot probes nothing. A number of a probe is good in the thread that it was given in.
//
// Arguments: none. Returns: milliseconds until it should be called again. Errors: `DYUPS_NOT_SET_UP`, `DYUPS_CHANGING`,
// `DYUPS_DAMAGED`.
int32_t dyups_probe_tick(void);

// Takes a probe that is due.
//
// Arguments: `orders`: what to do; its texts are valid until the next call of this function in this thread. Returns: 1; or 0 when
// nothing is due, or as many are under way as may be. Errors: `DYUPS_INVALID`, and as `dyups_probe_tick`.
//
// # Safety
//
// `orders` is valid.
int32_t dyups_probe_next(dyups_probe *orders);

// How many probes may begin, as of the last `dyups_probe_tick`: where it is 0, `dyups_probe_next` has none.
//
// Arguments: none. Returns: the number. Errors: none.
int32_t dyups_probes_due(void);

// Gives a probe what its peer answers.
//
// Arguments: `id`: as `dyups_probe_next` says; `data`, `len`: the next bytes. Returns: milliseconds that are
// left for the rest; 0: it is over, and `dyups_probe_end` is next, as it is for a probe that there is not. Errors: `DYUPS_INVALID`,
// `DYUPS_NOT_SET_UP`.
//
// # Safety
//
// `data` points to `len` bytes.
int32_t dyups_probe_feed(uint32_t id,
                         const char *data,
                         size_t len);

// How much time a probe has left.
//
// Arguments: `id`. Returns: milliseconds; 0: it is over. Errors: none.
int32_t dyups_probe_left(uint32_t id);

// A probe is over, and its connection closed.
//
// Arguments: `id`; `stage`: where it ended, 0: all was said, 1: connecting, 2: TLS, 3: sending, 4: receiving, 5: before it began,
// by the fault of this worker, so that nothing is known of the peer; `error`, `len`: what nginx says of it, `closed` and
// `timeout` among others. Returns: 0, also when what it found does not count any more. Errors:
// `DYUPS_INVALID`, and as `dyups_probe_tick`.
//
// # Safety
//
// `error` points to `len` bytes.
int32_t dyups_probe_end(uint32_t id,
                        uint32_t stage,
                        const char *error,
                        size_t len);

// What an operator should know, one thing a call.
//
// Arguments: `news`: its texts are valid until the next call of this function in this thread. Returns: 1; or 0 when there is
// nothing more. Errors: `DYUPS_INVALID`, `DYUPS_NOT_SET_UP`.
//
// # Safety
//
// `news` is valid.
int32_t dyups_probe_news(dyups_news *news);

// Says how many handlers of events a Lua VM of this worker has, and asks whether that VM takes the news. A worker may have two VMs, that
// of `http {}` and that of `stream {}`. Both may probe; one alone takes the news of both.
//
// Arguments: `vm`: 0: `http {}`, 1: `stream {}`; `handlers`: how many. Returns: 1: it is to call `dyups_probe_news`; or 0. Errors:
// `DYUPS_INVALID`.
int32_t dyups_probe_listens(uint32_t vm,
                            uint32_t handlers);

// Probes no more: what is under way counts for nothing, and this worker's peers are the others'. To be called when a worker shuts
// down; `dyups_probe_tick` begins again.
//
// Arguments: none. Returns: 0. Errors: as `dyups_probe_tick`.
int32_t dyups_probe_stop(void);

// How many probes of this worker are under way.
//
// Arguments: none. Returns: the number. Errors: none.
int32_t dyups_probing(void);

// A text as a log may have it: bytes that are not UTF-8, control characters, separators of lines and characters that change the
// direction of text are shown escaped (`\\x0a`, `\\u{202e}`), all else as it is.
//
// Arguments: `data`, `len`: any bytes. `text`: where the answer goes, valid until the next call of this function in this thread.
// Returns: 0. Errors: `DYUPS_INVALID` (NULL, more than 64 MiB).
//
// # Safety
//
// `data` points to `len` bytes; `text` is valid.
int32_t dyups_plain(const char *data,
                    size_t len,
                    dyups_text *text);

// The table, or one upstream of it, as JSON in the shape of the upstreams file, with read-only fields.
//
// Arguments: `name`, `len`: the upstream, or NULL for all. `text`: where the answer goes. Returns: 0.
// Errors: `DYUPS_NOT_FOUND`, `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_INVALID`, `DYUPS_DAMAGED`.
//
// # Safety
//
// `name` points to `len` bytes or is NULL; `text` is valid.
int32_t dyups_status(const char *name, size_t len, dyups_text *text);

// Answers a request of the HTTP interface, as `dyups_admin`, unless it comes from a page of another site: such a one is answered
// with status 403. Each request has to have an address, `localhost` or one of `setup`'s `admin.hosts` as its `Host`, but for a unix
// socket, and a change may have no foreign `Origin` or `Sec-Fetch-Site`.
//
// Arguments: `request`: the request; `wait_ms`, `reply`: as in `dyups_admin`. Returns, errors: as `dyups_admin`.
//
// # Safety
//
// `request` is valid, and its texts point to as many bytes as they say; `reply` is valid.
int32_t dyups_serve(const dyups_request *request,
                    uint32_t wait_ms,
                    dyups_reply *reply);

// Answers a request of the HTTP interface: that of ngx_http_dyups_module (`/list`, `/detail`, `/upstream/NAME`), and
// `/status`. For a caller that knows who asks: see `dyups_serve` for one that does not.
//
// Arguments: `method`, `path` (decoded, without query), `body`, each with its length; `wait_ms`: as in `dyups_add_peer`. `reply`:
// where the answer goes. Returns: 0, also for an answer that says no; `DYUPS_BUSY` when a change has to be tried again: the reply
// is complete then too (status 409), for a caller who gives up.
// Errors: `DYUPS_NOT_SET_UP`, `DYUPS_INVALID` (NULL, more than 64 MiB).
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
