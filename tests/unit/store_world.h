/* A store in a scratch folder, with or without its thread: for the tests of the store. */
#ifndef PHOTON_TEST_STORE_WORLD_H
#define PHOTON_TEST_STORE_WORLD_H

#include "common/err.h"
#include "common/mailbox.h"
#include "common/mem.h"
#include "hub/store/store.h"
#include "tests/lib/test.h"

struct world {
        const char *dir;
        uv_loop_t loop;
        struct mailbox *mailbox; /* NULL: store_pump */
        struct store *store;
        struct store_reader *reader;
        struct err err;
        int done;
        const uint8_t *seal_key; /* as in store_options */
        bool seal_key_new, accept_changed;
};

static inline int world_try(struct world *w)
{
        return store_open(&(struct store_options){.dir = w->dir,
                                                  .mailbox = w->mailbox,
                                                  .create = true,
                                                  .seal_key = w->seal_key,
                                                  .seal_key_new = w->seal_key_new,
                                                  .accept_changed = w->accept_changed},
                          &w->store, &w->err);
}

static inline void world_open(struct world *w, bool thread)
{
        if (!w->dir)
                w->dir = test_scratch();
        if (thread) {
                CHECK_INT(uv_loop_init(&w->loop), 0);
                CHECK_INT(mailbox_create(&w->loop, &w->mailbox), 0);
        }
        if (world_try(w))
                test_fail(__FILE__, __LINE__, "store_open: %s", w->err.msg);
        CHECK_INT(store_reader_open(w->store, &w->reader, &w->err), 0);
}

static inline void world_close(struct world *w)
{
        store_reader_close(w->reader);
        store_close(w->store);
        if (w->mailbox) {
                mailbox_close(w->mailbox, NULL, NULL);
                uv_run(&w->loop, UV_RUN_DEFAULT);
                CHECK_INT(uv_loop_close(&w->loop), 0);
        }
        w->mailbox = NULL;
        w->store = NULL;
        w->reader = NULL;
}

static inline void reopen(struct world *w)
{
        bool thread = w->mailbox != NULL;

        world_close(w);
        world_open(w, thread);
}

static inline void count_done(void *arg)
{
        ((struct world *)arg)->done++;
}

static inline void wait_done(struct world *w, int n)
{
        while (w->done < n) {
                if (w->mailbox)
                        uv_run(&w->loop, UV_RUN_ONCE);
                else
                        store_pump(w->store);
        }
}

static inline void commit(struct world *w, struct store_tx *tx)
{
        int before = w->done;

        store_commit(tx, count_done, w);
        wait_done(w, before + 1);
}

static inline void put_meta(struct world *w, const char *key, const char *value)
{
        struct store_tx *tx = store_begin(w->store);

        store_put_meta(tx, key, value);
        commit(w, tx);
}

static inline void check_meta(struct world *w, const char *key, const char *value)
{
        char *got = NULL;

        CHECK_INT(read_meta(w->reader, key, &got), 0);
        CHECK_STR(got, value);
        mem_free(got);
}

#endif
