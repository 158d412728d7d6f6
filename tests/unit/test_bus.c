#include "common/err.h"
#include "common/json.h"
#include "hub/event/bus.h"
#include "hub/store/store.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <string.h>

struct world {
        struct store *store;
        struct bus *bus;
        char text[65536];
        size_t len;
        int rows;
        int64_t told;
        int tellings;
};

static void world_make(struct world *w)
{
        const struct store_options o = {.dir = test_scratch(), .create = true};
        struct err e = {0};

        memset(w, 0, sizeof *w);
        CHECK(store_open(&o, &w->store, &e) == 0);
        CHECK(bus_create(41, &w->bus) == 0);
}

static void world_end(struct world *w)
{
        bus_free(w->bus);
        store_close(w->store);
}

static int on_row(void *arg, const char *run, int64_t first, int64_t last, const char *lines, size_t n)
{
        struct world *w = arg;

        (void)run;
        (void)first;
        (void)last;
        CHECK(w->len + n < sizeof w->text);
        memcpy(w->text + w->len, lines, n);
        w->len += n;
        w->text[w->len] = '\0';
        w->rows++;
        return 0;
}

static void read_all(struct world *w, const char *run, int64_t after)
{
        struct store_reader *r;
        struct err e = {0};

        w->len = 0;
        w->rows = 0;
        w->text[0] = '\0';
        CHECK(store_reader_open(w->store, &r, &e) == 0);
        CHECK(read_events(r, run, after, sizeof w->text, on_row, w) == 0);
        store_reader_close(r);
}

static void commit(struct world *w, struct store_tx *tx)
{
        store_commit(tx, NULL, NULL);
        store_pump(w->store);
}

static void on_advance(void *ctx, int64_t last)
{
        struct world *w = ctx;

        w->told = last;
        w->tellings++;
}

TEST(bus, ids_go_up_and_each_run_has_its_row)
{
        struct world w;
        struct store_tx *tx;

        world_make(&w);
        bus_publish(w.bus, 1000000, "run.created", "r1", NULL, NULL);
        bus_publish(w.bus, 1000000, "run.created", "r2", NULL, NULL);
        bus_publish(w.bus, 2000000, "step.succeeded", "r1", "build \"x\"", "\"attempt\":1");
        tx = store_begin(w.store);
        CHECK_INT(bus_write(w.bus, tx), 44);
        commit(&w, tx);
        read_all(&w, "r1", 0);
        CHECK_INT(w.rows, 1);
        CHECK_STR(w.text, "{\"id\":42,\"time\":\"1970-01-01T00:00:01.000000Z\",\"type\":\"run.created\","
                          "\"run\":\"r1\"}\n"
                          "{\"id\":43,\"time\":\"1970-01-01T00:00:02.000000Z\",\"type\":\"step.succeeded\","
                          "\"run\":\"r1\","
                          "\"step\":\"build \\\"x\\\"\",\"attempt\":1}\n");
        read_all(&w, NULL, 0);
        CHECK_INT(w.rows, 2);
        CHECK(strstr(w.text, "\"id\":44") != NULL);
        world_end(&w);
}

TEST(bus, put_leaves_the_batch_alone)
{
        struct world w;
        struct store_tx *tx;

        world_make(&w);
        bus_publish(w.bus, 0, "run.created", "r1", NULL, NULL);
        tx = store_begin(w.store);
        CHECK_INT(bus_put(w.bus, tx, 0, "token.created", "", NULL, "\"token\":\"t\""), 42);
        commit(&w, tx);
        read_all(&w, NULL, 0);
        CHECK_INT(w.rows, 1);
        CHECK(strstr(w.text, "token.created") && !strstr(w.text, "run.created"));
        tx = store_begin(w.store);
        CHECK_INT(bus_write(w.bus, tx), 43);
        commit(&w, tx);
        read_all(&w, NULL, 42);
        CHECK(strstr(w.text, "\"id\":43") != NULL);
        CHECK_INT(bus_written(w.bus), 43);
        world_end(&w);
}

TEST(bus, subscribers_hear_of_durable_ids_once)
{
        struct world w;

        world_make(&w);
        CHECK(bus_on_advance(w.bus, on_advance, &w) == 0);
        CHECK_INT(bus_last(w.bus), 41);
        bus_durable(w.bus, 41);
        CHECK_INT(w.tellings, 0);
        bus_durable(w.bus, 50);
        bus_durable(w.bus, 45);
        CHECK_INT(w.tellings, 1);
        CHECK_INT(w.told, 50);
        CHECK_INT(bus_last(w.bus), 50);
        world_end(&w);
}

TEST(bus, a_large_batch_is_split_into_rows)
{
        struct world w;
        struct store_tx *tx;
        struct store_reader *r;
        struct err e = {0};
        int64_t oldest = 0, newest = 0;

        world_make(&w);
        for (int i = 0; i < 10000; i++)
                bus_publish(w.bus, i, "step.ready", "r1", "s", "\"agent\":\"some-agent\"");
        tx = store_begin(w.store);
        CHECK_INT(bus_write(w.bus, tx), 10041);
        CHECK_INT(bus_write(w.bus, tx), 10041);
        commit(&w, tx);
        CHECK(store_reader_open(w.store, &r, &e) == 0);
        CHECK(read_events_bounds(r, &oldest, &newest) == 0);
        CHECK_INT(oldest, 42);
        CHECK_INT(newest, 10041);
        store_reader_close(r);
        world_end(&w);
}

static int make_bus(void *arg)
{
        struct bus *b = NULL;
        int rc = bus_create(0, &b);

        (void)arg;
        bus_free(b);
        return rc;
}

TEST(bus, create_survives_no_memory)
{
        test_each_alloc_fails(make_bus, NULL);
}
