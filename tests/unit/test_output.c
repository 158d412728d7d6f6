/* Output of calls: in order, exactly once, from memory and disk, against a wire made of memory. */
#include "agent/output.h"
#include "agent/spool.h"
#include "common/err.h"
#include "common/file.h"
#include "common/mem.h"
#include "tests/lib/test.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define TOTAL_MAX (32u << 20)

/* The hub's side: takes chunks in order, `credit` bytes at a time. */
struct hub {
        uint8_t *got;
        uint8_t *channels;
        uint64_t len;
        int64_t credit;
        bool open, ended, lost_order;
        int opens;
        struct output *o;
};

struct rig {
        uv_loop_t loop;
        struct output_pool *pool;
        struct hub hub;
        int room;
        char *dir;
};

static int wire_open(void *ctx, struct output *o, void **out)
{
        struct hub *h = ctx;

        CHECK(!h->open);
        h->open = true;
        h->ended = false;
        h->opens++;
        h->o = o;
        *out = h;
        return 0;
}

static int wire_send(void *stream, const Photon__V1__OutputChunk *m)
{
        struct hub *h = stream;
        size_t skip;

        CHECK(h->open && !h->ended);
        CHECK(m->data.len > 0 && m->data.len <= OUTPUT_CHUNK_MAX);
        if (h->credit <= 0)
                return -E_FULL;
        h->credit -= (int64_t)m->data.len;
        CHECK(m->offset + m->data.len <= TOTAL_MAX);
        if (m->offset > h->len)
                h->lost_order = true;
        skip = (size_t)(h->len - m->offset);
        if (skip >= m->data.len)
                return 0;
        memcpy(h->got + h->len, m->data.data + skip, m->data.len - skip);
        memset(h->channels + h->len, (int)m->channel, m->data.len - skip);
        h->len += m->data.len - skip;
        return 0;
}

static void wire_end(void *stream)
{
        ((struct hub *)stream)->ended = true;
}

static void wire_drop(void *stream)
{
        ((struct hub *)stream)->open = false;
}

static void attach(struct rig *r)
{
        struct output_wire w = {wire_open, wire_send, wire_end, wire_drop, &r->hub};

        output_pool_attach(r->pool, &w);
}

static void detach(struct rig *r)
{
        r->hub.open = false;
        output_pool_attach(r->pool, NULL);
}

static void pool_open(struct rig *r, int64_t spool_max, int64_t memory)
{
        struct output_pool_options o = {.loop = &r->loop,
                                        .dir = r->dir,
                                        .spool_max = spool_max,
                                        .job_memory = memory,
                                        .linger_ms = -1};
        struct err e = {0};

        if (output_pool_create(&o, &r->pool, &e))
                test_fail(__FILE__, __LINE__, "pool: %s", e.msg);
}

static struct rig *rig_make(int64_t spool_max, int64_t memory)
{
        struct rig *r = mem_calloc(1, sizeof *r);

        CHECK_INT(uv_loop_init(&r->loop), 0);
        r->dir = path_join(test_scratch(), "spool");
        r->hub.got = mem_calloc(1, TOTAL_MAX);
        r->hub.channels = mem_calloc(1, TOTAL_MAX);
        r->hub.credit = INT64_MAX / 2;
        pool_open(r, spool_max, memory);
        return r;
}

static void rig_free(struct rig *r)
{
        output_pool_close(r->pool, NULL, NULL);
        uv_run(&r->loop, UV_RUN_DEFAULT);
        CHECK_INT(uv_loop_close(&r->loop), 0);
        mem_free(r->hub.got);
        mem_free(r->hub.channels);
        mem_free(r->dir);
        mem_free(r);
}

static void on_room(void *arg)
{
        ((struct rig *)arg)->room++;
}

static struct output *make(struct rig *r, uint64_t id)
{
        struct output *o;

        CHECK_INT(output_create(r->pool, id, on_room, r, &o), 0);
        return o;
}

static uint8_t byte_at(uint64_t i)
{
        return (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

/* Puts n bytes of the pattern in pieces, alternating channels each 1000 bytes. */
static int put(struct output *o, size_t n, size_t piece)
{
        uint8_t *b = mem_alloc(piece);
        int rc = 0;

        while (n > 0) {
                uint64_t at = output_total(o);
                size_t part = n < piece ? n : piece;

                for (size_t i = 0; i < part; i++)
                        b[i] = byte_at(at + i);
                rc = output_put(o, at / 1000 % 2 ? 2 : 1, b, part, 5);
                CHECK(rc == 0 || rc == -E_FULL);
                n -= part;
        }
        mem_free(b);
        return rc;
}

static void check_bytes(const struct rig *r, uint64_t n)
{
        CHECK(!r->hub.lost_order);
        CHECK_INT(r->hub.len, n);
        for (uint64_t i = 0; i < n; i++) {
                if (r->hub.got[i] != byte_at(i))
                        test_fail(__FILE__, __LINE__, "byte %llu differs", (unsigned long long)i);
        }
}

static void turns(struct rig *r)
{
        for (int i = 0; i < 200; i++) {
                output_pool_turn(r->pool);
                uv_run(&r->loop, UV_RUN_NOWAIT);
        }
}

static int files(const struct rig *r)
{
        DIR *d = opendir(r->dir);
        struct dirent *de;
        int n = 0;

        while ((de = readdir(d)))
                n += de->d_name[0] != '.';
        closedir(d);
        return n;
}

/* The first bytes of a call wait a little for its end; those of a call that is watched do not. */
TEST(output, events_do_not_wait_for_the_end)
{
        struct rig *r = rig_make(1 << 20, 0);
        struct output_pool_options o = {
                .loop = &r->loop, .dir = r->dir, .spool_max = 1 << 20, .linger_ms = 3600000};
        struct err e = {0};
        struct output *quiet, *watched;

        output_pool_close(r->pool, NULL, NULL);
        uv_run(&r->loop, UV_RUN_DEFAULT);
        CHECK_INT(output_pool_create(&o, &r->pool, &e), 0);
        attach(r);
        quiet = make(r, 1);
        CHECK_INT(output_put(quiet, PHOTON__V1__CHANNEL__CHANNEL_STDOUT, "x", 1, 5), 0);
        output_pool_turn(r->pool);
        CHECK_INT(r->hub.opens, 0);
        output_free(quiet);
        watched = make(r, 2);
        CHECK_INT(output_put(watched, PHOTON__V1__CHANNEL__CHANNEL_EVENT, "{}\n", 3, 5), 0);
        output_pool_turn(r->pool);
        CHECK_INT(r->hub.opens, 1);
        CHECK_INT(r->hub.len, 3);
        output_free(watched);
        rig_free(r);
}

TEST(output, small_and_untouched_is_inline)
{
        struct rig *r = rig_make(1 << 20, 1 << 20);
        struct output *o = make(r, 1);
        Photon__V1__OutputChunk **v;
        size_t n;

        CHECK_INT(output_put(o, 1, "out", 3, 7), 0);
        CHECK_INT(output_put(o, 2, "err", 3, 8), 0);
        CHECK_INT(output_put(o, 1, "x", 1, 9), 0);
        CHECK(output_is_inline(o));
        CHECK_INT(output_inline(o, &v, &n), 0);
        CHECK_INT(n, 3);
        CHECK_INT(v[1]->offset, 3);
        CHECK_INT(v[1]->channel, 2);
        CHECK(memcmp(v[1]->data.data, "err", 3) == 0);
        CHECK_INT(v[2]->offset, 6);
        for (size_t i = 0; i < n; i++)
                mem_free(v[i]);
        mem_free(v);
        CHECK_INT(files(r), 0);
        output_free(o);
        rig_free(r);
}

TEST(output, streams_in_order_and_ends)
{
        struct rig *r = rig_make(1 << 20, 1 << 20);
        struct output *o;

        attach(r);
        o = make(r, 1);
        put(o, 200000, 777);
        turns(r);
        check_bytes(r, 200000);
        CHECK(!output_is_inline(o));
        CHECK(!r->hub.ended);
        output_on_ack(o, 150000);
        CHECK_INT(output_acked(o), 150000);
        CHECK_INT(output_seal(o), 0);
        CHECK(files(r) > 0);
        turns(r);
        CHECK(r->hub.ended);
        output_on_ack(o, 200000);
        CHECK_INT(files(r), 0);
        output_on_end(o, 0);
        turns(r);
        CHECK_INT(r->hub.opens, 1);
        for (uint64_t i = 0; i < 777; i++)
                CHECK_INT(r->hub.channels[i], 1);
        CHECK_INT(r->hub.channels[1600], 2);
        output_free(o);
        rig_free(r);
}

TEST(output, credit_stops_and_goes_on)
{
        struct rig *r = rig_make(1 << 20, 1 << 20);
        struct output *o;

        attach(r);
        r->hub.credit = 1000;
        o = make(r, 1);
        put(o, 300000, 65536);
        turns(r);
        CHECK(r->hub.len < 100000);
        for (int i = 0; i < 10; i++) {
                r->hub.credit = 50000;
                output_on_writable(o);
                turns(r);
        }
        check_bytes(r, 300000);
        output_free(o);
        rig_free(r);
}

TEST(output, holds_the_tool_back_while_the_hub_takes)
{
        struct rig *r = rig_make(64 << 20, 100000);
        struct output *o;

        attach(r);
        o = make(r, 1);
        CHECK_INT(put(o, 50000, 10000), 0);
        turns(r);
        CHECK_INT(put(o, 60000, 10000), -E_FULL);
        CHECK_INT(files(r), 0);
        CHECK_INT(r->room, 0);
        turns(r);
        output_on_ack(o, 80000);
        CHECK_INT(r->room, 1);
        CHECK_INT(files(r), 0);
        check_bytes(r, 110000);
        output_free(o);
        rig_free(r);
}

TEST(output, nobody_takes_it_goes_to_disk_then_holds)
{
        struct rig *r = rig_make(5 << 19, 1 << 20);
        struct output *o = make(r, 1); /* not connected */

        CHECK_INT(put(o, 1 << 20, 65536), 0);
        CHECK_INT(files(r), 0);
        CHECK_INT(put(o, 2 << 20, 65536), 0);
        CHECK(files(r) > 0);
        CHECK_INT(put(o, 1 << 20, 65536), -E_FULL);
        CHECK(output_pool_spooled(r->pool) <= 5 << 19);
        attach(r);
        output_resume(o, 0);
        turns(r);
        CHECK(r->hub.len >= 3 << 20);
        CHECK_INT(r->room, 0);
        /* The hub takes it: room comes, the rest follows, the disk is given back. */
        output_on_ack(o, r->hub.len);
        turns(r);
        CHECK_INT(r->room, 1);
        output_on_ack(o, r->hub.len);
        turns(r);
        check_bytes(r, 4 << 20);
        output_on_ack(o, 4 << 20);
        CHECK_INT(files(r), 0);
        CHECK_INT(output_pool_spooled(r->pool), 0);
        CHECK_INT(put(o, 1000, 1000), 0);
        turns(r);
        check_bytes(r, (4 << 20) + 1000);
        output_free(o);
        rig_free(r);
}

TEST(output, a_stalled_hub_counts_as_nobody)
{
        struct rig *r = rig_make(64 << 20, 100000);
        uint64_t began = uv_hrtime();
        struct output *o;
        int rc;

        attach(r);
        r->hub.credit = 0;
        o = make(r, 1);
        put(o, 1000, 1000);
        turns(r);
        rc = put(o, 150000, 50000);
        /* On a slow machine the hub has counted as nobody by now. */
        CHECK(rc == -E_FULL || uv_hrtime() - began >= OUTPUT_STALL_MS * 1000000ull);
        while (rc && r->room == 0)
                uv_run(&r->loop, UV_RUN_ONCE); /* the pool's own timer */
        CHECK_INT(put(o, 500000, 50000), 0);
        CHECK(files(r) > 0);
        output_free(o);
        CHECK_INT(files(r), 0);
        rig_free(r);
}

TEST(output, resumes_where_the_hub_is)
{
        struct rig *r = rig_make(64 << 20, 1 << 20);
        struct output *o;

        attach(r);
        o = make(r, 1);
        put(o, 400000, 3333);
        turns(r);
        output_on_ack(o, 100000);
        output_on_end(o, -E_CLOSED);
        detach(r);
        put(o, 2 << 20, 65536); /* meanwhile, partly to disk */
        r->hub.len = 123456;    /* what the hub had on its disk */
        attach(r);
        turns(r);
        CHECK_INT(r->hub.len, 123456); /* nothing before Hello */
        output_resume(o, 123456);
        turns(r);
        check_bytes(r, 400000 + (2 << 20));
        output_free(o);
        rig_free(r);
}

TEST(output, sealed_output_survives_the_agent)
{
        struct rig *r = rig_make(64 << 20, 1 << 20);
        struct output *o;
        uint64_t total = (5 << 20) + 12345;

        attach(r);
        o = make(r, 7);
        put(o, (size_t)total, 65536);
        turns(r);
        output_on_ack(o, 300000);
        CHECK_INT(output_seal(o), 0);
        output_leave(o); /* the agent dies */
        detach(r);
        output_pool_close(r->pool, NULL, NULL);
        uv_run(&r->loop, UV_RUN_DEFAULT);

        pool_open(r, 64 << 20, 1 << 20);
        CHECK_INT(output_restore(r->pool, 7, total, &o, NULL), 0);
        CHECK_INT(output_total(o), total);
        attach(r);
        r->hub.len = 321000;
        output_resume(o, 321000);
        for (int i = 0; i < 20; i++)
                turns(r);
        check_bytes(r, total);
        CHECK(r->hub.ended);
        output_on_ack(o, total);
        CHECK_INT(files(r), 0);
        output_free(o);
        rig_free(r);
}

static bool keep_7(uint64_t id, void *arg)
{
        (void)arg;
        return id == 7;
}

TEST(output, lost_call_sends_what_joins_the_hubs_part)
{
        struct rig *r = rig_make(64 << 20, 1 << 20);
        struct output *o = make(r, 7), *p = make(r, 8);

        put(o, 900000, 65536);
        CHECK_INT(output_seal(o), 0);
        put(p, 100000, 65536);
        CHECK_INT(output_seal(p), 0);
        output_leave(o);
        output_leave(p);
        output_pool_close(r->pool, NULL, NULL);
        uv_run(&r->loop, UV_RUN_DEFAULT);

        pool_open(r, 64 << 20, 1 << 20);
        output_pool_sweep(r->pool, keep_7, NULL);
        CHECK_INT(output_restore(r->pool, 8, 0, &p, NULL), 0);
        CHECK_INT(output_restore(r->pool, 7, 0, &o, NULL), 0);
        attach(r);
        output_resume(p, 55);
        CHECK_INT(output_total(p), 55); /* nothing of it is left */
        for (r->hub.len = 0; r->hub.len < 5000; r->hub.len++)
                r->hub.got[r->hub.len] = byte_at(r->hub.len);
        output_resume(o, 5000);
        CHECK_INT(output_total(o), 900000);
        turns(r);
        check_bytes(r, 900000);
        output_free(o);
        output_free(p);
        rig_free(r);
}

TEST(output, unknown_attempt_is_dropped)
{
        struct rig *r = rig_make(64 << 20, 1 << 20);
        struct output *o;

        attach(r);
        o = make(r, 1);
        put(o, 2 << 20, 65536);
        turns(r);
        output_on_end(o, -E_NOENT);
        r->hub.open = false;
        CHECK_INT(put(o, 8 << 20, 65536), 0);
        turns(r);
        CHECK_INT(r->hub.opens, 1);
        CHECK_INT(files(r), 0);
        output_free(o);
        rig_free(r);
}

TEST(output, a_full_disk_holds_the_tool_and_loses_nothing)
{
        struct rlimit lim = {.rlim_cur = 1000000, .rlim_max = RLIM_INFINITY};
        struct rig *r = rig_make(64 << 20, 100000);
        struct output *o = make(r, 1);

        signal(SIGXFSZ, SIG_IGN);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &lim), 0);
        CHECK_INT(put(o, 2 << 20, 65536), -E_FULL);
        CHECK(output_seal(o) < 0);
        lim.rlim_cur = RLIM_INFINITY;
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &lim), 0);
        CHECK_INT(output_seal(o), 0);
        attach(r);
        output_resume(o, 0);
        for (int i = 0; i < 5; i++)
                turns(r);
        check_bytes(r, 2 << 20);
        output_free(o);
        rig_free(r);
}

TEST(output, any_mix_of_trouble_is_byte_exact)
{
        srand(4711);
        for (int round = 0; round < 20; round++) {
                struct rig *r = rig_make(1 << 20, 60000);
                struct output *o;
                uint64_t target = (uint64_t)(rand() % 3000000);
                bool on = true, held = false;
                int room = 0;

                attach(r);
                o = make(r, 1);
                while (output_acked(o) < target || output_total(o) < target) {
                        int dice = rand() % 100;

                        if (r->room > room) {
                                room = r->room;
                                held = false;
                        }
                        if (dice < 50 && !held && output_total(o) < target) {
                                size_t n = (size_t)(rand() % 70000) + 1;

                                if (n > target - output_total(o))
                                        n = (size_t)(target - output_total(o));
                                held = put(o, n, n) == -E_FULL;
                        } else if (dice < 80 && on) {
                                r->hub.credit = rand() % 200000;
                                if (r->hub.open)
                                        output_on_writable(o);
                                turns(r);
                        } else if (dice < 95 && on && r->hub.open) {
                                output_on_ack(o, output_acked(o) + (r->hub.len - output_acked(o)) /
                                                                           (uint64_t)(1 + rand() % 2));
                        } else if (dice >= 97) {
                                if (on) {
                                        if (r->hub.open)
                                                output_on_end(o, -E_CLOSED);
                                        detach(r);
                                } else {
                                        attach(r);
                                        output_resume(o, r->hub.len);
                                }
                                on = !on;
                        }
                        uv_run(&r->loop, UV_RUN_NOWAIT);
                }
                check_bytes(r, target);
                output_free(o);
                CHECK_INT(files(r), 0);
                rig_free(r);
        }
}
