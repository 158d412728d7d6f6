/* The audit's hash chain: what a record's hash covers, and checking a chain.
 *
 *   field digest  d_i = SHA-256("photon-audit-field-1" i present salt bytes)   i: actor 0, object 1, detail 2
 *   record hash   h_n = SHA-256("photon-audit-record-1" h_{n-1} seq at_us len(action) action d_0 d_1 d_2)
 *
 * with numbers as 8 bytes big-endian. Each field has a random salt of its own,
 * so that it may be erased (personal data): its digest stays, text and salt go,
 * nobody can find the text by guessing, and the chain still proves that nothing
 * else was touched. The first
 * record follows AUDITCHAIN_ZERO, or, where older ones were removed, the hash
 * that the record of the removal names.
 *
 * Pure; any thread. */
#ifndef PHOTON_AUDITCHAIN_H
#define PHOTON_AUDITCHAIN_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

struct buf;
struct err;

#define AUDITCHAIN_HASH 32
#define AUDITCHAIN_SALT 16

enum audit_field { AUDIT_ACTOR, AUDIT_OBJECT, AUDIT_DETAIL, AUDIT_FIELDS };

/* Texts are lent. A field is there (text), was never there (NULL, not erased) or was erased (digest stands).
 */
struct audit_record {
        int64_t seq, at_us;
        const char *action;
        const char *field[AUDIT_FIELDS];
        bool erased[AUDIT_FIELDS];
        uint8_t digest[AUDIT_FIELDS][AUDITCHAIN_HASH]; /* of those that were erased */
        uint8_t salt[AUDIT_FIELDS][AUDITCHAIN_SALT];   /* of the others */
        uint8_t hash[AUDITCHAIN_HASH];
};

extern const uint8_t auditchain_zero[AUDITCHAIN_HASH];

/* Fills r->hash. */
void auditchain_seal(struct audit_record *r, const uint8_t prev[AUDITCHAIN_HASH]);
void auditchain_digest(const struct audit_record *r, enum audit_field f, uint8_t out[AUDITCHAIN_HASH]);
/* r->hash is what it must be after prev, and its texts are what was hashed. -E_CORRUPT, saying what is wrong.
 */
int auditchain_check(const struct audit_record *r, const uint8_t prev[AUDITCHAIN_HASH], struct err *e);

/* One line of an export, without its newline: a JSON object
 *   {"seq","at_us","action","actor","object","detail","salts","erased":{"actor": digest ...},"hash"}
 * with binary values in hex; a text that is absent is left out. -E_NOMEM. */
int auditchain_line(const struct audit_record *r, struct buf *out);

/* Walks the lines of an export. */
struct auditchain_walk {
        int64_t first_seq, last_seq, records;
        uint8_t head[AUDITCHAIN_HASH];
        bool begun;
};
/* The first line may say where the chain goes on: {"after_seq": n, "after_hash": hex}. -E_CORRUPT: this
 * record is the first bad one; -E_INVAL: it is no record. The message names it. */
int auditchain_step(struct auditchain_walk *w, const char *line, size_t n, struct err *e);

#endif
