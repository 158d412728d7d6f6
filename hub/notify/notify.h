/* The outbox: people are told of questions by webhook, chat and mail.
 *
 * notify_add writes a row for each target that wants to know into the transaction of the question itself, so
 * that after a crash there are both or none. Once durable, rows are sent, two at a time for each target, so
 * that one that hangs holds up no other; the database is the queue, and nothing of it is kept in memory. What
 * fails is tried again with growing delays, or after as long as the receiver asks, and given up after a day
 * (give-up-after), which is an event. Delivery is at least once: a receiver knows a repeat by its id.
 *
 * Loop thread only. */
#ifndef PHOTON_NOTIFY_H
#define PHOTON_NOTIFY_H

#include <stdint.h>
#include <uv.h>

#include "hub/notify/targets.h"

struct bus;
struct clock;
struct err;
struct net;
struct notify;
struct store;
struct store_tx;

#define NOTICE_FLIGHTS 2 /* of one target */

struct notify_options {
        uv_loop_t *loop;
        const struct clock *clock;
        struct store *store;
        struct bus *bus;
        struct net *net;
        struct targets targets; /* taken */
};

/* Looks at what an earlier life of the hub left: what is for targets that are configured no more is given up.
 */
int notify_create(const struct notify_options *o, struct notify **out, struct err *e);
/* After net_close: no answer may come any more. Accepts NULL. */
void notify_free(struct notify *n);

const struct targets *notify_targets(const struct notify *n);
/* Adds what people are told of it to `tx`. */
void notify_add(struct notify *n, struct store_tx *tx, const struct engine_notice *m);
/* Something that was added may be durable now, or is due: sends. */
void notify_kick(struct notify *n);

/* A person wants it tried once more, now. Answers when that is durable. -E_NOENT; -E_STATE: it is delivered,
 * or its target is not configured any more. */
void notify_retry(struct notify *n, const char *id, const char *by, engine_answer cb, void *arg);

struct notify_stats {
        uint64_t delivered, failed, given_up; /* failed: tries */
        int64_t pending;
};
void notify_stats(const struct notify *n, struct notify_stats *out);

#endif
