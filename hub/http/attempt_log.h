/* What one attempt of a step wrote, for those who show a piece of it: opened where it
 * lies, cut to size between characters. A reader belongs to one thread at a time. */
#ifndef PHOTON_HTTP_ATTEMPT_LOG_H
#define PHOTON_HTTP_ATTEMPT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct log_reader;
struct store_reader;

#define ATTEMPT_OUTPUT (1u << 1 | 1u << 2) /* stdout and stderr: a bit for each enum log_channel */

/* Its file while it is live or large, else (over) what came with the result. -E_NOENT: nothing yet. */
int attempt_log_open(const char *dir, struct store_reader *r, uint64_t attempt_id, bool over,
                     struct log_reader **out);

/* Appends what lies from the reader's place on in these channels, at most `max` bytes of it, as text
 * (what is no UTF-8 becomes U+FFFD). *next: where to go on. *more: there is more now. Unless it is `over`
 * a character whose end has not come yet is left for later. */
int attempt_log_text(struct log_reader *r, unsigned channels, size_t max, bool over, struct buf *out,
                     uint64_t *next, bool *more);
/* The same with the last `max` bytes (at most ATTEMPT_TAIL_MAX) of an attempt that has `end` bytes in all its
 * channels. *cut: there is something before. Moves the reader to the end. */
#define ATTEMPT_TAIL_MAX (64u << 10)
int attempt_log_tail(struct log_reader *r, unsigned channels, size_t max, uint64_t end, struct buf *out,
                     bool *cut);

#endif
