#include "cli/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/context.h"
#include "cli/interrupt.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/id.h"
#include "common/json.h"
#include "common/list.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/version.h"

#define ANSWER_MAX     ((size_t)512 << 20)
#define PROBLEM_MAX    ((size_t)256 << 10)
#define CONNECT_MS     10000L
#define QUIET_S        120L /* an answer that stops moving */
#define QUIET_EVENTS_S 45L  /* the hub's heartbeat is 15 s */
#define TRIES          6
#define TRY_FIRST_MS   200
#define TURN_MAX_MS    1000
#define USER_AGENT     "photon/" PHOTON_VERSION

struct client {
        CURLM *multi;
        char *hub, *token, *ca;
        char *project;      /* percent-encoded, or NULL */
        struct list active; /* struct request.link */
};

struct request {
        struct client *c;
        struct list link;
        CURL *easy;
        struct curl_slist *headers;
        struct buf in; /* collected answer, or the problem */
        int data_rc;
        char reason[CURL_ERROR_SIZE];
        char *path; /* for messages */
        int (*on_data)(void *ctx, const void *p, size_t n);
        void (*on_end)(void *ctx, const struct answer *a);
        void *ctx;
};

static int no_memory(struct err *e)
{
        return err_set(e, E_NOMEM, "no memory");
}

int client_create(const struct context *where, struct client **out, struct err *e)
{
        struct client *c = mem_calloc(1, sizeof *c);

        if (!c)
                return no_memory(e);
        list_init(&c->active);
        if (where->ca && access(where->ca, R_OK)) {
                int rc = err_set(e, E_INVAL, "the hub's authority %s cannot be read: %s", where->ca,
                                 strerror(errno));

                mem_free(c);
                return rc;
        }
        c->hub = mem_strdup(where->hub);
        c->token = where->token ? mem_strdup(where->token) : NULL;
        c->ca = where->ca ? mem_strdup(where->ca) : NULL;
        if (curl_global_init(CURL_GLOBAL_DEFAULT) == 0)
                c->multi = curl_multi_init();
        if (!c->hub || !c->multi || (where->token && !c->token) || (where->ca && !c->ca)) {
                client_free(c);
                return no_memory(e);
        }
        *out = c;
        return 0;
}

static void request_free(struct request *r)
{
        if (!r)
                return;
        list_remove(&r->link);
        if (r->easy) {
                curl_multi_remove_handle(r->c->multi, r->easy);
                curl_easy_cleanup(r->easy);
        }
        curl_slist_free_all(r->headers);
        buf_fini(&r->in);
        mem_free(r->path);
        mem_free(r);
}

void client_free(struct client *c)
{
        if (!c)
                return;
        LIST_EACH_SAFE (it, nx, &c->active)
                request_free(container_of(it, struct request, link));
        if (c->multi)
                curl_multi_cleanup(c->multi);
        if (c->token)
                mem_wipe(c->token, strlen(c->token));
        mem_free(c->token);
        mem_free(c->hub);
        mem_free(c->ca);
        mem_free(c->project);
        mem_free(c);
}

const char *client_hub(const struct client *c)
{
        return c->hub;
}

/* ---- one request ---- */

static size_t on_write(char *p, size_t size, size_t n, void *arg)
{
        struct request *r = arg;
        long status = 0;

        n *= size;
        curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
        if (r->on_data && status / 100 == 2) {
                r->data_rc = r->on_data(r->ctx, p, n);
                return r->data_rc ? CURL_WRITEFUNC_ERROR : n;
        }
        if (status / 100 != 2 && r->in.len + n > PROBLEM_MAX)
                return n; /* no problem of ours is that long; the status must do */
        r->data_rc = buf_put(&r->in, p, n);
        return r->data_rc ? CURL_WRITEFUNC_ERROR : n;
}

static int add_header(struct request *r, const char *name, const char *value)
{
        char *line = str_printf("%s: %s", name, value);
        struct curl_slist *l = line ? curl_slist_append(r->headers, line) : NULL;

        if (line)
                mem_wipe(line, strlen(line));
        mem_free(line);
        if (!l)
                return -E_NOMEM;
        r->headers = l;
        return 0;
}

static int add_headers(struct request *r, const struct request_spec *s)
{
        int rc = 0;

        if (r->c->token) {
                char *bearer = str_printf("Bearer %s", r->c->token);

                rc = bearer ? add_header(r, "Authorization", bearer) : -E_NOMEM;
                if (bearer)
                        mem_wipe(bearer, strlen(bearer));
                mem_free(bearer);
        }
        if (!rc && s->body)
                rc = add_header(r, "Content-Type", s->type ? s->type : "application/json");
        if (!rc)
                rc = add_header(r, "Accept",
                                s->accept    ? s->accept
                                : s->events  ? "text/event-stream"
                                : s->endless ? "*/*"
                                             : "application/json");
        if (!rc && s->key)
                rc = add_header(r, "Idempotency-Key", s->key);
        if (!rc && s->last_event_id)
                rc = add_header(r, "Last-Event-ID", s->last_event_id);
        for (const char *const *h = s->headers; !rc && h && *h; h++) {
                struct curl_slist *l = curl_slist_append(r->headers, *h);

                rc = l ? 0 : -E_NOMEM;
                r->headers = l ? l : r->headers;
        }
        /* No round trip for "100 Continue": bodies are small or welcome. */
        return rc ? rc : add_header(r, "Expect", "");
}

static void set_options(struct request *r, const struct request_spec *s, const char *url)
{
        CURL *h = r->easy;

        curl_easy_setopt(h, CURLOPT_URL, url);
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, s->method);
        curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "https");
        curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(h, CURLOPT_USERAGENT, USER_AGENT);
        curl_easy_setopt(h, CURLOPT_HTTPHEADER, r->headers);
        curl_easy_setopt(h, CURLOPT_ERRORBUFFER, r->reason);
        curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_write);
        curl_easy_setopt(h, CURLOPT_WRITEDATA, r);
        curl_easy_setopt(h, CURLOPT_PRIVATE, r);
        curl_easy_setopt(h, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        curl_easy_setopt(h, CURLOPT_SSL_VERIFYPEER, 1L);
        curl_easy_setopt(h, CURLOPT_SSL_VERIFYHOST, 2L);
        if (r->c->ca) {
                curl_easy_setopt(h, CURLOPT_CAINFO, r->c->ca);
                curl_easy_setopt(h, CURLOPT_CAPATH, NULL);
        }
        curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
        curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
        curl_easy_setopt(h, CURLOPT_TCP_KEEPIDLE, 15L);
        curl_easy_setopt(h, CURLOPT_TCP_KEEPINTVL, 10L);
        curl_easy_setopt(h, CURLOPT_BUFFERSIZE, 256L << 10);
        if (!s->endless) {
                curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
                curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, s->events ? QUIET_EVENTS_S : QUIET_S);
        }
        if (s->body) {
                curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)s->body_len);
                curl_easy_setopt(h, CURLOPT_COPYPOSTFIELDS, s->body);
        } else if (strcmp(s->method, "POST") == 0 || strcmp(s->method, "PUT") == 0) {
                curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)0);
                curl_easy_setopt(h, CURLOPT_COPYPOSTFIELDS, "");
        }
}

int client_in_project(struct client *c, const char *project, struct err *e)
{
        char *text = project ? client_escape(project) : NULL;

        if (project && !text)
                return err_set(e, E_NOMEM, "no memory");
        mem_free(c->project);
        c->project = text;
        return 0;
}

/* Does this request go to, or list, a project's work? */
static bool has_project(const char *path)
{
        static const char *const paths[] = {"/api/v1/runs", "/api/v1/calls", "/api/v1/validate",
                                            "/api/v1/checkpoints", "/api/v1/events"};
        static const char secrets[] = "/api/v1/secrets"; /* and each of them */
        size_t n = strcspn(path, "?");

        if (strncmp(path, secrets, sizeof secrets - 1) == 0)
                return !strstr(path + n, "project=");
        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
                if (strlen(paths[i]) == n && memcmp(paths[i], path, n) == 0)
                        return !strstr(path + n, "project=");
        return false;
}

static char *url_of(const struct client *c, const char *path)
{
        if (!c->project || !has_project(path))
                return str_printf("%s%s", c->hub, path);
        return str_printf("%s%s%sproject=%s", c->hub, path, strchr(path, '?') ? "&" : "?", c->project);
}

int client_start(struct client *c, const struct request_spec *s, struct request **out, struct err *e)
{
        struct request *r = mem_calloc(1, sizeof *r);
        char *url = url_of(c, s->path);
        int rc = -E_NOMEM;

        if (!r || !url)
                goto fail;
        r->c = c;
        list_init(&r->link);
        buf_init(&r->in, ANSWER_MAX);
        r->on_data = s->on_data;
        r->on_end = s->on_end;
        r->ctx = s->ctx;
        r->path = mem_strdup(s->path);
        r->easy = curl_easy_init();
        if (!r->path || !r->easy || add_headers(r, s))
                goto fail;
        set_options(r, s, url);
        if (curl_multi_add_handle(c->multi, r->easy) != CURLM_OK)
                goto fail;
        list_push_back(&c->active, &r->link);
        mem_free(url);
        *out = r;
        return 0;
fail:
        mem_free(url);
        request_free(r);
        return err_set(e, -rc, "no memory");
}

const char *client_header(struct request *r, const char *name)
{
        struct curl_header *h = NULL;

        return curl_easy_header(r->easy, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK ? h->value : NULL;
}

void client_stop(struct client *c, struct request *r)
{
        (void)c;
        request_free(r);
}

/* ---- what went wrong ---- */

static int transport_error(const struct request *r, CURLcode cc, struct err *e)
{
        const struct client *c = r->c;
        const char *why = r->reason[0] ? r->reason : curl_easy_strerror(cc);

        switch (cc) {
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_ISSUER_ERROR:
                return err_set(
                        e, E_UNAVAIL,
                        "%s does not prove to be your hub (%s). %s, or that its certificate names this "
                        "address",
                        c->hub, why,
                        c->ca ? "Check that --ca is the file of this hub's own authority"
                              : "Name its authority with --ca FILE or PHOTON_CA, or log in with --ca-sha256");
        case CURLE_SSL_CACERT_BADFILE:
                return err_set(e, E_INVAL, "%s is no authority's certificate in PEM (%s)",
                               c->ca ? c->ca : "--ca", why);
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_CONNECT:
        case CURLE_SSL_CONNECT_ERROR:
                return err_set(e, E_UNAVAIL,
                               "the hub at %s cannot be reached: %s. Is photon-hub serve running there, and "
                               "is the address right "
                               "(--hub, PHOTON_HUB)?",
                               c->hub, why);
        case CURLE_OPERATION_TIMEDOUT: {
                curl_off_t connected = 0;

                curl_easy_getinfo(r->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
                return err_set(e, connected ? E_CLOSED : E_UNAVAIL, "the hub at %s does not answer: %s",
                               c->hub, why);
        }
        case CURLE_OUT_OF_MEMORY:
                return no_memory(e);
        case CURLE_URL_MALFORMAT:
                return err_set(e, E_INVAL, "hub %s: no usable address (%s)", c->hub, why);
        default:
                return err_set(e, E_CLOSED, "the connection to the hub at %s broke: %s", c->hub, why);
        }
}

static int code_of_status(int status)
{
        switch (status) {
        case 401:
                return E_UNAUTH;
        case 403:
                return E_DENIED;
        case 404:
                return E_NOENT;
        case 409:
                return E_STATE;
        case 413:
                return E_TOOBIG;
        case 429:
        case 503:
                return E_FULL;
        case 504:
                return E_TIMEOUT;
        default:
                return status / 100 == 4 ? E_INVAL : E_INTERNAL;
        }
}

static const char *text_of(const cJSON *doc, const char *key)
{
        return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, key));
}

static int number_of(const cJSON *doc, const char *key)
{
        const cJSON *n = cJSON_GetObjectItemCaseSensitive(doc, key);

        return cJSON_IsNumber(n) ? n->valueint : 0;
}

static int problem_error(const struct request *r, const struct answer *a, struct err *e)
{
        const char *detail = text_of(a->doc, "detail");
        int code = code_of_status(a->status);

        if (a->status == 401)
                return err_set(
                        e, E_UNAUTH, "%s%s", detail ? detail : "the hub asks for a token",
                        r->c->token
                                ? ". Log in again: photon login --hub URL --token TOKEN"
                                : ". Use --token or PHOTON_TOKEN, or: photon login --hub URL --token TOKEN");
        if (a->status == 403)
                return err_set(e, E_DENIED, "not allowed: %s%s", detail ? detail : r->path,
                               detail && strstr(detail, " lacks ")
                                       ? ". Ask an admin of the hub for a role that has it"
                                       : "");
        if (!detail)
                return err_set(
                        e, code,
                        "%s%s answered with HTTP status %d, as a PHOTON hub would not; is --hub right?",
                        r->c->hub, r->path, a->status);
        return err_at(e, code, number_of(a->doc, "line"), number_of(a->doc, "column"), "%s", detail);
}

static void finish(struct request *r, CURLcode cc)
{
        struct answer a = {0};
        struct err e = {0};
        cJSON *doc = NULL;
        long status = 0;

        curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
        a.status = (int)status;
        if (r->data_rc) {
                a.rc = err_set(&e, -r->data_rc, "%s", err_name(r->data_rc));
        } else if (cc != CURLE_OK) {
                a.rc = transport_error(r, cc, &e);
        } else {
                if (r->in.len && json_parse((const char *)r->in.data, r->in.len, &doc, NULL))
                        doc = NULL;
                a.doc = doc;
                snprintf(a.code, sizeof a.code, "%s", text_of(doc, "code") ? text_of(doc, "code") : "");
                if (a.status / 100 != 2)
                        a.rc = problem_error(r, &a, &e);
                else if (!r->on_data && r->in.len && !doc)
                        a.rc = err_set(&e, E_PROTO, "%s%s did not answer in JSON; is --hub right?", r->c->hub,
                                       r->path);
        }
        a.err = &e;
        list_remove(&r->link);
        r->on_end(r->ctx, &a);
        cJSON_Delete(doc);
        request_free(r);
}

/* ---- turning ---- */

static void finish_all(struct client *c)
{
        CURLMsg *m;
        int left;

        while ((m = curl_multi_info_read(c->multi, &left))) {
                struct request *r = NULL;

                if (m->msg != CURLMSG_DONE)
                        continue;
                curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
                finish(r, m->data.result);
        }
}

int client_turn(struct client *c, int timeout_ms, int fd, bool *readable, struct err *e)
{
        struct curl_waitfd w[2] = {{.fd = fd, .events = CURL_WAIT_POLLIN},
                                   {.fd = interrupt_fd(), .events = CURL_WAIT_POLLIN}};
        int first = fd >= 0 ? 0 : 1, n = (fd >= 0) + (w[1].fd >= 0), running;
        CURLMcode rc;

        if (readable)
                *readable = false;
        rc = curl_multi_perform(c->multi, &running);
        finish_all(c);
        if (rc == CURLM_OK && timeout_ms > 0) {
                rc = curl_multi_poll(c->multi, w + first, (unsigned)n,
                                     timeout_ms < TURN_MAX_MS ? timeout_ms : TURN_MAX_MS, NULL);
                if (readable && fd >= 0)
                        *readable = w[0].revents != 0;
                interrupt_clear();
                if (rc == CURLM_OK)
                        rc = curl_multi_perform(c->multi, &running);
                finish_all(c);
        }
        return rc == CURLM_OK ? 0 : err_set(e, E_INTERNAL, "%s", curl_multi_strerror(rc));
}

/* ---- one at a time ---- */

struct wait {
        bool over, busy, person; /* person: it takes one to change that */
        int rc, status;
        struct err err;
        cJSON *doc;
};

static void on_end(void *ctx, const struct answer *a)
{
        struct wait *w = ctx;

        w->over = true;
        w->rc = a->rc;
        w->status = a->status;
        w->err = *a->err;
        w->busy = strcmp(a->code, "idempotency_in_progress") == 0;
        w->person = strncmp(a->code, "vault_", 6) == 0 || strcmp(a->code, "master_key_missing") == 0;
        if (!a->rc && a->doc)
                w->doc = cJSON_Duplicate(a->doc, true);
}

static int once(struct client *c, const struct request_spec *s, struct wait *w, struct err *e)
{
        struct request_spec spec = *s;
        struct request *r;
        int asked = interrupt_count(), rc;

        *w = (struct wait){0};
        spec.on_end = on_end;
        spec.ctx = w;
        rc = client_start(c, &spec, &r, e);
        while (!rc && !w->over) {
                rc = client_turn(c, TURN_MAX_MS, -1, NULL, e);
                if (!rc && !w->over && interrupt_count() != asked)
                        rc = err_set(e, E_CANCELLED, "interrupted");
                if (rc)
                        client_stop(c, r);
        }
        return rc;
}

static bool worth_repeating(const struct wait *w)
{
        return w->rc == -E_CLOSED || (w->status == 503 && !w->person) || w->busy;
}

int client_send(struct client *c, const char *method, const char *path, const void *body, size_t n,
                const char *type, cJSON **out, struct err *e)
{
        char key[ID_LEN];
        struct request_spec s = {.method = method, .path = path, .body = body, .body_len = n, .type = type};
        struct wait w = {0};
        int64_t until;
        int rc;

        if (strcmp(method, "POST") == 0) {
                id_make(clock_now_us(&clock_system), key);
                s.key = key;
        }
        for (int i = 0;; i++) {
                rc = once(c, &s, &w, e);
                if (rc || !worth_repeating(&w) || i == TRIES - 1)
                        break;
                until = clock_mono_ms(&clock_system) + (TRY_FIRST_MS << i);
                while (!rc && clock_mono_ms(&clock_system) < until)
                        rc = client_turn(c, (int)(until - clock_mono_ms(&clock_system)), -1, NULL, e);
                if (rc)
                        break;
        }
        if (!rc && w.rc) {
                *e = w.err;
                rc = w.rc;
        }
        if (!rc && out)
                *out = w.doc;
        else
                cJSON_Delete(w.doc);
        return rc;
}

int client_json(struct client *c, const char *method, const char *path, const cJSON *body, cJSON **out,
                struct err *e)
{
        char *text = body ? json_text(body) : NULL;
        int rc;

        if (body && !text)
                return no_memory(e);
        rc = client_send(c, method, path, text, text ? strlen(text) : 0, NULL, out, e);
        if (text)
                mem_wipe(text, strlen(text));
        mem_free(text);
        return rc;
}

#define PAGE 500

static int list_page(struct client *c, const char *path, const char *cursor, int64_t limit, cJSON **out,
                     struct err *e)
{
        char *esc = cursor ? client_escape(cursor) : NULL;
        char *full = cursor && !esc ? NULL
                                    : str_printf("%s%climit=%lld%s%s", path, strchr(path, '?') ? '&' : '?',
                                                 (long long)limit, esc ? "&cursor=" : "", esc ? esc : "");
        int rc = full ? client_json(c, "GET", full, NULL, out, e) : no_memory(e);

        mem_free(esc);
        mem_free(full);
        return rc;
}

int client_list(struct client *c, const char *path, int64_t limit, cJSON **out, struct err *e)
{
        cJSON *all = cJSON_CreateArray(), *page = NULL, *last = NULL, *item;
        int64_t n = 0;
        int rc = all ? 0 : no_memory(e);

        do {
                int64_t want = limit && limit - n < PAGE ? limit - n : PAGE;
                cJSON *next = NULL;

                if (!rc)
                        rc = list_page(c, path, text_of(last, "next_cursor"), want, &next, e);
                cJSON_Delete(last);
                last = rc ? NULL : next;
                page = cJSON_GetObjectItemCaseSensitive(last, "items");
                if (!rc && !cJSON_IsArray(page))
                        rc = err_set(e, E_PROTO, "%s%s did not answer with a list; is --hub right?", c->hub,
                                     path);
                while (!rc && page->child) {
                        item = cJSON_DetachItemViaPointer(page, page->child);
                        cJSON_AddItemToArray(all, item);
                        n++;
                }
        } while (!rc && text_of(last, "next_cursor") && (!limit || n < limit));
        cJSON_Delete(last);
        if (rc) {
                cJSON_Delete(all);
                return rc;
        }
        *out = all;
        return 0;
}

/* ---- paths ---- */

char *client_escape(const char *s)
{
        static const char hex[] = "0123456789ABCDEF";
        char *out = mem_alloc(strlen(s) * 3 + 1), *p = out;

        for (; out && *s; s++) {
                unsigned char ch = (unsigned char)*s;

                if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
                    strchr("-._~", ch)) {
                        *p++ = (char)ch;
                } else {
                        *p++ = '%';
                        *p++ = hex[ch >> 4];
                        *p++ = hex[ch & 15];
                }
        }
        if (out)
                *p = '\0';
        return out;
}

char *client_path(const char *fmt, ...)
{
        struct buf b;
        va_list ap;
        char *esc, *out = NULL;
        int rc;

        buf_init(&b, 0);
        va_start(ap, fmt);
        rc = buf_puts(&b, "/api/v1");
        for (const char *p = fmt; *p && !rc; p++) {
                if (p[0] == '%' && p[1] == 's') {
                        esc = client_escape(va_arg(ap, const char *));
                        rc = esc ? buf_puts(&b, esc) : -E_NOMEM;
                        mem_free(esc);
                        p++;
                } else {
                        rc = buf_putc(&b, *p);
                }
        }
        va_end(ap);
        if (!rc)
                out = buf_steal_str(&b);
        buf_fini(&b);
        return out;
}
