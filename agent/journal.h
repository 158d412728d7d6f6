/* What must outlive the death of the agent: which attempts it took on, which
 * process groups belong to them, and their results until the hub has them.
 *
 *     (none) --accept--> RUNNING --finish--> FINISHED --forget--> (none)
 *
 * An append-only file of records, each with magic, length and CRC-32. Records
 * are gathered and written by journal_flush with one write(2), without fsync:
 * that survives kill -9 of the agent, and boot_id in Hello tells the hub of a
 * power failure. A torn tail is cut off at open; damage in the middle moves
 * the file aside and starts a new one with a new journal_id. Dead records are
 * dropped by rewriting; the highest attempt id ever held stays known, so that a
 * hub whose data is older than this journal can tell "never came" from "long
 * done". A full disk loses nothing that was taken: results stay
 * in memory and the next flush tries again.
 *
 * The caller owns the journal and keeps other agents out (file_lock). Loop
 * thread only; blocking in so far as write(2) to a file blocks. */
#ifndef PHOTON_AGENT_JOURNAL_H
#define PHOTON_AGENT_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct journal;

#define JOURNAL_ID_LEN        33 /* hex and NUL */
#define JOURNAL_RECORD_MAX    (12u << 20)
#define JOURNAL_FILE_MAX      (256u << 20) /* beyond: -E_NOSPACE for new attempts */
#define JOURNAL_ENTRIES_MAX   65536u       /* attempts held at once; beyond: -E_FULL */
#define JOURNAL_PROCS_MAX     64u          /* process groups of one attempt */
#define JOURNAL_QUESTIONS_MAX 64u          /* of one attempt, open at once */
#define JOURNAL_TITLE_MAX     512u

enum journal_state { JOURNAL_RUNNING, JOURNAL_FINISHED };

struct journal_entry {
        uint64_t attempt_id;
        enum journal_state state;
        int64_t started_us;
        char tool[64];
        const char *question; /* the oldest that waits for people, in words; lent; NULL: none */
};

/* A process group as it was when it was written down. */
struct journal_proc {
        int pid;
        uint64_t start; /* field 22 of /proc/PID/stat */
        char boot[40];  /* boot_id */
};

/* Makes the file (0600) if it is not there. *out_moved (may be NULL): true when a
 * damaged journal was moved aside; its process groups are still in journal_each_proc. */
int journal_open(const char *path, struct journal **out, bool *out_moved, struct err *e);
void journal_free(struct journal *j); /* flushes; accepts NULL */

const char *journal_id(const struct journal *j);
uint64_t journal_seen(const struct journal *j); /* the highest attempt id it ever held; 0: none */
size_t journal_count(const struct journal *j);
uint64_t journal_size_bytes(const struct journal *j);
bool journal_unwritten(const struct journal *j); /* a flush failed and something waits for the next */

/* Takes note, to be written by the next flush. -E_EXIST: already held. -E_FULL, -E_NOSPACE, -E_NOMEM. */
int journal_accept(struct journal *j, uint64_t attempt_id, const char *tool, int64_t started_us);
/* Writes at once (with all that waits): the child is running already. -E_NOENT, or as flush. */
int journal_process(struct journal *j, uint64_t attempt_id, const struct journal_proc *p, struct err *e);
/* Takes note that a question waits for people, and that it does so no longer. -E_NOENT, -E_FULL (more than
 * JOURNAL_QUESTIONS_MAX), -E_NOMEM. */
int journal_question(struct journal *j, uint64_t attempt_id, uint32_t question_id, const char *title);
void journal_answered(struct journal *j, uint64_t attempt_id, uint32_t question_id);
/* Takes note of the packed result; an attempt that was refused need not have been accepted.
 * -E_TOOBIG, -E_NOMEM, -E_STATE when it is finished already. */
int journal_finish(struct journal *j, uint64_t attempt_id, const uint8_t *packed, size_t n);
/* The hub has it, or does not want it. Unknown ids are ignored. */
void journal_forget(struct journal *j, uint64_t attempt_id);
/* On failure (-E_NOSPACE, -E_READONLY, -E_IO) the file is as before, attempts accepted since the last flush
 * are no longer held (do not start them), results and forgotten ids wait for the next flush. */
int journal_flush(struct journal *j, struct err *e);

const struct journal_entry *journal_get(const struct journal *j, uint64_t attempt_id);
/* The packed result, mem_free it. -E_NOENT, -E_CORRUPT, -E_IO, -E_NOMEM. */
int journal_result(const struct journal *j, uint64_t attempt_id, uint8_t **out, size_t *out_len);
/* `fn` must not change the journal. In order of acceptance. */
void journal_each(const struct journal *j, void (*fn)(const struct journal_entry *en, void *arg), void *arg);
/* Process groups of attempts that run, and of a journal that was moved aside. */
void journal_each_proc(const struct journal *j,
                       void (*fn)(uint64_t attempt_id, const struct journal_proc *p, void *arg), void *arg);

/* Pure part, for tests: walks the records in p[0..n). Returns the length of the
 * good prefix; *out_middle: something valid follows the damage. `fn` may be NULL. */
size_t journal_scan(const uint8_t *p, size_t n,
                    void (*fn)(uint8_t type, uint64_t attempt_id, const uint8_t *body, size_t body_len,
                               size_t offset, void *arg),
                    void *arg, bool *out_middle);

#endif
