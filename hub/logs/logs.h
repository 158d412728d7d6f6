/* The bytes that tools wrote, per attempt: appended by the loop, read by HTTP threads.
 *
 * Framing, in files and in small_output rows: records of
 *   u8 channel (1 stdout, 2 stderr, 3 event) | u8 0 | u16 0 | u32 length (big-endian) | i64 time in
 * microseconds (big-endian) | bytes An attempt's offset counts payload bytes only, over all channels in
 * order. Up to LOGS_SMALL bytes come with the result and live in the database; larger ones in DIR/logs/<last
 * two hex digits>/<attempt id in hex>.log, opened on the first append and closed when others need the
 * descriptor or finished. After a crash a torn last record is cut off on first use.
 *
 * A record's channel byte is written last, after all else of it is in place: a
 * reader that finds 0 there is at the end. So readers need no lock and never
 * see part of a record, whatever the appender is doing. */
#ifndef PHOTON_HUB_LOGS_H
#define PHOTON_HUB_LOGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct err;
struct buf;
struct logs;
struct log_file;
struct store_tx;

#define LOGS_SMALL         (64u << 10)
#define LOGS_RECORD_HEADER 16
#define LOGS_RECORD_MAX    (1u << 20) /* payload of one record; longer appends become several */
#define LOGS_OPEN_MAX      128        /* descriptors kept open */

enum log_channel { LOG_STDOUT = 1, LOG_STDERR = 2, LOG_EVENT = 3 };

/* Makes DIR/logs. */
int logs_create(const char *dir, struct logs **out, struct err *e);
/* Where log_sync's completions run. Without a loop (tests, simulation) log_sync syncs and calls back before
 * it returns. */
void logs_use_loop(struct logs *l, uv_loop_t *loop);
/* Closes all files; syncs under way end in peace, their callbacks are not called any more. */
void logs_free(struct logs *l);

/* Loop thread. */
/* Finds or creates the attempt's file. *out_end: payload bytes it has. Each open needs a log_close. */
int logs_open(struct logs *l, uint64_t attempt_id, struct log_file **out, uint64_t *out_end, struct err *e);
/* The end without creating a file: 0 bytes if there is none. */
int logs_end(struct logs *l, uint64_t attempt_id, uint64_t *out_end, struct err *e);
/* Appends [offset, offset+n); bytes already there are ignored; a gap is -E_INVAL. -E_NOSPACE, -E_IO ...:
 * nothing was appended (a partial record is cut off again); try again later. */
int log_append(struct log_file *f, uint64_t offset, int channel, const void *p, size_t n, int64_t at_us,
               struct err *e);
uint64_t log_end(const struct log_file *f);
/* Makes [0,end) durable on a worker thread, coalescing callers; on_durable on the loop, never before this
 * returns (but see logs_use_loop). rc != 0: try again later. */
int log_sync(struct log_file *f, void (*on_durable)(void *arg, int rc, uint64_t end), void *arg);
/* The same with a transaction: what the file has now is durable before tx is. Keeps the descriptor open until
 * log_sync_with_done, to be called once from tx's on_done. */
int log_sync_with(struct log_file *f, struct store_tx *tx, struct err *e);
void log_sync_with_done(struct log_file *f);
/* No more appends; the fd closes when syncs are done. */
void log_close(struct log_file *f);
/* Called on the loop after each append and at the end, for followers. */
void logs_on_change(struct logs *l, void (*fn)(void *ctx, uint64_t attempt_id, uint64_t end, bool finished),
                    void *ctx);
/* end: payload bytes of the whole attempt, as its result says. */
void logs_note_finished(struct logs *l, uint64_t attempt_id, uint64_t end);
/* Deletes the file of an attempt that nobody has open; -E_NOENT, -E_STATE. */
int logs_remove(struct logs *l, uint64_t attempt_id, struct err *e);

/* Any thread. */
int logs_frame(struct buf *b, int channel, const void *p, size_t n,
               int64_t at_us); /* appends one record (several if long) */
/* Reads records whose payload lies at or after the reader's offset (0 at first) from a file (or from framed
 * bytes), up to max payload bytes; calls cb per piece and moves on behind it. 0: max reached, or no more for
 * now: later calls see what was appended since. A non-zero return of cb stops and is returned; that piece
 * comes again. -E_NOENT: no such log. -E_CORRUPT: not our framing. A reader belongs to one thread at a time.
 */
struct log_reader;
int log_reader_open(const char *dir, uint64_t attempt_id, struct log_reader **out);
int log_reader_open_mem(const void *framed, size_t n, struct log_reader **out); /* copies */
int log_reader_next(struct log_reader *r, size_t max,
                    int (*cb)(void *arg, uint64_t offset, int channel, const void *p, size_t n,
                              int64_t at_us),
                    void *arg);
int log_reader_seek(struct log_reader *r, uint64_t offset);
uint64_t log_reader_offset(const struct log_reader *r);
void log_reader_close(struct log_reader *r);

#endif
