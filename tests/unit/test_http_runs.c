/* The real server, store and engine; the agent is played by tests/lib/api_world.c. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "hub/store/store.h"
#include "tests/lib/api_world.h"
#include "tests/lib/test.h"

#define CALL(tool) "{\"tool\":\"" tool "\",\"input\":{\"x\":\"${{ not.an.expression }}\",\"it's\":[1,null]}}"

static const cJSON *at(const struct answer *a, const char *key)
{
        return cJSON_GetObjectItemCaseSensitive(a->json, key);
}

static const char *step_str(const struct answer *a, int i, const char *key)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(at(a, "steps"), i), key));

        return s ? s : "";
}

static void expect(struct answer a, long status, const char *code, const char *says)
{
        if (a.status != status || (code && strcmp(answer_str(&a, "code"), code) != 0) ||
            (says && !strstr(a.body, says)))
                test_fail(__FILE__, __LINE__, "expected %ld %s %s, got %ld: %.400s", status, code ? code : "",
                          says ? says : "", a.status, a.body ? a.body : "(nothing)");
        if (status >= 400) {
                CHECK(strstr(a.headers, "application/problem+json") != NULL);
                CHECK(a.json != NULL);
        }
        answer_fini(&a);
}

TEST(http_calls, a_call_that_waits_answers_with_the_run)
{
        struct api_world *w = world_start(NULL);
        struct answer a = post(w, "/api/v1/calls?wait=true", CALL("t.ok"));

        CHECK_INT(a.status, 201);
        CHECK_STR(answer_str(&a, "state"), "succeeded");
        CHECK_STR(answer_str(&a, "kind"), "call");
        CHECK_STR(answer_str(&a, "workflow"), "t.ok");
        CHECK_STR(step_str(&a, 0, "state"), "succeeded");
        CHECK_STR(step_str(&a, 0, "agent"), "fake");
        CHECK(strstr(a.headers, "Location: /api/v1/runs/") != NULL ||
              strstr(a.headers, "location: /api/v1/runs/") != NULL);
        /* The tool was given what the caller wrote, expressions and quotes and all. */
        {
                const cJSON *out = cJSON_GetObjectItem(cJSON_GetArrayItem(at(&a, "steps"), 0), "outputs");
                const cJSON *list = cJSON_GetObjectItem(out, "it's");

                CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(out, "x")), "${{ not.an.expression }}");
                CHECK_INT(cJSON_GetArraySize(list), 2);
                CHECK(cJSON_IsNull(cJSON_GetArrayItem(list, 1)));
        }
        answer_fini(&a);
        world_stop(w);
}

TEST(http_calls, a_failed_call_says_how)
{
        struct api_world *w = world_start(NULL);
        struct answer a = post(w, "/api/v1/calls?wait=true", "{\"tool\":\"t.fail\"}");

        CHECK_STR(answer_str(&a, "state"), "failed");
        CHECK_INT(cJSON_GetObjectItem(cJSON_GetArrayItem(at(&a, "steps"), 0), "exit_code")->valueint, 3);
        answer_fini(&a);
        world_stop(w);
}

TEST(http_calls, a_wait_ends_with_its_timeout)
{
        struct api_world *w = world_start(NULL);
        struct answer a = post(w, "/api/v1/calls?wait=true&timeout=100ms", "{\"tool\":\"t.hang\"}");

        CHECK_INT(a.status, 201);
        CHECK_STR(answer_str(&a, "state"), "running");
        answer_fini(&a);
        world_finish(w); /* the engine calls nobody */
        world_stop(w);
}

TEST(http_calls, mistakes)
{
        struct api_world *w = world_start(NULL);

        expect(post(w, "/api/v1/calls", "{}"), 400, "invalid_argument", "tool");
        expect(post(w, "/api/v1/calls", "{\"tool\":1}"), 400, "invalid_argument", "tool");
        expect(post(w, "/api/v1/calls", "{\"tool\":\"t.ok\",\"inputs\":{}}"), 400, "invalid_argument",
               "inputs");
        expect(post(w, "/api/v1/calls", "{\"tool\":\"t.ok\",\"timeout\":\"soon\"}"), 400, "invalid_argument",
               NULL);
        expect(post(w, "/api/v1/calls", "{\"tool\":\"t.ok\",\"effect\":\"twice\"}"), 400, "invalid_argument",
               NULL);
        expect(post(w, "/api/v1/calls", "{\"tool\":\"t.ok\",\"agent\":\"a\",\"labels\":{}}"), 400,
               "invalid_argument", "not both");
        expect(post(w, "/api/v1/calls", "{\"tool\":\"t.ok\",\"agent\":\"${{ x }}\"}"), 400,
               "invalid_argument", NULL);
        expect(post(w, "/api/v1/calls?wait=maybe", "{\"tool\":\"t.ok\"}"), 400, "invalid_argument", "wait");
        expect(post(w, "/api/v1/calls?wait=true&timeout=2h", "{\"tool\":\"t.ok\"}"), 400, "invalid_argument",
               "1h");
        expect(post(w, "/api/v1/calls?wat=1", "{\"tool\":\"t.ok\"}"), 400, "invalid_argument", "wat");
        world_stop(w);
}

static const char flow[] = "name: two\n"
                           "inputs:\n"
                           "  v: {type: number, required: true}\n"
                           "steps:\n"
                           "  - {id: a, uses: t.ok, with: {v: \"${{ inputs.v }}\"}}\n"
                           "  - {id: b, uses: t.out, needs: [a]}\n";

TEST(http_runs, yaml_with_inputs_in_the_query)
{
        struct api_world *w = world_start(NULL);
        struct answer a = ask(w, "POST", "/api/v1/runs?wait=true&input.v=7", "application/yaml", flow,
                              sizeof flow - 1, NULL, NULL);
        char path[200];

        CHECK_INT(a.status, 201);
        CHECK_STR(answer_str(&a, "state"), "succeeded");
        CHECK_INT(cJSON_GetArraySize(at(&a, "steps")), 2);
        CHECK_STR(cJSON_GetStringValue(cJSON_GetArrayItem(
                          cJSON_GetObjectItem(cJSON_GetArrayItem(at(&a, "steps"), 1), "needs"), 0)),
                  "a");
        CHECK_INT(cJSON_GetObjectItem(cJSON_GetObjectItem(cJSON_GetArrayItem(at(&a, "steps"), 0), "outputs"),
                                      "v")
                          ->valueint,
                  7);
        snprintf(path, sizeof path, "/api/v1/runs/%s/steps/b", answer_str(&a, "id"));
        expect(get(w, path), 200, NULL, "\"attempts\":[]");
        answer_fini(&a);
        world_stop(w);
}

TEST(http_runs, an_object_keeps_the_places_of_its_mistakes)
{
        struct api_world *w = world_start(NULL);
        struct answer a = post(w, "/api/v1/runs", "{\"workflow\":\n  {\"name\": \"x\",\n    \"stepz\": []}}");

        CHECK_INT(a.status, 400);
        CHECK_INT(at(&a, "line")->valueint, 3);
        CHECK_INT(at(&a, "column")->valueint, 5);
        answer_fini(&a);
        a = post(w, "/api/v1/validate",
                 "{\"workflow\":\"name: x\\nsteps:\\n  - {id: a, uses: t.ok, needs: [zz]}\\n\"}");
        CHECK_INT(a.status, 200);
        CHECK(cJSON_IsFalse(at(&a, "valid")));
        CHECK_INT(cJSON_GetObjectItem(cJSON_GetArrayItem(at(&a, "errors"), 0), "line")->valueint, 3);
        answer_fini(&a);
        a = ask(w, "POST", "/api/v1/validate", "application/yaml", flow, sizeof flow - 1, NULL, NULL);
        CHECK(cJSON_IsTrue(at(&a, "valid")));
        answer_fini(&a);
        world_stop(w);
}

TEST(http_runs, lists_page_by_page_newest_first)
{
        struct api_world *w = world_start(NULL);
        char path[200], seen[4][64];
        struct answer a;

        for (int i = 0; i < 4; i++) {
                a = post(w, "/api/v1/calls?wait=true",
                         i == 1 ? "{\"tool\":\"t.fail\"}" : "{\"tool\":\"t.ok\"}");
                snprintf(seen[i], sizeof seen[i], "%s", answer_str(&a, "id"));
                answer_fini(&a);
        }
        a = get(w, "/api/v1/runs?limit=3");
        CHECK_INT(cJSON_GetArraySize(at(&a, "items")), 3);
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(at(&a, "items"), 0), "id")),
                  seen[3]);
        snprintf(path, sizeof path, "/api/v1/runs?limit=3&cursor=%s", answer_str(&a, "next_cursor"));
        answer_fini(&a);
        a = get(w, path);
        CHECK_INT(cJSON_GetArraySize(at(&a, "items")), 1);
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(at(&a, "items"), 0), "id")),
                  seen[0]);
        CHECK(cJSON_IsNull(at(&a, "next_cursor")));
        answer_fini(&a);
        a = get(w, "/api/v1/runs?state=failed&kind=call");
        CHECK_INT(cJSON_GetArraySize(at(&a, "items")), 1);
        answer_fini(&a);
        expect(get(w, "/api/v1/runs?state=asleep"), 400, "invalid_argument", "asleep");
        expect(get(w, "/api/v1/runs?limit=0"), 400, "invalid_argument", "limit");
        expect(get(w, "/api/v1/runs?limit=501"), 400, "invalid_argument", "limit");
        expect(get(w, "/api/v1/runs?cursor=x"), 400, "invalid_argument", "cursor");
        world_stop(w);
}

static void submit(struct api_world *w, const char *json, char id[64])
{
        struct answer a = post(w, "/api/v1/calls", json);

        CHECK_INT(a.status, 201);
        snprintf(id, 64, "%s", answer_str(&a, "id"));
        answer_fini(&a);
}

/* Until the agent has n attempts: the loop's own answers pace this. */
static void until_running(struct api_world *w, size_t n)
{
        while (world_running(w) != n)
                ;
}

static struct answer about(struct api_world *w, const char *method, const char *id, const char *what,
                           const char *json)
{
        char path[200];

        snprintf(path, sizeof path, "/api/v1/runs/%s%s", id, what);
        return ask(w, method, path, json ? "application/json" : NULL, json, json ? strlen(json) : 0, NULL,
                   NULL);
}

/* A watcher's stream ends with the run. */
static void until_over(struct api_world *w, const char *id)
{
        struct answer a = about(w, "GET", id, "/events", NULL);

        CHECK_INT(a.status, 200);
        CHECK_INT(a.curl, 0);
        answer_fini(&a);
}

TEST(http_runs, cancel_then_cancel_again)
{
        struct api_world *w = world_start(NULL);
        struct answer a;
        char id[64];

        submit(w, "{\"tool\":\"t.hang\"}", id);
        until_running(w, 1);
        a = about(w, "POST", id, "/cancel", "{\"reason\":\"enough\"}");
        CHECK_INT(a.status, 200);
        CHECK(cJSON_IsTrue(at(&a, "cancel_requested")));
        answer_fini(&a);
        until_over(w, id);
        a = about(w, "GET", id, "", NULL);
        CHECK_STR(answer_str(&a, "state"), "cancelled");
        answer_fini(&a);
        expect(about(w, "POST", id, "/cancel", NULL), 409, "failed_precondition", "cancelled");
        expect(about(w, "POST", "nobody", "/cancel", NULL), 404, "not_found", "nobody");
        world_stop(w);
}

TEST(http_runs, retry_runs_again)
{
        struct api_world *w = world_start(NULL);
        struct answer a = post(w, "/api/v1/calls?wait=true", "{\"tool\":\"t.fail\"}");
        char id[64];

        snprintf(id, sizeof id, "%s", answer_str(&a, "id"));
        answer_fini(&a);
        expect(about(w, "POST", id, "/retry", NULL), 200, NULL, NULL);
        until_over(w, id);
        a = about(w, "GET", id, "", NULL);
        CHECK_INT(cJSON_GetObjectItem(cJSON_GetArrayItem(at(&a, "steps"), 0), "attempt")->valueint, 2);
        answer_fini(&a);
        expect(about(w, "POST", id, "/steps/call/resolve", "{\"outcome\":\"retry\"}"), 409,
               "failed_precondition", NULL);
        expect(about(w, "POST", id, "/steps/call/resolve", "{\"outcome\":\"maybe\"}"), 400,
               "invalid_argument", NULL);
        expect(about(w, "GET", id, "/explain", NULL), 200, NULL, "placement");
        expect(about(w, "GET", id, "/explain?step=none", NULL), 404, "not_found", "none");
        world_stop(w);
}

TEST(http_runs, explain_while_it_waits)
{
        struct api_world *w = world_start(NULL);
        char id[64];

        submit(w, "{\"tool\":\"t.ok\",\"agent\":\"nowhere\"}", id);
        expect(about(w, "GET", id, "/explain", NULL), 200, NULL, "reason");
        world_stop(w);
}

/* ---- idempotency ---- */

TEST(http_idempotency, the_same_key_is_the_same_run)
{
        static const char *const key[] = {"Idempotency-Key: k1", NULL};
        static const char body[] = "{\"tool\":\"t.ok\"}", other[] = "{\"tool\":\"t.out\"}";
        struct api_world *w = world_start(NULL);
        struct answer a =
                ask(w, "POST", "/api/v1/calls", "application/json", body, sizeof body - 1, NULL, key);
        struct answer b = ask(w, "POST", "/api/v1/calls?wait=true", "application/json", body, sizeof body - 1,
                              NULL, key);
        struct answer list = get(w, "/api/v1/runs");

        CHECK_INT(a.status, 201);
        CHECK_INT(b.status, 201);
        CHECK_STR(answer_str(&b, "id"), answer_str(&a, "id"));
        CHECK(strstr(b.headers, "Idempotent-Replayed: true") != NULL);
        CHECK_INT(cJSON_GetArraySize(at(&list, "items")), 1);
        expect(ask(w, "POST", "/api/v1/calls", "application/json", other, sizeof other - 1, NULL, key), 422,
               "idempotency_mismatch", NULL);
        answer_fini(&a);
        answer_fini(&b);
        answer_fini(&list);
        world_stop(w);
}

/* A store that always has something large to write: what is committed is not on disk at once. */
struct busy {
        struct store *store;
        char *much;
        atomic_bool stop, idle;
};

static void write_more(void *arg)
{
        struct busy *b = arg;
        struct store_tx *tx;

        if (b->stop) {
                b->idle = true;
                return;
        }
        tx = store_begin(b->store);
        CHECK(tx != NULL);
        store_put_meta(tx, "busy", b->much);
        store_commit(tx, write_more, b);
}

static void keep_busy(struct api_world *w, void *arg)
{
        struct busy *b = arg;

        b->store = world_store(w);
        write_more(b);
}

/* A second cancel means "and its finally steps, too": the same request again, however soon, must not. */
TEST(http_idempotency, the_same_cancel_again_is_no_second_cancel)
{
        static const char two[] = "name: w\nsteps:\n  - {id: a, uses: t.hang}\n"
                                  "finally:\n  - {id: b, uses: t.hang}\n";
        struct api_world *w = world_start(NULL);
        struct busy busy = {.much = mem_alloc((4 << 20) + 1)};
        char text[40], cancel[128], path[96];
        const char *const key[] = {text, NULL};

        memset(busy.much, 'x', 4 << 20);
        busy.much[4 << 20] = '\0';
        world_on_loop(w, keep_busy, &busy);
        for (int i = 0; i < 5; i++) {
                struct answer a =
                        ask(w, "POST", "/api/v1/runs", "application/yaml", two, sizeof two - 1, NULL, NULL);
                struct answer b;

                CHECK_INT(a.status, 201);
                snprintf(text, sizeof text, "Idempotency-Key: cancel-%d", i);
                snprintf(path, sizeof path, "/api/v1/runs/%s", answer_str(&a, "id"));
                snprintf(cancel, sizeof cancel, "%s/cancel", path);
                answer_fini(&a);
                a = ask(w, "POST", cancel, "application/json", "{}", 2, NULL, key);
                CHECK_INT(a.status, 200);
                b = ask(w, "POST", cancel, "application/json", "{}", 2, NULL, key);
                if (b.status != 200 || !strstr(b.headers, "Idempotent-Replayed: true"))
                        test_fail(__FILE__, __LINE__, "try %d: %ld %.200s", i, b.status, b.body);
                answer_fini(&a);
                answer_fini(&b);
                expect(post(w, cancel, "{}"), 200, NULL, NULL); /* this one is */
        }
        busy.stop = true;
        while (!busy.idle)
                expect(get(w, "/healthz"), 200, NULL, NULL);
        world_stop(w);
        mem_free(busy.much);
}

TEST(http_idempotency, a_secret_is_not_told_twice)
{
        static const char *const key[] = {"Idempotency-Key: k2", NULL};
        struct api_world *w = world_start(NULL);
        struct answer a = ask(w, "POST", "/api/v1/join-tokens", NULL, "", 0, NULL, key);
        struct answer b = ask(w, "POST", "/api/v1/join-tokens", NULL, "", 0, NULL, key);

        CHECK_INT(a.status, 201);
        CHECK(strncmp(answer_str(&a, "token"), "pj1.", 4) == 0);
        CHECK_INT(b.status, 409);
        CHECK_STR(answer_str(&b, "id"), answer_str(&a, "id"));
        CHECK(!strstr(b.body, answer_str(&a, "token")));
        answer_fini(&a);
        answer_fini(&b);
        world_stop(w);
}

TEST(http_idempotency, bad_keys)
{
        static const char *const spaces[] = {"Idempotency-Key: a b", NULL};
        struct api_world *w = world_start(NULL);
        char longest[400];
        const char *const one[] = {longest, NULL};

        snprintf(longest, sizeof longest, "Idempotency-Key: %0300d", 7);
        expect(ask(w, "POST", "/api/v1/calls", "application/json", "{\"tool\":\"t.ok\"}", 15, NULL, spaces),
               400, "invalid_argument", NULL);
        expect(ask(w, "POST", "/api/v1/calls", "application/json", "{\"tool\":\"t.ok\"}", 15, NULL, one), 400,
               "invalid_argument", NULL);
        world_stop(w);
}

/* ---- standard input ---- */

static struct answer put_in(struct api_world *w, const char *id, const char *query, const char *data)
{
        char path[200];

        snprintf(path, sizeof path, "/api/v1/runs/%s/stdin%s", id, query);
        return ask(w, "PUT", path, "application/octet-stream", data, strlen(data), NULL, NULL);
}

TEST(http_stdin, bytes_in_order_gaps_refused)
{
        struct api_world *w = world_start(NULL);
        bool eof = false;
        char id[64];

        submit(w, "{\"tool\":\"t.cat\",\"stdin\":true}", id);
        until_running(w, 1);
        expect(put_in(w, id, "?offset=0", "hello "), 200, NULL, "\"taken\":6");
        expect(put_in(w, id, "?offset=9", "gap"), 409, NULL, "\"taken\":6");
        expect(put_in(w, id, "?offset=6&eof=1", "world"), 200, NULL, "\"taken\":11");
        CHECK_STR(world_stdin(w, &eof), "hello world");
        CHECK(eof);
        world_finish(w);
        until_over(w, id);
        expect(put_in(w, id, "?offset=11", "x"), 409, NULL, NULL);
        expect(put_in(w, "nobody", "", "x"), 404, "not_found", NULL);
        world_stop(w);
}

/* ---- a disk that takes nothing ---- */

static void *late_call(void *arg)
{
        struct answer *a = mem_calloc(1, sizeof *a);

        *a = post(arg, "/api/v1/calls", "{\"tool\":\"t.ok\"}");
        return a;
}

TEST(http_disk, full_means_503_and_what_was_taken_is_kept)
{
        struct api_world *w = world_start(NULL);
        struct rlimit lim = {.rlim_cur = 1, .rlim_max = RLIM_INFINITY};
        struct answer *late, a = {0};
        char id[64];
        pthread_t t;
        void *got;

        /* All that comes by itself (when the token was used) is written: the late call meets the disk first.
         */
        submit(w, "{\"tool\":\"t.ok\"}", id);
        until_over(w, id);
        signal(SIGXFSZ, SIG_IGN);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &lim), 0);
        CHECK_INT(pthread_create(&t, NULL, late_call, w), 0);
        do { /* until the store has met the disk */
                answer_fini(&a);
                a = get(w, "/readyz");
        } while (a.status == 200);
        CHECK_INT(a.status, 503);
        CHECK(strstr(a.headers, "Retry-After:") != NULL);
        answer_fini(&a);
        expect(post(w, "/api/v1/calls", "{\"tool\":\"t.ok\"}"), 503, NULL, "cannot keep");
        expect(get(w, "/api/v1/runs"), 200, NULL, id); /* reading goes on */
        lim.rlim_cur = RLIM_INFINITY;
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &lim), 0);
        CHECK_INT(pthread_join(t, &got), 0);
        late = got;
        CHECK_INT(late->status, 201);
        answer_fini(late);
        mem_free(late);
        world_stop(w);
}

/* ---- stopping ---- */

TEST(http_server, stops_with_a_run_under_way)
{
        struct api_world *w = world_start(NULL);
        char id[64];

        submit(w, "{\"tool\":\"t.hang\"}", id);
        until_running(w, 1);
        world_stop(w);
}
