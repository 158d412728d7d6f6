/* Events: what happened, as one JSON object a line, numbered for the life of the
 * hub's data and stored with the change they speak of.
 *
 * {"id":17,"time":"...","type":"step.succeeded","run":"<run id>","step":"build",...}. Types: run.created
 * run.started run.waiting run.succeeded run.failed run.cancelled; step.ready step.dispatched step.started
 * step.waiting step.succeeded step.failed step.skipped step.cancelled step.unknown; agent.enrolled
 * agent.online agent.offline agent.draining agent.revoked; token.created token.revoked. Publishers add to the
 * open transaction; subscribers are only told that something newer is durable and read it from the store by
 * id, so a slow one costs nothing. */
#ifndef PHOTON_HUB_BUS_H
#define PHOTON_HUB_BUS_H

#include <stddef.h>
#include <stdint.h>

struct bus;
struct store_tx;

int bus_create(int64_t last_id, struct bus **out);
void bus_free(struct bus *b);

/* Loop thread. Adds one event to the current batch. `fields`: JSON members after the common ones without
 * the leading comma ("\"agent\":\"a\",\"attempt\":1"), or NULL. run_id "" if none. */
void bus_publish(struct bus *b, int64_t now_us, const char *type, const char *run_id, const char *step_id,
                 const char *fields);
/* Moves the batch into the transaction (one row per run, each with its own run of ids). Returns the last id.
 * Numbers are given here and not in bus_publish, so that they ascend with the commits: commit tx before
 * anything else is written. */
int64_t bus_write(struct bus *b, struct store_tx *tx);
/* Adds one event to `tx` directly and leaves the batch, which speaks of another transaction's rows, alone.
 * Returns its id. */
int64_t bus_put(struct bus *b, struct store_tx *tx, int64_t now_us, const char *type, const char *run_id,
                const char *step_id, const char *fields);
/* The newest id given; pass it to bus_durable when a transaction with bus_put events is done. */
int64_t bus_written(const struct bus *b);
/* Durable up to `id`: wakes subscribers. */
void bus_durable(struct bus *b, int64_t id);

/* Any thread: the newest durable id. */
int64_t bus_last(const struct bus *b);
/* Any thread. A line's member by its name with quotes and colon ("\"type\":\""): its text up to the next
 * quote, or NULL. Common members come first and what people wrote is escaped, so the first one found is the
 * line's own.
 */
const char *bus_line_text(const char *line, size_t n, const char *name, size_t *len);
/* Called on the loop thread at each advance; several may register. */
int bus_on_advance(struct bus *b, void (*fn)(void *ctx, int64_t last), void *ctx);

#endif
