/* The bytes of a journal record (agent/journal.c only): big-endian
 *
 *     u32 magic "PRJ1" | u32 length of payload | u32 CRC-32 of length and payload |
 *     payload: u8 type | u64 attempt_id | body
 *
 * and the file's head: "PHOTONJ1", 16 bytes of journal id, u32 CRC-32, 4 zeros. Pure. */
#ifndef PHOTON_AGENT_JOURNAL_RECORD_H
#define PHOTON_AGENT_JOURNAL_RECORD_H

#include <stddef.h>
#include <stdint.h>

struct buf;
struct journal_entry;
struct journal_proc;

#define JOURNAL_HEAD 32
#define RECORD_HEAD  12
#define RECORD_FIXED 9

/* SEEN has no body: attempt_id is the highest of those whose records were dropped. */
enum record_type {
        RECORD_ACCEPT = 1,
        RECORD_PROCESS = 2,
        RECORD_FINISH = 3,
        RECORD_FORGET = 4,
        RECORD_SEEN = 5,
        RECORD_QUESTION = 6, /* u32 question id, title */
        RECORD_ANSWERED = 7  /* u32 question id */
};

uint32_t record_crc32(uint32_t crc, const void *p, size_t n); /* IEEE 802.3, start with 0 */

void record_file_head(const uint8_t id[16], uint8_t out[JOURNAL_HEAD]);
int record_file_id(const uint8_t *p, uint8_t out_id[16]); /* -E_CORRUPT */

/* Append one record: 0, -E_NOMEM, -E_TOOBIG (nothing appended). */
int record_put(struct buf *b, uint8_t type, uint64_t attempt_id, const void *body, size_t n);
int record_put_accept(struct buf *b, const struct journal_entry *en);
int record_put_proc(struct buf *b, uint64_t attempt_id, const struct journal_proc *p);

int record_put_question(struct buf *b, uint64_t attempt_id, uint32_t question_id, const char *title);

/* Bodies; what is missing stays zero. -E_CORRUPT: no process in it. */
void record_read_accept(const uint8_t *body, size_t n, struct journal_entry *en);
int record_read_proc(const uint8_t *body, size_t n, struct journal_proc *p);

#endif
