/* Event streams, logs and their followers, with the real server. */
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "hub/event/bus.h"
#include "hub/store/store.h"
#include "tests/lib/api_world.h"
#include "tests/lib/test.h"

/* ---- a client that reads while the test acts ---- */

struct tail {
        struct api_world *w;
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t more;
        char path[300];
        const char *header;
        struct buf got;
        bool over, cut; /* cut: hang up at the next byte */
        long status;
        CURLcode rc;
};

static size_t on_bytes(char *p, size_t size, size_t n, void *arg)
{
        struct tail *t = arg;
        size_t took = size * n;

        pthread_mutex_lock(&t->lock);
        if (t->cut || buf_put(&t->got, p, took))
                took = 0;
        pthread_cond_signal(&t->more);
        pthread_mutex_unlock(&t->lock);
        return took;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        struct tail *t = arg;
        bool cut;

        (void)a, (void)b, (void)c, (void)d;
        pthread_mutex_lock(&t->lock);
        cut = t->cut;
        pthread_mutex_unlock(&t->lock);
        return cut;
}

static void *tail_main(void *arg)
{
        struct tail *t = arg;
        char url[400], auth[160];
        struct curl_slist *l = NULL;
        CURL *c = curl_easy_init();

        snprintf(url, sizeof url, "https://127.0.0.1:%d%s", world_port(t->w), t->path);
        snprintf(auth, sizeof auth, "Authorization: Bearer %s", world_token(t->w));
        l = curl_slist_append(l, auth);
        if (t->header)
                l = curl_slist_append(l, t->header);
        curl_easy_setopt(c, CURLOPT_URL, url);
        curl_easy_setopt(c, CURLOPT_CAINFO, world_ca(t->w));
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, l);
        curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c, CURLOPT_TIMEOUT, 30L);
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
        curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
        t->rc = curl_easy_perform(c);
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &t->status);
        curl_slist_free_all(l);
        curl_easy_cleanup(c);
        pthread_mutex_lock(&t->lock);
        t->over = true;
        pthread_cond_signal(&t->more);
        pthread_mutex_unlock(&t->lock);
        return NULL;
}

static struct tail *tail_start(struct api_world *w, const char *path)
{
        struct tail *t = mem_calloc(1, sizeof *t);

        t->w = w;
        pthread_mutex_init(&t->lock, NULL);
        pthread_cond_init(&t->more, NULL);
        snprintf(t->path, sizeof t->path, "%s", path);
        buf_init(&t->got, 0);
        CHECK_INT(pthread_create(&t->thread, NULL, tail_main, t), 0);
        return t;
}

/* Until the text has come (NULL: until the end), at most 15 s. */
static bool tail_sees(struct tail *t, const char *text)
{
        struct timespec until;
        bool seen = false;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 15;
        pthread_mutex_lock(&t->lock);
        for (;;) {
                seen = text ? t->got.len && memmem(t->got.data, t->got.len, text, strlen(text)) : t->over;
                if (seen || (t->over && text) || pthread_cond_timedwait(&t->more, &t->lock, &until))
                        break;
        }
        pthread_mutex_unlock(&t->lock);
        return seen;
}

static void tail_cut(struct tail *t)
{
        pthread_mutex_lock(&t->lock);
        t->cut = true;
        pthread_mutex_unlock(&t->lock);
        pthread_join(t->thread, NULL);
}

static void tail_free(struct tail *t)
{
        buf_fini(&t->got);
        mem_free(t);
}

static void tail_end(struct tail *t)
{
        pthread_join(t->thread, NULL);
        tail_free(t);
}

/* ---- helpers ---- */

static void run_call(struct api_world *w, const char *json, bool wait, char id[64])
{
        struct answer a = post(w, wait ? "/api/v1/calls?wait=true" : "/api/v1/calls", json);

        CHECK_INT(a.status, 201);
        snprintf(id, 64, "%s", answer_str(&a, "id"));
        answer_fini(&a);
}

static void until_running(struct api_world *w, size_t n)
{
        while (world_running(w) != n)
                ;
}

static const char *of_run(const char *id, const char *what)
{
        static char path[8][300];
        static int i;

        i = (i + 1) % 8;
        snprintf(path[i], sizeof path[i], "/api/v1/runs/%s%s", id, what);
        return path[i];
}

static void reads(struct api_world *w, const char *path, const char *want)
{
        struct answer a = get(w, path);

        if (a.status != 200 || a.len != strlen(want) || memcmp(a.body, want, a.len) != 0)
                test_fail(__FILE__, __LINE__, "%s: %ld \"%.300s\", expected \"%s\"", path, a.status, a.body,
                          want);
        answer_fini(&a);
}

static double gauge(struct api_world *w, const char *name)
{
        struct answer a = get(w, "/metrics");
        char want[100];
        const char *p;
        double v;

        snprintf(want, sizeof want, "\n%s ", name);
        p = strstr(a.body, want);
        CHECK(p != NULL);
        v = strtod(p + strlen(want), NULL);
        answer_fini(&a);
        return v;
}

/* ---- events ---- */

/* The ids of a stream, in order; returns how many. */
static size_t ids_of(const char *text, int64_t *ids, size_t max)
{
        size_t n = 0;

        for (const char *p = strstr(text, "\nid: "); p && n < max; p = strstr(p + 1, "\nid: "))
                ids[n++] = strtoll(p + 5, NULL, 10);
        return n;
}

TEST(http_events, a_run_from_its_beginning_to_its_end)
{
        static const char *const order[] = {"event: run.created", "event: run.started",
                                            "event: step.succeeded", "event: run.succeeded"};
        struct api_world *w = world_start(NULL);
        const char *p;
        struct answer a;
        char id[64];

        run_call(w, "{\"tool\":\"t.ok\"}", true, id);
        a = get(w, of_run(id, "/events"));
        CHECK_INT(a.status, 200);
        CHECK(strstr(a.headers, "text/event-stream") != NULL);
        p = a.body;
        for (int i = 0; i < 4; i++) {
                p = strstr(p, order[i]);
                if (!p)
                        test_fail(__FILE__, __LINE__, "no %s in its place: %s", order[i], a.body);
        }
        answer_fini(&a);
        a = get(w, of_run("nobody", "/events"));
        CHECK_INT(a.status, 404);
        answer_fini(&a);
        world_stop(w);
}

TEST(http_events, resumes_exactly_wherever_it_was_cut)
{
        struct api_world *w = world_start(NULL);
        int64_t all[64], rest[64];
        struct answer a;
        size_t n;
        char id[64];

        for (int i = 0; i < 3; i++)
                run_call(w, "{\"tool\":\"t.ok\"}", true, id);
        a = get(w, "/api/v1/events?after=0&follow=false");
        n = ids_of(a.body, all, 64);
        answer_fini(&a);
        CHECK(n > 9);
        for (size_t i = 0; i < n; i++) {
                char header[64];
                size_t m;

                CHECK(i == 0 || all[i] == all[i - 1] + 1);
                snprintf(header, sizeof header, "Last-Event-ID: %lld", (long long)all[i]);
                a = ask(w, "GET", "/api/v1/events?follow=false", NULL, NULL, 0, NULL,
                        (const char *const[]){header, NULL});
                m = ids_of(a.body, rest, 64);
                CHECK_INT(m, n - i - 1);
                CHECK(!m || memcmp(rest, all + i + 1, m * sizeof *rest) == 0);
                CHECK(!strstr(a.body, "gap"));
                answer_fini(&a);
        }
        a = ask(w, "GET", "/api/v1/events", NULL, NULL, 0, NULL,
                (const char *const[]){"Last-Event-ID: x7", NULL});
        CHECK_INT(a.status, 400);
        answer_fini(&a);
        world_stop(w);
}

static void trim(struct api_world *w, void *arg)
{
        struct store_tx *tx = store_begin(world_store(w));

        store_trim_events(tx, *(int64_t *)arg);
        store_commit(tx, NULL, NULL);
}

TEST(http_events, a_gap_is_said)
{
        struct api_world *w = world_start(NULL);
        int64_t upto = 6;
        struct answer a;
        char id[64];

        for (int i = 0; i < 4; i++)
                run_call(w, "{\"tool\":\"t.ok\"}", true, id);
        world_on_loop(w, trim, &upto);
        run_call(w, "{\"tool\":\"t.ok\"}", true, id); /* committed after the trim */
        a = get(w, "/api/v1/events?after=1&follow=false");
        CHECK(strstr(a.body, "event: gap\ndata: {\"type\":\"gap\",\"after\":1,\"oldest\":") != NULL);
        answer_fini(&a);
        a = get(w, "/api/v1/events?after=999999&follow=false");
        CHECK(strstr(a.body, "event: gap") != NULL);
        answer_fini(&a);
        world_stop(w);
}

static void short_heartbeat(struct http_options *o)
{
        o->heartbeat_ms = 100;
        o->max_streams = 2;
}

TEST(http_events, live_ones_arrive_and_quiet_ones_beat)
{
        struct api_world *w = world_start(short_heartbeat);
        struct tail *t = tail_start(w, "/api/v1/events");
        char id[64];

        CHECK(tail_sees(t, "retry:"));
        CHECK(tail_sees(t, ": still here"));
        run_call(w, "{\"tool\":\"t.ok\"}", true, id);
        CHECK(tail_sees(t, "event: run.succeeded"));
        CHECK(tail_sees(t, id));
        CHECK(gauge(w, "photon_http_streams_active") == 1);
        tail_cut(t);
        while (gauge(w, "photon_http_streams_active") != 0)
                ; /* found out by the next beat */
        tail_free(t);
        world_stop(w);
}

TEST(http_events, streams_are_limited)
{
        struct api_world *w = world_start(short_heartbeat);
        struct tail *a = tail_start(w, "/api/v1/events"), *b = tail_start(w, "/api/v1/events");
        struct answer c;

        CHECK(tail_sees(a, "retry:") && tail_sees(b, "retry:"));
        c = get(w, "/api/v1/events");
        CHECK_INT(c.status, 429);
        CHECK(strstr(c.headers, "Retry-After:") != NULL);
        answer_fini(&c);
        tail_cut(a);
        tail_cut(b);
        tail_free(a);
        tail_free(b);
        world_stop(w);
}

TEST(http_events, stopping_ends_streams_and_waits)
{
        struct api_world *w = world_start(NULL);
        struct tail *all = tail_start(w, "/api/v1/events"), *run, *logs;
        char id[64];

        run_call(w, "{\"tool\":\"t.hang\"}", false, id);
        until_running(w, 1);
        run = tail_start(w, of_run(id, "/events"));
        logs = tail_start(w, of_run(id, "/logs?follow=true&format=json"));
        world_write(w, "x", 1);
        CHECK(tail_sees(all, "retry:") && tail_sees(run, "event: run.started") &&
              tail_sees(logs, "\"data\":\"x\""));
        world_stop(w);
        CHECK(tail_sees(all, NULL) && tail_sees(run, NULL) && tail_sees(logs, NULL));
        CHECK_INT(all->rc, CURLE_OK);
        CHECK(logs->rc != CURLE_OK); /* cut short, and the client can tell */
        tail_end(all);
        tail_end(run);
        tail_end(logs);
}

TEST(http_server, ends_at_once_when_the_loop_is_left)
{
        struct api_world *w = world_start(NULL);
        struct tail *all = tail_start(w, "/api/v1/events"), *logs;
        char id[64];

        CHECK(tail_sees(all, "retry:")); /* it streams from now on */
        run_call(w, "{\"tool\":\"t.hang\"}", false, id);
        until_running(w, 1);
        logs = tail_start(w, of_run(id, "/logs?follow=true"));
        world_write(w, "x", 1);
        CHECK(tail_sees(all, "event: step.started") && tail_sees(logs, "x"));
        world_drop(w);
        CHECK(tail_sees(all, NULL) && tail_sees(logs, NULL));
        tail_end(all);
        tail_end(logs);
}

TEST(http_calls, a_waiting_client_that_hangs_up_is_forgotten)
{
        struct api_world *w = world_start(NULL);
        char url[200], auth[160];
        struct curl_slist *l = NULL;
        CURL *c = curl_easy_init();

        snprintf(url, sizeof url, "https://127.0.0.1:%d/api/v1/calls?wait=true", world_port(w));
        snprintf(auth, sizeof auth, "Authorization: Bearer %s", world_token(w));
        l = curl_slist_append(curl_slist_append(l, auth), "Content-Type: application/json");
        curl_easy_setopt(c, CURLOPT_URL, url);
        curl_easy_setopt(c, CURLOPT_CAINFO, world_ca(w));
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, l);
        curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, 300L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, "{\"tool\":\"t.hang\"}");
        CHECK_INT(curl_easy_perform(c), CURLE_OPERATION_TIMEDOUT);
        curl_easy_cleanup(c);
        curl_slist_free_all(l);
        CHECK_INT(world_running(w), 1);
        while (gauge(w, "photon_http_streams_active") != 0)
                ;        /* the sweep looks once a second */
        world_finish(w); /* and the engine calls nobody */
        CHECK(gauge(w, "photon_http_requests_active") == 1);
        world_stop(w);
}

/* ---- logs ---- */

TEST(http_logs, small_output_by_channel_offset_and_form)
{
        struct api_world *w = world_start(NULL);
        struct answer a;
        char id[64];

        run_call(w, "{\"tool\":\"t.out\"}", true, id);
        reads(w, of_run(id, "/logs"), "out\nerr\n");
        reads(w, of_run(id, "/steps/call/logs"), "out\nerr\n");
        reads(w, of_run(id, "/steps/call/logs?channel=stdout"), "out\n");
        reads(w, of_run(id, "/steps/call/logs?channel=stderr"), "err\n");
        reads(w, of_run(id, "/steps/call/logs?channel=event"), "");
        reads(w, of_run(id, "/steps/call/logs?offset=2"), "t\nerr\n");
        reads(w, of_run(id, "/steps/call/logs?offset=8"), "");
        reads(w, of_run(id, "/steps/call/logs?offset=800"), "");
        reads(w, of_run(id, "/steps/call/logs?attempt=1&follow=true"), "out\nerr\n");
        a = get(w, of_run(id, "/steps/call/logs?format=json"));
        CHECK(strstr(a.headers, "application/x-ndjson") != NULL);
        CHECK(strstr(a.body, "\"offset\":0,\"channel\":\"stdout\"") &&
              strstr(a.body, "\"offset\":4,\"channel\":\"stderr\""));
        answer_fini(&a);
        a = get(w, of_run(id, "/steps/call/logs?attempt=2"));
        CHECK_INT(a.status, 404);
        answer_fini(&a);
        a = get(w, of_run(id, "/steps/none/logs"));
        CHECK_INT(a.status, 404);
        answer_fini(&a);
        a = get(w, of_run(id, "/logs?channel=smell"));
        CHECK_INT(a.status, 400);
        answer_fini(&a);
        world_stop(w);
}

TEST(http_logs, a_follower_sees_bytes_as_they_come_and_ends_with_the_step)
{
        static const char bytes[] = {0, 'a', '\n', (char)0xff, 'b'};
        struct api_world *w = world_start(NULL);
        struct tail *early, *run, *json;
        char id[64];

        run_call(w, "{\"tool\":\"t.hang\"}", false, id);
        early = tail_start(w, of_run(id, "/steps/call/logs?follow=true"));
        until_running(w, 1);
        world_write(w, "first\n", 6);
        CHECK(tail_sees(early, "first\n"));
        run = tail_start(w, of_run(id, "/logs?follow=true"));
        json = tail_start(w, of_run(id, "/logs?follow=true&format=json"));
        CHECK(tail_sees(run, "first\n") && tail_sees(json, "\"data\":\"first\\n\""));
        world_write(w, bytes, sizeof bytes);
        world_write(w, "last\n", 5);
        CHECK(tail_sees(early, "last\n") && tail_sees(run, "last\n") && tail_sees(json, "last\\n"));
        CHECK(tail_sees(json, "\"encoding\":\"base64\",\"data\":\"AGEK/2I=\""));
        world_finish(w);
        CHECK(tail_sees(early, NULL) && tail_sees(run, NULL) && tail_sees(json, NULL));
        CHECK_INT(early->rc, CURLE_OK);
        CHECK_INT(run->got.len, 6 + sizeof bytes + 5);
        CHECK(memcmp(run->got.data + 6, bytes, sizeof bytes) == 0);
        CHECK(memcmp(early->got.data, run->got.data, run->got.len) == 0);
        tail_end(early);
        tail_end(run);
        tail_end(json);
        world_stop(w);
}

/* However they were cut on the way: a line of events is one line of ours, parsed. */
TEST(http_logs, events_are_whole_and_parsed_in_json_and_absent_from_the_bytes)
{
        struct api_world *w = world_start(NULL);
        struct tail *raw, *json, *only, *late;
        char id[64];

        run_call(w, "{\"tool\":\"t.hang\"}", false, id);
        until_running(w, 1);
        world_write(w, "one\n", 4);
        raw = tail_start(w, of_run(id, "/logs?follow=true"));
        json = tail_start(w, of_run(id, "/logs?follow=true&format=json&channel=all"));
        only = tail_start(w, of_run(id, "/steps/call/logs?follow=true&format=json&channel=event"));
        world_write_event(w, "{\"type\":\"text\",\"text\":\"a\"}\n{\"type\":\"te");
        CHECK(tail_sees(json, "\"offset\":4,\"channel\":\"event\"") &&
              tail_sees(json, "\"length\":27,\"event\":"));
        world_write_event(w, "xt\",\"text\":\"b\"}\n\nno event\n[1]\n");
        CHECK(tail_sees(only, "\"offset\":31,\"channel\":\"event\""));
        CHECK(tail_sees(only, "\"length\":27,\"event\":{\"type\":\"text\",\"text\":\"b\"}}\n"));
        CHECK(tail_sees(only, "\"data\":\"no event\"") && tail_sees(only, "\"data\":\"[1]\""));
        late = tail_start(
                w, of_run(id, "/steps/call/logs?format=json&channel=event&follow=true&attempt=1&offset=31"));
        CHECK(tail_sees(late, "\"text\":\"b\""));
        world_write_event(w, "{\"half");
        world_write(w, "two\n", 4);
        world_write_event(w, "{\"end");
        CHECK(tail_sees(json, "\"data\":\"{\\\"half\""));
        world_finish(w);
        CHECK(tail_sees(raw, NULL) && tail_sees(json, NULL) && tail_sees(only, NULL) &&
              tail_sees(late, NULL));
        CHECK_INT(raw->got.len, 8);
        CHECK(memcmp(raw->got.data, "one\ntwo\n", 8) == 0);
        CHECK(tail_sees(only, "\"data\":\"{\\\"end\""));
        CHECK(!memmem(only->got.data, only->got.len, "two", 3));
        CHECK(!memmem(late->got.data, late->got.len, "\"text\":\"a\"", 10));
        tail_end(raw);
        tail_end(json);
        tail_end(only);
        tail_end(late);
        world_stop(w);
}

/* A reader that takes nothing holds up nobody, and gets every byte in the end. */
TEST(http_logs, a_slow_reader_costs_nobody)
{
        struct api_world *w = world_start(NULL);
        size_t piece = 1 << 20, n = 24;
        char *data = mem_alloc(piece), id[64];
        struct tail *t;
        struct answer a;

        run_call(w, "{\"tool\":\"t.hang\"}", false, id);
        until_running(w, 1);
        t = tail_start(w, of_run(id, "/logs?follow=true"));
        pthread_mutex_lock(&t->lock); /* its next byte waits for us */
        for (size_t i = 0; i < n; i++) {
                memset(data, (int)('a' + i), piece);
                world_write(w, data, piece);
        }
        a = get(w, "/api/v1/whoami");
        CHECK_INT(a.status, 200);
        answer_fini(&a);
        world_finish(w);
        pthread_mutex_unlock(&t->lock);
        CHECK(tail_sees(t, NULL));
        CHECK_INT(t->rc, CURLE_OK);
        CHECK_INT(t->got.len, piece * n);
        for (size_t i = 0; i < n; i++)
                CHECK(t->got.data[i * piece] == 'a' + i && t->got.data[(i + 1) * piece - 1] == 'a' + i);
        tail_end(t);
        mem_free(data);
        world_stop(w);
}
