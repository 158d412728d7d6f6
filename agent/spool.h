/* Output of one attempt that waits on disk until the hub has it.
 *
 * The bytes of one attempt form one sequence over both channels; a spool holds
 * a contiguous part of it as records (offset, channel, time, bytes) in files of
 * at most SPOOL_SEGMENT bytes named <attempt>-<offset>.out, so that what is
 * acknowledged gives its disk space back. Written without fsync, like the
 * journal. Loop thread only. */
#ifndef PHOTON_AGENT_SPOOL_H
#define PHOTON_AGENT_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"

struct err;
struct spool_seg;

#define SPOOL_SEGMENT    (4u << 20)
#define SPOOL_RECORD_MAX (64u << 10)

/* The folder, shared by all spools of an agent. */
struct spool_dir {
        char *path;
        uint64_t bytes; /* in all files now */
};

/* Embedded by agent/output.c, which may read nothing but `segs` for emptiness. */
struct spool {
        struct spool_dir *dir;
        uint64_t attempt_id;
        struct list segs;               /* by offset */
        struct spool_seg *front, *tail; /* open for writing */
        /* where the last read ended */
        struct spool_seg *read_seg;
        int read_fd;
        uint64_t read_pos, read_off;
};

int spool_dir_open(const char *path, struct spool_dir *d,
                   struct err *e); /* makes it, 0700; counts what is there */
void spool_dir_fini(struct spool_dir *d);
/* Deletes the files of attempts that `keep` does not want. */
void spool_dir_sweep(struct spool_dir *d, bool (*keep)(uint64_t attempt_id, void *arg), void *arg);

void spool_init(struct spool *s, struct spool_dir *d, uint64_t attempt_id);
/* Finds what an earlier agent left; a torn tail is dropped. */
int spool_load(struct spool *s, struct err *e);
void spool_fini(struct spool *s); /* closes; files stay */
void spool_drop(struct spool *s); /* deletes the files */

bool spool_empty(const struct spool *s);
uint64_t spool_base(const struct spool *s); /* first byte held */
uint64_t spool_end(const struct spool *s);  /* after the last */

/* Appends [off, off+n): off is spool_end, unless empty. -E_NOSPACE, -E_IO, -E_NOMEM: nothing was added. */
int spool_put(struct spool *s, uint64_t off, int channel, int64_t at_us, const void *p, size_t n);
/* Same, before all that is held: ends at spool_base when spool_front_done. Failing halfway, call
 * spool_front_undo. */
int spool_put_front(struct spool *s, uint64_t off, int channel, int64_t at_us, const void *p, size_t n);
void spool_front_done(struct spool *s);
void spool_front_undo(struct spool *s);

/* Reads from `off` what one record holds, at most cap bytes. -E_NOENT: not held. -E_IO, -E_CORRUPT. */
int spool_read(struct spool *s, uint64_t off, void *p, size_t cap, size_t *out_n, int *out_channel,
               int64_t *out_at_us);
void spool_ack(struct spool *s, uint64_t durable); /* deletes files that hold only bytes before `durable` */

#endif
