#include "hub/http/token_use.h"

#include <stdatomic.h>
#include <stdio.h>

#include "common/err.h"
#include "common/mailbox.h"
#include "common/mem.h"
#include "hub/http/core.h"
#include "hub/store/store.h"

struct use {
        struct mail mail;
        struct http *h;
        int64_t at_us;
        char id[32];
};

bool token_use_due(int64_t written_us, int64_t now_us)
{
        return now_us >= written_us + TOKEN_USE_EVERY_US || now_us < written_us;
}

static void on_loop(struct mail *m)
{
        struct use *u = container_of(m, struct use, mail);
        struct store_tx *tx = store_begin(u->h->o.store);

        atomic_fetch_sub(&u->h->uses_waiting, 1);
        if (tx) {
                store_put_token_use(tx, &(struct row_token_use){.id = u->id, .used_us = u->at_us});
                store_commit(tx, NULL, NULL);
        }
        mem_free(u);
}

void token_use_note(struct http *h, struct store_reader *r, const char *token_id, int64_t now_us)
{
        struct use *u = NULL;
        int64_t written = 0;
        struct err why;

        /* A reader that failed says so where it matters; what cannot be kept now need not wait for it. */
        if (read_token_use(r, token_id, &written) || !token_use_due(written, now_us) ||
            store_health(h->o.store, &why))
                return;
        if (atomic_fetch_add(&h->uses_waiting, 1) < TOKEN_USE_WAITING_MAX)
                u = mem_calloc(1, sizeof *u);
        if (!u) {
                atomic_fetch_sub(&h->uses_waiting, 1);
                return;
        }
        u->h = h;
        u->at_us = now_us;
        snprintf(u->id, sizeof u->id, "%s", token_id);
        u->mail.run = on_loop;
        mailbox_post(h->o.mailbox, &u->mail);
}
