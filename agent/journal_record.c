#include "agent/journal_record.h"

#include "agent/journal.h"
#include "common/buf.h"
#include "common/err.h"

#include <string.h>

static const uint8_t magic[4] = {'P', 'R', 'J', '1'};
static const char file_magic[8] = {'P', 'H', 'O', 'T', 'O', 'N', 'J', '1'};

/* How far behind damage a whole record is looked for, and how many bytes may be summed for it. */
#define RESYNC_BYTES  (16u << 20)
#define RESYNC_BUDGET (256u << 20)

uint32_t record_crc32(uint32_t crc, const void *p, size_t n)
{
        static uint32_t table[256];
        const uint8_t *b = p;

        if (!table[1]) {
                for (uint32_t i = 0; i < 256; i++) {
                        uint32_t c = i;

                        for (int k = 0; k < 8; k++)
                                c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
                        table[i] = c;
                }
        }
        crc = ~crc;
        for (size_t i = 0; i < n; i++)
                crc = table[(crc ^ b[i]) & 0xff] ^ (crc >> 8);
        return ~crc;
}

void record_file_head(const uint8_t id[16], uint8_t out[JOURNAL_HEAD])
{
        memset(out, 0, JOURNAL_HEAD);
        memcpy(out, file_magic, sizeof file_magic);
        memcpy(out + 8, id, 16);
        u32be_store(out + 24, record_crc32(0, out, 24));
}

int record_file_id(const uint8_t *p, uint8_t out_id[16])
{
        if (memcmp(p, file_magic, sizeof file_magic) != 0 || u32be_load(p + 24) != record_crc32(0, p, 24))
                return -E_CORRUPT;
        memcpy(out_id, p + 8, 16);
        return 0;
}

int record_put(struct buf *b, uint8_t type, uint64_t attempt_id, const void *body, size_t n)
{
        uint8_t *p;
        int rc;

        if (n > JOURNAL_RECORD_MAX - RECORD_FIXED)
                return -E_TOOBIG;
        rc = buf_reserve(b, RECORD_HEAD + RECORD_FIXED + n);
        if (rc)
                return rc;
        p = b->data + b->len;
        memcpy(p, magic, sizeof magic);
        u32be_store(p + 4, (uint32_t)(RECORD_FIXED + n));
        p[RECORD_HEAD] = type;
        u64be_store(p + RECORD_HEAD + 1, attempt_id);
        if (n)
                memcpy(p + RECORD_HEAD + RECORD_FIXED, body, n);
        u32be_store(p + 8, record_crc32(record_crc32(0, p + 4, 4), p + RECORD_HEAD, RECORD_FIXED + n));
        b->len += RECORD_HEAD + RECORD_FIXED + n;
        return 0;
}

int record_put_accept(struct buf *b, const struct journal_entry *en)
{
        uint8_t body[8 + sizeof en->tool];
        size_t n = strnlen(en->tool, sizeof en->tool - 1);

        u64be_store(body, (uint64_t)en->started_us);
        memcpy(body + 8, en->tool, n);
        return record_put(b, RECORD_ACCEPT, en->attempt_id, body, 8 + n);
}

void record_read_accept(const uint8_t *body, size_t n, struct journal_entry *en)
{
        if (n < 8)
                return;
        en->started_us = (int64_t)u64be_load(body);
        n -= 8;
        if (n > sizeof en->tool - 1)
                n = sizeof en->tool - 1;
        memcpy(en->tool, body + 8, n);
        en->tool[n] = '\0';
}

int record_put_proc(struct buf *b, uint64_t attempt_id, const struct journal_proc *p)
{
        uint8_t body[12 + sizeof p->boot];
        size_t n = strnlen(p->boot, sizeof p->boot - 1);

        u32be_store(body, (uint32_t)p->pid);
        u64be_store(body + 4, p->start);
        memcpy(body + 12, p->boot, n);
        return record_put(b, RECORD_PROCESS, attempt_id, body, 12 + n);
}

int record_put_question(struct buf *b, uint64_t attempt_id, uint32_t question_id, const char *title)
{
        uint8_t body[4 + JOURNAL_TITLE_MAX];
        size_t n = strnlen(title, JOURNAL_TITLE_MAX);

        u32be_store(body, question_id);
        memcpy(body + 4, title, n);
        return record_put(b, RECORD_QUESTION, attempt_id, body, 4 + n);
}

int record_read_proc(const uint8_t *body, size_t n, struct journal_proc *p)
{
        uint32_t pid;

        if (n < 12 || n - 12 > sizeof p->boot - 1)
                return -E_CORRUPT;
        pid = u32be_load(body);
        /* Never a number that kill(2) would read as "everybody" or as our own group. */
        if (pid < 2 || pid > INT32_MAX)
                return -E_CORRUPT;
        p->pid = (int)pid;
        p->start = u64be_load(body + 4);
        memcpy(p->boot, body + 12, n - 12);
        p->boot[n - 12] = '\0';
        return 0;
}

/* The length of the whole record at p, or 0. Adds what was summed to *spent. */
static size_t record_at(const uint8_t *p, size_t n, size_t *spent)
{
        uint32_t len;

        if (n < RECORD_HEAD + RECORD_FIXED || memcmp(p, magic, sizeof magic) != 0)
                return 0;
        len = u32be_load(p + 4);
        if (len < RECORD_FIXED || len > JOURNAL_RECORD_MAX || len > n - RECORD_HEAD)
                return 0;
        *spent += len;
        if (u32be_load(p + 8) != record_crc32(record_crc32(0, p + 4, 4), p + RECORD_HEAD, len))
                return 0;
        return RECORD_HEAD + len;
}

static int valid_follows(const uint8_t *p, size_t n)
{
        size_t spent = 0;
        const uint8_t *end = p + (n > RESYNC_BYTES ? RESYNC_BYTES : n), *q = p + 1;

        while (q < end && spent < RESYNC_BUDGET) {
                q = memmem(q, (size_t)(end - q), magic, sizeof magic);
                if (!q)
                        return 0;
                if (record_at(q, (size_t)(p + n - q), &spent))
                        return 1;
                q++;
        }
        return spent >= RESYNC_BUDGET;
}

size_t journal_scan(const uint8_t *p, size_t n,
                    void (*fn)(uint8_t type, uint64_t attempt_id, const uint8_t *body, size_t body_len,
                               size_t offset, void *arg),
                    void *arg, bool *out_middle)
{
        size_t at = 0, len, spent = 0;

        while ((len = record_at(p + at, n - at, &spent)) > 0) {
                const uint8_t *body = p + at + RECORD_HEAD + RECORD_FIXED;

                if (fn)
                        fn(p[at + RECORD_HEAD], u64be_load(p + at + RECORD_HEAD + 1), body,
                           len - RECORD_HEAD - RECORD_FIXED, at, arg);
                at += len;
        }
        *out_middle = at < n && valid_follows(p + at, n - at);
        return at;
}
