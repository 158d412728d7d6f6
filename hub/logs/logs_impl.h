/* Inside of the logs: what logs.c (the set of files), log_file.c (one file) and
 * log_reader.c share. Nobody else includes this. */
#ifndef PHOTON_HUB_LOGS_IMPL_H
#define PHOTON_HUB_LOGS_IMPL_H

#include "common/list.h"
#include "common/map.h"
#include "hub/logs/logs.h"

struct log_sync_job;

struct log_waiter {
        struct log_waiter *next;
        void (*on_durable)(void *arg, int rc, uint64_t end);
        void *arg;
};

struct logs {
        char *dir;         /* DIR/logs */
        struct map *files; /* attempt id -> struct log_file */
        struct list open;  /* log_file.lru of those with a descriptor, longest unused first */
        unsigned n_open;
        unsigned jobs; /* on the pool; the last one takes a freed struct along */
        bool freed;
        uv_loop_t *loop;
        void (*on_change)(void *ctx, uint64_t attempt_id, uint64_t end, bool finished);
        void *ctx;
};

/* Lives while somebody has it open, a sync is under way, or a transaction holds its descriptor. */
struct log_file {
        struct logs *logs;
        uint64_t attempt_id;
        char *path;
        struct list lru;
        int fd;         /* -1: closed for others' sake; the next append opens it again */
        int dir_fd;     /* held with fd for log_sync_with, or -1 */
        uint64_t end;   /* payload bytes */
        int64_t size;   /* bytes of the file that are whole records */
        unsigned refs;  /* logs_open without log_close */
        unsigned holds; /* log_sync_with without done: fd stays */
        bool torn;      /* bytes behind `size` have to be cut off first */
        bool dir_sync;  /* its name in the folder may not be durable yet */
        bool syncing;
        struct log_waiter *waiters; /* for the next sync */
};

/* The path of an attempt's file; mem_free. */
char *log_path(const char *logs_dir, uint64_t attempt_id);
/* Opens the descriptor if it is closed, making room among the others. */
int log_file_ready(struct log_file *f, struct err *e);
void log_file_shut(struct log_file *f);   /* closes the descriptor, if any */
void log_file_free(struct log_file *f);   /* takes it out of the set */
void log_file_unused(struct log_file *f); /* frees it if nobody needs it */
void logs_freed(struct logs *l);          /* frees the set once its last job is back */

/* log_reader.c: walks the whole records of fd; what they hold and where they end. */
int log_measure(int fd, uint64_t *out_end, int64_t *out_size);

#endif
