#include "tests/lib/api_world.h"

#include <curl/curl.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/stat.h>
#include <uv.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/file.h"
#include "common/list.h"
#include "common/mailbox.h"
#include "common/mem.h"
#include "hub/auth/auth.h"
#include "hub/event/bus.h"
#include "hub/logs/logs.h"
#include "hub/store/store.h"
#include "hub/vault/vault.h"
#include "tests/lib/test.h"

#define AGENT "fake-id"
/* Cut in the middle of a line, and with one that is no event. */
#define EVENTS_A                                                                                             \
        "{\"type\":\"text\",\"text\":\"said\\n\"}\n{\"type\":\"tool\",\"id\":\"1\",\"kind\":\"edit\","       \
        "\"title\":\"a.txt\","                                                                               \
        "\"status\":\"running\"}\nno event\n{\"type\":\"log\",\"level\""
#define EVENTS_B                                                                                             \
        ":\"info\",\"message\":\"all is well\"}\n{\"type\":\"question\",\"id\":1,\"title\":\"May "           \
        "it?\"}\n{\"type\":"                                                                                 \
        "\"answer\",\"id\":1,\"outcome\":\"allow\"}\n{\"type\":\"result\",\"status\":\"succeeded\"}\n"

struct attempt {
        struct list link;
        uint64_t id;
        char tool[32];
        char *input;
        uint64_t taken;
};

struct api_world {
        uv_loop_t loop;
        uv_thread_t thread;
        uv_prepare_t prepare;
        uv_check_t check;
        uv_timer_t timer;
        struct mailbox *mailbox;
        struct store *store;
        struct bus *bus;
        struct logs *logs;
        struct auth *auth;
        struct vault *vault;
        struct engine *engine;
        struct http *http;
        struct ca ca;
        char token[80], dir[512], logs_dir[600], ca_file[600];
        struct list attempts; /* loop */
        struct buf in;
        bool in_eof, flush;
        int parts; /* that have stopped */
        cJSON *labels;
        bool drained, revoked;
        sem_t durable; /* posted for each token that readers can see */
};

static void must(int rc, const struct err *e)
{
        if (rc)
                test_fail(__FILE__, __LINE__, "world: %s (%s)", e->msg, err_name(rc));
}

/* ---- the loop's turns ---- */

static void turn(struct api_world *w)
{
        if (!w->flush)
                return;
        w->flush = false;
        engine_flush(w->engine);
}

static void on_prepare(uv_prepare_t *p)
{
        turn(p->data);
}

static void on_check(uv_check_t *c)
{
        turn(c->data);
}

static void want_flush(void *ctx)
{
        ((struct api_world *)ctx)->flush = true;
}

static void on_timer(uv_timer_t *t)
{
        engine_tick(((struct api_world *)t->data)->engine);
}

static void want_timer(void *ctx, int64_t at)
{
        struct api_world *w = ctx;
        int64_t left = at == INT64_MAX ? 0 : at - clock_mono_ms(&clock_system);

        if (at == INT64_MAX)
                uv_timer_stop(&w->timer);
        else
                uv_timer_start(&w->timer, on_timer, left > 0 ? (uint64_t)left : 0, 0);
}

/* ---- the agent ---- */

struct reply {
        struct mail mail;
        struct api_world *w;
        struct attempt *a;
        enum engine_outcome outcome;
};

static void finish(struct api_world *w, struct attempt *a, enum engine_outcome how)
{
        struct engine_result r = {.attempt_id = a->id, .outcome = how, .outputs = a->input, .sync_fd = -1};
        struct buf small;
        int64_t now = clock_now_us(&clock_system);

        buf_init(&small, 0);
        r.started_us = r.finished_us = now;
        if (strcmp(a->tool, "t.out") == 0) {
                logs_frame(&small, 1, "out\n", 4, now);
                logs_frame(&small, 2, "err\n", 4, now);
                r.small_output = small.data;
                r.small_output_len = small.len;
                r.output_bytes = 8;
        }
        if (strcmp(a->tool, "t.events") == 0) {
                logs_frame(&small, LOG_EVENT, EVENTS_A, strlen(EVENTS_A), now);
                logs_frame(&small, LOG_STDOUT, "said\n", 5, now);
                logs_frame(&small, LOG_EVENT, EVENTS_B, strlen(EVENTS_B), now);
                r.small_output = small.data;
                r.small_output_len = small.len;
                r.output_bytes = strlen(EVENTS_A) + strlen(EVENTS_B) + 5;
        }
        if (strcmp(a->tool, "t.fail") == 0) {
                r.outcome = ENGINE_FAILED;
                r.has_exit_code = true;
                r.exit_code = 3;
                r.error_code = "exit_nonzero";
                r.error_message = "the command ended with exit status 3";
        }
        if (how == ENGINE_CANCELLED) {
                r.error_code = "cancelled";
                r.error_message = "cancelled";
        }
        list_remove(&a->link);
        engine_on_finished(w->engine, AGENT, &r, NULL, NULL);
        logs_note_finished(w->logs, a->id, r.output_bytes);
        buf_fini(&small);
        mem_free(a->input);
        mem_free(a);
}

static void on_reply(struct mail *m)
{
        struct reply *r = container_of(m, struct reply, mail);

        LIST_EACH (it, &r->w->attempts)
                if (it == &r->a->link) {
                        engine_on_started(r->w->engine, AGENT, r->a->id, clock_now_us(&clock_system));
                        if (r->outcome != ENGINE_LOST)
                                finish(r->w, r->a, r->outcome);
                        break;
                }
        mem_free(r);
}

static void reply_later(struct api_world *w, struct attempt *a, enum engine_outcome how)
{
        struct reply *r = mem_calloc(1, sizeof *r);

        r->w = w;
        r->a = a;
        r->outcome = how;
        r->mail.run = on_reply;
        mailbox_post(w->mailbox, &r->mail);
}

static void wire_start(void *ctx, const char *agent, const struct engine_start *m)
{
        struct api_world *w = ctx;
        struct attempt *a = mem_calloc(1, sizeof *a);
        bool stays = strcmp(m->tool, "t.hang") == 0 || strcmp(m->tool, "t.cat") == 0;

        (void)agent;
        a->id = m->attempt_id;
        a->input = mem_strdup(m->input);
        snprintf(a->tool, sizeof a->tool, "%s", m->tool);
        list_push_back(&w->attempts, &a->link);
        reply_later(w, a, stays ? ENGINE_LOST : ENGINE_SUCCEEDED);
}

static void wire_cancel(void *ctx, const char *agent, uint64_t attempt_id, const char *reason)
{
        struct api_world *w = ctx;

        (void)agent;
        (void)reason;
        LIST_EACH (it, &w->attempts) {
                struct attempt *a = container_of(it, struct attempt, link);

                if (a->id == attempt_id)
                        reply_later(w, a, ENGINE_CANCELLED);
        }
}

static void wire_ack(void *ctx, const char *agent, uint64_t attempt_id)
{
        (void)ctx;
        (void)agent;
        (void)attempt_id;
}

static void wire_stdin(void *ctx, const char *agent, uint64_t attempt_id, uint64_t offset, const void *p,
                       size_t n, bool eof)
{
        struct api_world *w = ctx;

        (void)agent;
        (void)attempt_id;
        (void)offset;
        buf_put(&w->in, p, n);
        w->in_eof |= eof;
}

/* ---- what hub.c would wire ---- */

static cJSON *describe(void *ctx, const char *name)
{
        struct api_world *w = ctx;
        cJSON *o, *tools;

        if (strcmp(name, "fake") != 0 && strcmp(name, AGENT) != 0)
                return NULL;
        o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "name", "fake");
        cJSON_AddStringToObject(o, "id", AGENT);
        cJSON_AddStringToObject(o, "state", w->revoked ? "revoked" : w->drained ? "draining" : "online");
        cJSON_AddItemToObject(o, "labels", cJSON_Duplicate(w->labels, true));
        tools = cJSON_AddArrayToObject(o, "tools");
        cJSON_AddItemToArray(tools, cJSON_CreateString("t.ok"));
        cJSON_AddItemToArray(tools, cJSON_CreateString("t.out"));
        return o;
}

static cJSON *describe_all(void *ctx)
{
        cJSON *a = cJSON_CreateArray();

        cJSON_AddItemToArray(a, describe(ctx, "fake"));
        return a;
}

static void answer_for(const char *name, engine_answer cb, void *arg)
{
        struct err e = {0};

        if (strcmp(name, "fake") != 0)
                cb(arg, err_set(&e, E_NOENT, "there is no agent '%s'", name), &e);
        else
                cb(arg, 0, NULL);
}

static void op_revoke(void *ctx, const char *name, engine_answer cb, void *arg)
{
        ((struct api_world *)ctx)->revoked = true;
        answer_for(name, cb, arg);
}

static void op_drain(void *ctx, const char *name, bool on, engine_answer cb, void *arg)
{
        ((struct api_world *)ctx)->drained = on;
        answer_for(name, cb, arg);
}

static void op_label(void *ctx, const char *name, const cJSON *set, engine_answer cb, void *arg)
{
        struct api_world *w = ctx;

        for (const cJSON *m = set->child; m; m = m->next) {
                cJSON_DeleteItemFromObject(w->labels, m->string);
                if (cJSON_IsString(m))
                        cJSON_AddStringToObject(w->labels, m->string, m->valuestring);
        }
        answer_for(name, cb, arg);
}

static size_t op_online(void *ctx)
{
        (void)ctx;
        return 1;
}

static int op_join_text(void *ctx, const char *id, const uint8_t secret[32], char **out, struct err *e)
{
        char t[64];

        (void)ctx;
        (void)secret;
        (void)e;
        snprintf(t, sizeof t, "pj1.%s", id);
        *out = mem_strdup(t);
        return 0;
}

/* ---- start and stop ---- */

static void run_loop(void *arg)
{
        struct api_world *w = arg;

        uv_run(&w->loop, UV_RUN_DEFAULT);
}

static void wait_for(sem_t *s)
{
        while (sem_wait(s))
                ; /* a signal came between */
}

static void on_durable(void *arg)
{
        sem_post(&((struct api_world *)arg)->durable);
}

static void build_state(struct api_world *w)
{
        struct store_options so = {.dir = w->dir,
                                   .mailbox = w->mailbox,
                                   .create = true,
                                   .seal_key = (const uint8_t[32]){1},
                                   .seal_key_new = true};
        struct auth_options ao = {.clock = &clock_system, .ca = &w->ca};
        struct store_tx *tx;
        char id[32];
        struct err e = {0};

        must(store_open(&so, &w->store, &e), &e);
        must(bus_create(0, &w->bus), &e);
        must(logs_create(w->logs_dir, &w->logs, &e), &e);
        ao.store = w->store;
        ao.bus = w->bus;
        must(auth_create(&ao, &w->auth, &e), &e);
        tx = store_begin(w->store);
        must(auth_api_token_create(tx,
                                   &(struct new_api_token){.name = "admin",
                                                           .project = PROJECT_ALL,
                                                           .role = ROLE_ADMIN,
                                                           .created_by = "test"},
                                   clock_now_us(&clock_system), w->token, id),
             &e);
        store_commit(tx, on_durable, w);
}

static void build_engine(struct api_world *w)
{
        static const struct engine_tool tools[] = {{"t.ok", true},   {"t.out", true}, {"t.fail", true},
                                                   {"t.hang", true}, {"t.cat", true}, {"t.events", true}};
        struct engine_agent agent = {.id = AGENT,
                                     .name = "fake",
                                     .kind = "local",
                                     .os = "linux",
                                     .arch = "x86_64",
                                     .version = "0",
                                     .boot_id = "b",
                                     .tools = tools,
                                     .n_tools = sizeof tools / sizeof *tools,
                                     .max_running = 64};
        struct vault_options vo = {.clock = &clock_system,
                                   .store = w->store,
                                   .dir = w->dir,
                                   .loop = &w->loop,
                                   .kdf_iterations = 1000};
        struct engine_options eo = {.clock = &clock_system,
                                    .store = w->store,
                                    .bus = w->bus,
                                    .wire = {wire_start, wire_cancel, wire_ack, wire_stdin, NULL, w},
                                    .want_timer = want_timer,
                                    .want_flush = want_flush,
                                    .ctx = w};
        struct err e = {0};

        must(vault_create(&vo, &w->vault, &e), &e);
        must(engine_create(&eo, &w->engine, &e), &e);
        must(engine_load(w->engine, &e), &e);
        must(engine_agent_online(w->engine, &agent), &e);
        engine_agent_ready(w->engine, AGENT);
}

struct api_world *world_start(void (*tweak)(struct http_options *o))
{
        struct api_world *w = mem_calloc(1, sizeof *w);
        struct http_options o = {0};
        struct err e = {0};

        list_init(&w->attempts);
        sem_init(&w->durable, 0, 0);
        buf_init(&w->in, 0);
        w->labels = cJSON_CreateObject();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        snprintf(w->dir, sizeof w->dir, "%s", test_scratch());
        snprintf(w->logs_dir, sizeof w->logs_dir, "%s/logs", w->dir);
        snprintf(w->ca_file, sizeof w->ca_file, "%s/ca.pem", w->dir);
        mkdir(w->logs_dir, 0700);
        must(uv_loop_init(&w->loop), &e);
        must(mailbox_create(&w->loop, &w->mailbox), &e);
        uv_prepare_init(&w->loop, &w->prepare);
        uv_check_init(&w->loop, &w->check);
        uv_timer_init(&w->loop, &w->timer);
        w->prepare.data = w->check.data = w->timer.data = w;
        uv_prepare_start(&w->prepare, on_prepare);
        uv_check_start(&w->check, on_check);
        must(ca_init(w->dir, NULL, clock_now_us(&clock_system), &e), &e);
        must(ca_load(w->dir, NULL, clock_now_us(&clock_system), &w->ca, &e), &e);
        must(file_write_atomic(w->ca_file, w->ca.ca_cert_pem, strlen(w->ca.ca_cert_pem), 0600, &e), &e);
        build_state(w);
        build_engine(w);
        o = (struct http_options){
                .loop = &w->loop,
                .mailbox = w->mailbox,
                .clock = &clock_system,
                .listen = "127.0.0.1:0",
                .cert_pem = w->ca.hub_cert_pem,
                .key_pem = w->ca.hub_key_pem,
                .store = w->store,
                .engine = w->engine,
                .bus = w->bus,
                .auth = w->auth,
                .logs = w->logs,
                .logs_dir = w->logs_dir,
                .ops = {op_revoke, op_drain, op_label, describe, describe_all, op_online, op_join_text, w}};
        if (tweak)
                tweak(&o);
        o.vault = w->vault;
        must(http_create(&o, &w->http, &e), &e);
        must(uv_thread_create(&w->thread, run_loop, w), &e);
        wait_for(&w->durable);
        return w;
}

struct errand {
        struct mail mail;
        struct api_world *w;
        void (*fn)(struct api_world *w, void *arg);
        void *arg;
        sem_t done;
};

static void on_errand(struct mail *m)
{
        struct errand *x = container_of(m, struct errand, mail);

        x->fn(x->w, x->arg);
        sem_post(&x->done);
}

void world_on_loop(struct api_world *w, void (*fn)(struct api_world *w, void *arg), void *arg)
{
        struct errand x = {.w = w, .fn = fn, .arg = arg, .mail.run = on_errand};

        sem_init(&x.done, 0, 0);
        mailbox_post(w->mailbox, &x.mail);
        wait_for(&x.done);
        sem_destroy(&x.done);
}

static void on_http_stopped(void *arg)
{
        struct api_world *w = arg;

        /* The mailbox closes only after the store, which posts to it until then. */
        uv_close((uv_handle_t *)&w->prepare, NULL);
        uv_close((uv_handle_t *)&w->check, NULL);
        uv_close((uv_handle_t *)&w->timer, NULL);
        uv_stop(&w->loop);
}

static void stop_http(struct api_world *w, void *arg)
{
        (void)arg;
        http_stop(w->http, 1000, on_http_stopped, w);
}

void world_stop(struct api_world *w)
{
        struct list *it;

        world_on_loop(w, stop_http, NULL);
        uv_thread_join(&w->thread);
        store_close(w->store);
        mailbox_drain(w->mailbox);
        vault_free(w->vault);
        mailbox_close(w->mailbox, NULL, NULL);
        uv_run(&w->loop, UV_RUN_DEFAULT);
        CHECK_INT(uv_loop_close(&w->loop), 0);
        engine_free(w->engine);
        http_free(w->http);
        auth_free(w->auth);
        logs_free(w->logs);
        bus_free(w->bus);
        ca_fini(&w->ca);
        while ((it = list_pop(&w->attempts))) {
                mem_free(container_of(it, struct attempt, link)->input);
                mem_free(container_of(it, struct attempt, link));
        }
        buf_fini(&w->in);
        cJSON_Delete(w->labels);
        mem_free(w);
}

static void leave_loop(struct api_world *w, void *arg)
{
        (void)arg;
        uv_stop(&w->loop);
}

void world_drop(struct api_world *w)
{
        static struct api_world *volatile kept; /* for the leak checker: the process is about to end */

        kept = w;
        world_on_loop(w, leave_loop, NULL);
        uv_thread_join(&w->thread);
        http_free(w->http);
        store_close(w->store);
        (void)kept;
}

int world_port(const struct api_world *w)
{
        return http_port(w->http);
}

const char *world_token(const struct api_world *w)
{
        return w->token;
}

const char *world_ca(const struct api_world *w)
{
        return w->ca_file;
}

struct engine *world_engine(struct api_world *w)
{
        return w->engine;
}

struct store *world_store(struct api_world *w)
{
        return w->store;
}

struct bus *world_bus(struct api_world *w)
{
        return w->bus;
}

static void count(struct api_world *w, void *arg)
{
        LIST_EACH (it, &w->attempts)
                ++*(size_t *)arg;
}

size_t world_running(struct api_world *w)
{
        size_t n = 0;

        world_on_loop(w, count, &n);
        return n;
}

static void finish_first(struct api_world *w, void *arg)
{
        (void)arg;
        if (!list_empty(&w->attempts))
                finish(w, container_of(w->attempts.next, struct attempt, link), ENGINE_SUCCEEDED);
}

void world_finish(struct api_world *w)
{
        world_on_loop(w, finish_first, NULL);
}

struct written {
        const void *p;
        size_t n;
        int channel;
};

static void write_first(struct api_world *w, void *arg)
{
        struct written *x = arg;
        struct attempt *a = container_of(w->attempts.next, struct attempt, link);
        struct log_file *f;
        uint64_t end;
        struct err e = {0};

        CHECK(!list_empty(&w->attempts));
        must(logs_open(w->logs, a->id, &f, &end, &e), &e);
        must(log_append(f, end, x->channel, x->p, x->n, clock_now_us(&clock_system), &e), &e);
        log_close(f);
}

void world_write(struct api_world *w, const void *p, size_t n)
{
        struct written x = {p, n, 1};

        world_on_loop(w, write_first, &x);
}

void world_write_event(struct api_world *w, const char *text)
{
        struct written x = {text, strlen(text), 3};

        world_on_loop(w, write_first, &x);
}

struct inbox {
        bool eof;
};

static void read_in(struct api_world *w, void *arg)
{
        buf_putc(&w->in, '\0');
        w->in.len--;
        ((struct inbox *)arg)->eof = w->in_eof;
}

const char *world_stdin(struct api_world *w, bool *eof)
{
        struct inbox x = {false};

        world_on_loop(w, read_in, &x);
        *eof = x.eof;
        return (const char *)w->in.data;
}

struct making {
        const char *role, *project;
        char *text;
};

static void make_token(struct api_world *w, void *arg)
{
        struct making *m = arg;
        char text[80], id[32];
        struct store_tx *tx = store_begin(w->store);
        enum role role;
        struct err e = {0};

        must(role_parse(m->role, &role), &e);
        must(auth_api_token_create(
                     tx,
                     &(struct new_api_token){
                             .name = m->role, .project = m->project, .role = role, .created_by = "test"},
                     clock_now_us(&clock_system), text, id),
             &e);
        auth_commit(w->auth, tx, on_durable, w);
        m->text = mem_strdup(text);
}

char *world_make_token(struct api_world *w, const char *role)
{
        return world_make_token_in(w, role, PROJECT_ALL);
}

char *world_make_token_in(struct api_world *w, const char *role, const char *project)
{
        struct making m = {.role = role, .project = project};

        world_on_loop(w, make_token, &m);
        wait_for(&w->durable);
        return m.text;
}

/* ---- the client ---- */

static size_t on_data(char *p, size_t size, size_t n, void *arg)
{
        return buf_put(arg, p, size * n) ? 0 : size * n;
}

static struct curl_slist *header_list(const char *type, const char *token, const char *const *headers)
{
        struct curl_slist *l = NULL;
        char t[256];

        if (*token) {
                snprintf(t, sizeof t, "Authorization: Bearer %s", token);
                l = curl_slist_append(l, t);
        }
        if (type) {
                snprintf(t, sizeof t, "Content-Type: %s", type);
                l = curl_slist_append(l, t);
        }
        for (; headers && *headers; headers++)
                l = curl_slist_append(l, *headers);
        return l;
}

struct answer ask(struct api_world *w, const char *method, const char *path, const char *type,
                  const void *body, size_t n, const char *token, const char *const *headers)
{
        struct answer a = {0};
        struct buf out, head;
        struct curl_slist *l = header_list(type, token ? token : w->token, headers);
        CURL *c = curl_easy_init();
        char url[2048];

        buf_init(&out, 0);
        buf_init(&head, 0);
        snprintf(url, sizeof url, "https://127.0.0.1:%d%s", world_port(w), path);
        curl_easy_setopt(c, CURLOPT_URL, url);
        curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
        curl_easy_setopt(c, CURLOPT_CAINFO, w->ca_file);
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, l);
        curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c, CURLOPT_TIMEOUT, 20L);
        if (strcmp(method, "HEAD") == 0)
                curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
        if (body) {
                curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
                curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
                curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
        }
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, &out);
        curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_data);
        curl_easy_setopt(c, CURLOPT_HEADERDATA, &head);
        a.curl = curl_easy_perform(c);
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &a.status);
        curl_slist_free_all(l);
        curl_easy_cleanup(c);
        a.len = out.len;
        a.body = buf_steal_str(&out);
        a.headers = buf_steal_str(&head);
        a.json = a.body ? cJSON_ParseWithLength(a.body, a.len) : NULL;
        return a;
}

struct answer get(struct api_world *w, const char *path)
{
        return ask(w, "GET", path, NULL, NULL, 0, NULL, NULL);
}

struct answer post(struct api_world *w, const char *path, const char *json)
{
        return ask(w, "POST", path, json ? "application/json" : NULL, json ? json : "",
                   json ? strlen(json) : 0, NULL, NULL);
}

void answer_fini(struct answer *a)
{
        mem_free(a->body);
        mem_free(a->headers);
        cJSON_Delete(a->json);
        *a = (struct answer){0};
}

const char *answer_str(const struct answer *a, const char *key)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(a->json, key));

        return s ? s : "";
}
