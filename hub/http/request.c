#include "hub/http/request.h"

#include <netdb.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"
#include "hub/http/denials.h"
#include "hub/http/denials.h"
#include "hub/http/guard.h"
#include "hub/http/idem.h"
#include "hub/http/limit.h"
#include "hub/http/login.h"
#include "hub/http/problem.h"
#include "hub/http/reply.h"
#include "hub/http/stream.h"
#include "hub/http/token_use.h"
#include "hub/store/store.h"

void req_drop_body(struct http_req *q)
{
        atomic_fetch_sub(&q->h->bodies, q->body_counted);
        q->body_counted = 0;
        buf_fini(&q->body);
}

static void req_free(struct http_req *q)
{
        if (q->free_state)
                q->free_state(q->state);
        if (q->inner.ctx)
                q->inner.free(q->inner.ctx);
        req_drop_body(q);
        buf_fini(&q->out);
        cJSON_Delete(q->json);
        mem_free(q->redirect);
        for (size_t i = 0; i < sizeof q->set_cookie / sizeof *q->set_cookie; i++) {
                if (q->set_cookie[i])
                        mem_wipe(q->set_cookie[i], strlen(q->set_cookie[i]));
                mem_free(q->set_cookie[i]);
        }
        stream_drop(q->stream);
        idem_free(q->idem);
        mem_free(q->path);
        mem_free(q);
}

void req_unref(struct http_req *q)
{
        if (atomic_fetch_sub(&q->refs, 1) == 1)
                req_free(q);
}

static void hold(struct http_req *q)
{
        atomic_fetch_add(&q->refs, 1);
}

static struct http_req *req_create(struct http *h, struct MHD_Connection *conn)
{
        struct http_req *q = mem_calloc(1, sizeof *q);
        const union MHD_ConnectionInfo *i;

        if (!q)
                return NULL;
        q->h = h;
        q->conn = conn;
        i = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        q->watch = i ? i->socket_context : NULL;
        i = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
        q->fd = i ? i->connect_fd : -1;
        q->started_us = clock_now_us(h->o.clock);
        list_init(&q->link);
        atomic_init(&q->refs, 1);
        buf_init(&q->body, 0);
        buf_init(&q->out, 0);
        atomic_fetch_add(&h->active, 1);
        return q;
}

static void watch_phase(struct http_req *q, enum watch_phase p)
{
        if (!q->watch)
                return;
        atomic_store(&q->watch->since_ms, http_now_ms());
        atomic_store(&q->watch->phase, (int)p);
}

/* ---- the first look: route, caller, permission, size ---- */

static bool from_loopback(struct http_req *q)
{
        const union MHD_ConnectionInfo *i =
                MHD_get_connection_info(q->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        const struct sockaddr *sa = i ? i->client_addr : NULL;

        if (!sa)
                return false;
        if (sa->sa_family == AF_INET)
                return ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr) >> 24 == 127;
        if (sa->sa_family == AF_INET6) {
                const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;

                return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
        }
        return false;
}

void req_address(const struct http_req *q, char out[REQ_ADDRESS_MAX])
{
        const union MHD_ConnectionInfo *i =
                MHD_get_connection_info(q->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        const struct sockaddr *sa = i ? i->client_addr : NULL;
        socklen_t len =
                sa && sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

        if (!sa || getnameinfo(sa, len, out, REQ_ADDRESS_MAX, NULL, 0, NI_NUMERICHOST) != 0)
                out[0] = '\0';
}

/* ---- not too often ---- */

static int too_often(struct http_req *q, int64_t wait_ms, const char *who, struct err *e)
{
        atomic_fetch_add(&q->h->limited, 1);
        q->retry_after_s = (int)((wait_ms + 999) / 1000);
        q->problem_code = "rate_limited";
        return err_set(e, E_FULL, "too many requests %s; try again in %d s", who, q->retry_after_s);
}

static void address_of(struct http_req *q, uint8_t key[16])
{
        const union MHD_ConnectionInfo *i =
                MHD_get_connection_info(q->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

        limit_address(i ? i->client_addr : NULL, key);
}

static int limit_by_address(struct http_req *q, struct err *e)
{
        uint8_t key[16];
        int64_t wait;

        if (!q->h->by_ip)
                return 0;
        address_of(q, key);
        wait = limit_take(q->h->by_ip, key, sizeof key, clock_mono_ms(q->h->o.clock));
        return wait ? too_often(q, wait, "from this address", e) : 0;
}

/* Whoever guesses is slowed down before the guess is looked at. */
static int limit_guesses(struct http_req *q, struct err *e)
{
        uint8_t key[16];
        int64_t wait;

        address_of(q, key);
        wait = limit_wait(q->h->failures, key, sizeof key, clock_mono_ms(q->h->o.clock));
        return wait ? too_often(q, wait, "without a valid token from this address", e) : 0;
}

static void note_guess(struct http_req *q)
{
        uint8_t key[16];

        address_of(q, key);
        limit_take(q->h->failures, key, sizeof key, clock_mono_ms(q->h->o.clock));
}

/* Looking a token up costs a read transaction; a busy client's is remembered for a second at
 * most, and not over a revocation. */
#define TOKEN_KEEP_MS 1000

static bool recall_token(struct http_req *q, struct http_thread *t, const uint8_t sha[SHA256_LEN])
{
        unsigned changes = atomic_load(&q->h->token_changes);
        int64_t now = http_now_ms();

        for (int i = 0; i < TOKENS_CACHED; i++) {
                const struct known_token *k = &t->tokens[i];

                if (k->until_ms > now && k->changes == changes && secret_equal(k->sha256, sha, SHA256_LEN) &&
                    (!k->caller.expires_us || k->caller.expires_us > q->started_us)) {
                        q->caller = k->caller;
                        return true;
                }
        }
        return false;
}

int req_limit_login(struct http_req *q, struct err *e)
{
        uint8_t key[16];
        int64_t wait;

        address_of(q, key);
        wait = limit_take(q->h->failures, key, sizeof key, clock_mono_ms(q->h->o.clock));
        return wait ? too_often(q, wait, "to log in from this address", e) : 0;
}

static int check_token(struct http_req *q, struct http_thread *t, const char *token, struct err *e)
{
        struct known_token *k = &t->tokens[t->next_token];
        /* Before the look: a revocation in between must not be missed. */
        unsigned changes = atomic_load(&q->h->token_changes);
        uint8_t sha[SHA256_LEN];
        int rc;

        q->known_changes = changes;
        secret_sha256(token, strlen(token), sha);
        if (recall_token(q, t, sha))
                return 0;
        rc = limit_guesses(q, e);
        if (rc)
                return rc;
        rc = auth_check_api_token(t->reader, token, q->started_us, &q->caller);
        if (rc)
                return rc;
        *k = (struct known_token){
                .caller = q->caller, .changes = changes, .until_ms = http_now_ms() + TOKEN_KEEP_MS};
        memcpy(k->sha256, sha, SHA256_LEN);
        t->next_token = (t->next_token + 1) % TOKENS_CACHED;
        token_use_note(q->h, t->reader, q->caller.token_id, q->started_us);
        return 0;
}

static int authenticate(struct http_req *q, struct err *e)
{
        const char *a = req_header(q, "Authorization");
        struct http_thread *t;
        int rc;

        if (!a && q->route->flags & ROUTE_PAGE) {
                a = req_cookie(q, LOGIN_COOKIE);
                if (!a)
                        return err_set(e, E_UNAUTH, "nobody is logged in: go to /login");
        } else if (!a) {
                return err_set(e, E_UNAUTH,
                               "this needs an API token: send \"Authorization: Bearer pat_...\"");
        } else if (strncasecmp(a, "Bearer ", 7) != 0) {
                return err_set(e, E_UNAUTH, "only \"Authorization: Bearer pat_...\" is understood");
        } else {
                a += 7 + strspn(a + 7, " ");
        }
        rc = http_thread(q->h, &t, e);
        if (rc)
                return rc;
        rc = check_token(q, t, a, e);
        if (rc == -E_DENIED) { /* the same sentence: whoever wrote the row need not hear of it */
                denials_row(q, *q->caller.user_id ? "users" : "api_tokens",
                            *q->caller.user_id ? q->caller.user_id : q->caller.token_id);
                q->caller = (struct caller){0};
                rc = -E_UNAUTH;
        }
        if (rc == -E_UNAUTH)
                note_guess(q);
        if (rc == -E_FULL)
                return rc;
        if (rc == -E_UNAUTH)
                return err_set(e, E_UNAUTH, "the API token is unknown, expired or revoked");
        if (rc)
                return err_set(e, -rc, "the API token could not be checked (%s); try again", err_name(rc));
        q->known_caller = true;
        rc = (int)limit_take(q->h->by_token, q->caller.token_id, strlen(q->caller.token_id),
                             clock_mono_ms(q->h->o.clock));
        return rc ? too_often(q, rc, "with this token", e) : 0;
}

static int authorise(struct http_req *q, struct err *e)
{
        const struct route *r = q->route;
        int rc;

        if (r->perm == PERM_PUBLIC || ((r->flags & ROUTE_LOOPBACK) && from_loopback(q)))
                return 0;
        rc = authenticate(q, e);
        if (rc)
                return rc;
        return guard_check(q, r, e);
}

struct query_check {
        struct http_req *q;
        struct err *e;
        int rc;
};

static enum MHD_Result on_query(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
        struct query_check *c = cls;

        if (!(c->q->route->flags & ROUTE_ANY_QUERY) &&
            MHD_lookup_connection_value(c->q->conn, kind, key) != value)
                c->rc = err_set(c->e, E_INVAL, "the query parameter '%.64s' stands there twice", key);
        else if (!str_is_utf8(key, strlen(key)) || (value && !str_is_utf8(value, strlen(value))))
                c->rc = err_set(c->e, E_INVAL, "the query string is not valid UTF-8");
        else if (!(c->q->route->flags & ROUTE_ANY_QUERY) && !route_takes(c->q->route, key))
                c->rc = err_set(c->e, E_INVAL, "unknown query parameter '%s'; known here: %s", key,
                                *c->q->route->query ? c->q->route->query : "none");
        return c->rc ? MHD_NO : MHD_YES;
}

static int too_large(struct http_req *q, struct err *e)
{
        char limit[32];

        str_format_size((int64_t)q->body_limit, limit);
        if (!q->body_limit)
                return err_set(e, E_TOOBIG, "this request takes no body");
        return err_set(e, E_TOOBIG, "the body is larger than the %s that are allowed here", limit);
}

static int check_length(struct http_req *q, struct err *e)
{
        const char *cl = req_header(q, "Content-Length");
        int64_t n = 0;

        if (!cl)
                return 0;
        if (str_parse_i64(cl, 0, INT64_MAX, &n))
                return err_set(e, E_INVAL, "Content-Length is not a number");
        return (uint64_t)n > q->body_limit ? too_large(q, e) : 0;
}

static int req_begin(struct http_req *q, const char *url, const char *method, struct err *e)
{
        struct query_check check = {q, e, 0};
        int rc;

        if (!str_is_utf8(url, strlen(url)))
                return err_set(e, E_INVAL, "the path is not valid UTF-8");
        q->path = mem_strdup(url);
        if (!q->path)
                return err_set(e, E_NOMEM, "out of memory");
        rc = route_match(method, q->path, &q->route, q->param, q->allow);
        if (rc == -E_NOTSUP) {
                q->problem_status = 405;
                q->problem_code = "method_not_allowed";
                return err_set(e, E_NOTSUP, "%s is not allowed here, but %s", method, q->allow);
        }
        if (rc)
                return err_set(e, E_NOENT, "there is nothing at this path; see /api/v1/openapi.json");
        q->body_limit = q->route->body_max;
        rc = limit_by_address(q, e);
        if (!rc)
                rc = authorise(q, e);
        if (rc)
                return rc;
        reads_note(q, q->route);
        MHD_get_connection_values(q->conn, MHD_GET_ARGUMENT_KIND, on_query, &check);
        if (check.rc)
                return check.rc;
        if (atomic_load(&q->h->stopping))
                return err_set(e, E_UNAVAIL, "the hub is stopping");
        rc = (q->route->flags & ROUTE_CHANGES) ? req_writable(q, e) : 0;
        return rc ? rc : check_length(q, e);
}

/* ---- answers ---- */

static enum MHD_Result answer(struct http_req *q)
{
        watch_phase(q, WATCH_BUSY);
        return reply_send(q);
}

/* A page that nobody is logged in for leads to the login, and back to itself. */
static void to_login(struct http_req *q)
{
        const struct route *r = q->route;

        if (!r || !(r->flags & ROUTE_PAGE) || strcmp(r->method, "GET") != 0 || !q->h->o.oidc)
                return;
        q->redirect = str_printf("/login?next=%.*s%s", (int)strcspn(r->pattern, "{"), r->pattern,
                                 q->param[0] ? q->param[0] : "");
        if (q->redirect)
                q->status = 303;
}

static enum MHD_Result answer_problem(struct http_req *q, int rc, struct err *e)
{
        if (!e->code)
                err_set(e, -rc, "%s", rc == -E_NOMEM ? "out of memory" : err_name(rc));
        reply_problem(q, rc, e);
        if (rc == -E_UNAUTH)
                to_login(q);
        return answer(q);
}

/* Suspends and posts. When the hub is stopping nobody would resume it: see server.c. */
static bool park(struct http_req *q)
{
        atomic_fetch_add(&q->h->parked, 1);
        if (atomic_load(&q->h->stopping)) {
                atomic_fetch_sub(&q->h->parked, 1);
                return false;
        }
        hold(q); /* the loop's */
        q->hopping = false;
        q->hopped = true;
        atomic_store(&q->parked, 1);
        MHD_suspend_connection(q->conn);
        mailbox_post(q->h->o.mailbox, &q->mail);
        return true;
}

static enum MHD_Result run(struct http_req *q, int (*fn)(struct http_req *q, struct err *e))
{
        struct err e = {0};
        int rc = fn ? fn(q, &e) : 0;

        if (rc)
                return answer_problem(q, rc, &e);
        if (!q->hopping)
                return answer(q);
        if (park(q))
                return MHD_YES;
        err_set(&e, E_UNAVAIL, "the hub is stopping");
        return answer_problem(q, -E_UNAVAIL, &e);
}

static enum MHD_Result resumed(struct http_req *q)
{
        q->hopped = false;
        switch (q->end) {
        case REQ_GONE:
                return MHD_NO;
        case REQ_STOPPING:
                err_set(&q->err, E_UNAVAIL, "the hub is stopping; ask again what became of this request");
                return answer_problem(q, -E_UNAVAIL, &q->err);
        case REQ_ANSWERED:
        case REQ_TIMED_OUT:
                break;
        }
        return q->rc ? answer_problem(q, q->rc, &q->err) : run(q, q->after);
}

/* ---- libmicrohttpd's callbacks ---- */

static int keep_body(struct http_req *q, const char *p, size_t n)
{
        int rc;

        if (q->body.len + n > q->body_limit)
                return too_large(q, &q->err);
        q->body_counted += n;
        if (atomic_fetch_add(&q->h->bodies, n) + n > HTTP_BODIES_MAX) {
                q->retry_after_s = 5;
                return err_set(&q->err, E_FULL, "the hub holds as many request bodies as it can; try again");
        }
        rc = buf_put(&q->body, p, n);
        return rc ? err_set(&q->err, -rc, "no memory for the body") : 0;
}

static enum MHD_Result take_body(struct http_req *q, const char *p, size_t n)
{
        atomic_fetch_add(&q->h->bytes_in, n);
        if (!q->refused) {
                q->refused = keep_body(q, p, n);
                if (!q->refused)
                        return MHD_YES;
                req_drop_body(q);
        }
        q->drained += n;
        return q->drained > HTTP_DRAIN_MAX ? MHD_NO : MHD_YES;
}

/* A refused upload is answered at once when the client waits for that
 * (Expect) or is a stranger; otherwise it is read and dropped first, because a
 * reset in the middle of sending would hide the answer from most clients. */
static bool answer_early(struct http_req *q)
{
        const char *cl = req_header(q, "Content-Length");
        int64_t n = 0;

        if (!cl && !req_header(q, "Transfer-Encoding"))
                return false; /* no body: the last call comes at once, and the connection lives on */
        if (req_header(q, "Expect") || !q->known_caller)
                return true;
        return cl && (str_parse_i64(cl, 0, INT64_MAX, &n) || n > HTTP_DRAIN_MAX);
}

static enum MHD_Result first_call(struct http_req *q, const char *url, const char *method)
{
        struct err e = {0};
        int rc;

        watch_phase(q, WATCH_BODY);
        rc = req_begin(q, url, method, &e);
        if (!rc)
                return MHD_YES;
        q->refused = rc;
        q->err = e;
        return answer_early(q) ? answer_problem(q, rc, &q->err) : MHD_YES;
}

enum MHD_Result req_on_access(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **con_cls)
{
        struct http_req *q = *con_cls;

        (void)version;
        if (!q) {
                q = req_create(cls, conn);
                if (!q)
                        return MHD_NO;
                *con_cls = q;
                return first_call(q, url, method);
        }
        if (*upload_size) {
                size_t n = *upload_size;

                *upload_size = 0;
                return take_body(q, upload, n);
        }
        if (q->hopped)
                return resumed(q);
        if (q->refused)
                return answer_problem(q, q->refused, &q->err);
        watch_phase(q, WATCH_BUSY);
        return run(q, q->route->handler);
}

void req_on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                      enum MHD_RequestTerminationCode why)
{
        struct http_req *q = *con_cls;
        struct http *h = cls;
        unsigned slot;

        (void)conn;
        (void)why;
        if (!q)
                return;
        *con_cls = NULL;
        log_debug("http", "answered", "status=%u method=%s path=%s token=%s us=%lld", q->status,
                  q->route ? q->route->method : "-", q->route ? q->route->pattern : "-",
                  q->known_caller ? q->caller.token_id : "-",
                  (long long)(clock_now_us(h->o.clock) - q->started_us));
        slot = q->status / 100 < HTTP_STATUS_SLOTS ? q->status / 100 : 0;
        atomic_fetch_add(&h->answered[slot], 1);
        if (!q->streamed)
                atomic_fetch_add(&h->answer_us,
                                 (unsigned long long)(clock_now_us(h->o.clock) - q->started_us));
        if (q->counted)
                atomic_fetch_sub(&h->streams, 1);
        watch_phase(q, WATCH_IDLE);
        atomic_fetch_sub(&h->active, 1);
        req_unref(q);
}

/* ---- the loop's side ---- */

static void end(struct http_req *q, enum req_end how, int rc, const struct err *e)
{
        if (q->over)
                return;
        q->over = true;
        list_remove(&q->link);
        if (how != REQ_ANSWERED && q->on_gone)
                q->on_gone(q);
        if (!q->owed)
                idem_release(q);
        q->end = how;
        q->rc = rc;
        q->err = (struct err){0};
        if (rc && e)
                q->err = *e;
        /* From here on the HTTP thread has it. Only one may resume it. */
        if (atomic_exchange(&q->parked, 0)) {
                MHD_resume_connection(q->conn);
                atomic_fetch_sub(&q->h->parked, 1);
        }
        req_unref(q);
}

static void on_mail(struct mail *m)
{
        struct http_req *q = container_of(m, struct http_req, mail);
        struct err e = {0};
        int rc = 0;

        q->over = false;
        q->on_gone = NULL;
        q->deadline_ms = 0;
        list_push_back(&q->h->waiting, &q->link);
        if (atomic_load(&q->h->stopping)) {
                end(q, REQ_STOPPING, 0, NULL);
                return;
        }
        if (q->idem && !q->idem->claim && !q->idem->replay)
                rc = idem_claim(q, &e);
        if (rc < 0)
                req_done(q, rc, &e);
        else
                q->on_loop(q); /* which looks at idem->replay */
}

void req_hop(struct http_req *q, void (*on_loop)(struct http_req *q),
             int (*after)(struct http_req *q, struct err *e))
{
        q->on_loop = on_loop;
        q->after = after;
        q->mail.run = on_mail;
        q->hopping = true;
}

static void on_idem_durable(void *arg)
{
        struct http_req *q = arg;

        if (req_paid(q))
                end(q, REQ_ANSWERED, 0, NULL);
}

/* The same request again must find the key on disk, or still in flight: so it is answered when it is there.
 */
static bool keeps_key(struct http_req *q)
{
        struct store_tx *tx;

        if (!q->idem || q->idem->stored || q->idem->replay || q->over)
                return false;
        tx = store_begin(q->h->o.store);
        if (!tx)
                return false;
        idem_store(q, tx, q->route->status, "");
        req_owe(q);
        store_commit(tx, on_idem_durable, q);
        return true;
}

void req_done(struct http_req *q, int rc, const struct err *e)
{
        if (rc || !keeps_key(q))
                end(q, REQ_ANSWERED, rc, e);
}

void req_deadline(struct http_req *q, int64_t after_ms, void (*on_gone)(struct http_req *q))
{
        q->on_gone = on_gone;
        q->deadline_ms = http_now_ms() + after_ms;
        http_tick_within(q->h, after_ms);
}

void req_owe(struct http_req *q)
{
        hold(q);
        q->owed++;
}

bool req_paid(struct http_req *q)
{
        bool live = !q->over;

        q->owed--;
        if (!live && !q->owed)
                idem_release(q);
        req_unref(q);
        return live;
}

void req_on_answer(void *arg, int rc, const struct err *e)
{
        struct http_req *q = arg;

        if (req_paid(q))
                req_done(q, rc, e);
}

void http_audit(struct http *h, const char *who, const char *action, const char *object,
                const char *detail_json)
{
        struct store_tx *tx = store_begin(h->o.store);

        if (!tx) {
                log_error("http", "audit record lost", "action=%s object=%s", action, object);
                return;
        }
        store_put_audit(tx, clock_now_us(h->o.clock), who, action, object, detail_json);
        store_commit(tx, NULL, NULL);
}

void reqs_sweep(struct http *h, int64_t now_ms)
{
        LIST_EACH_SAFE (it, nx, &h->waiting) {
                struct http_req *q = container_of(it, struct http_req, link);

                if (q->deadline_ms && now_ms >= q->deadline_ms)
                        end(q, REQ_TIMED_OUT, 0, NULL);
                else if (http_peer_gone(q->fd))
                        end(q, REQ_GONE, 0, NULL);
                else if (q->deadline_ms)
                        http_tick_within(h, q->deadline_ms - now_ms);
        }
}

void reqs_end_all(struct http *h)
{
        LIST_EACH_SAFE (it, nx, &h->waiting)
                end(container_of(it, struct http_req, link), REQ_STOPPING, 0, NULL);
}
