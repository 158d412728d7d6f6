/* Between file.c (the call) and file_*.c (the work, on a pool thread). */
#ifndef PHOTON_AGENT_TOOLS_FILE_IN_H
#define PHOTON_AGENT_TOOLS_FILE_IN_H

#include <stdatomic.h>
#include <sys/stat.h>

#include "agent/policy.h"
#include "agent/tools/file.h"
#include "common/err.h"

#define FILE_READ_DEFAULT ((size_t)1 << 20)
#define FILE_READ_MAX     ((size_t)8 << 20)
#define FILE_WRITE_MAX    ((size_t)64 << 20)
#define FILE_PATCH_MAX    ((size_t)16 << 20)
#define FILE_LIST_DEFAULT 1000
#define FILE_LIST_MAX     20000
#define FILE_DEPTH_MAX    64
#define SHA256_HEX        65

/* One piece of work. The pool thread has it between start and after_work; `stop` alone is shared. */
struct file_work {
        uv_work_t req;
        uv_timer_t timer;
        bool timer_open, working;
        struct tool_call *c; /* NULL: abandoned, the thread hangs in the kernel */
        const struct policy *policy;
        cJSON *input, *out;
        struct err e;
        const char *code; /* stable error name; NULL: that of e.code */
        bool refused;
        int rc;
        atomic_bool stop;
        int (*run)(struct file_work *w);
};

int file_read_run(struct file_work *w);
int file_write_run(struct file_work *w);
int file_list_run(struct file_work *w);
int file_stat_run(struct file_work *w);
int file_delete_run(struct file_work *w);
int file_patch_run(struct file_work *w);

/* Sets w->e and w->code; returns -code. */
int work_fail(struct file_work *w, int code, const char *name, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
/* The same for an errno on a path. */
int work_errno(struct file_work *w, int sys, const char *what, const char *path);
int work_nomem(struct file_work *w);

/* Resolves input.path and asks the policy. mem_free *out_real. */
int work_path(struct file_work *w, enum policy_access a, char **out_real);
/* Asks the policy about another access to a path that is resolved already. */
int work_path_again(struct file_work *w, enum policy_access a, const char *real);
/* The same without following a link in the last place. */
int path_nofollow(const struct policy *p, enum policy_access a, const char *path, char **out_real,
                  struct err *e);
int work_path_nofollow(struct file_work *w, enum policy_access a, char **out_real);

/* --- file_open.c: paths that are resolved already; a link anywhere on the way is -E_DENIED -------- */

/* A folder, O_PATH-like use only through *at() calls. */
int open_dir(struct file_work *w, const char *real, bool create, int *out_fd);
/* The folder that holds `real`; *base points into real. */
int open_parent(struct file_work *w, const char *real, bool create, int *out_fd, const char **base);
/* A regular file for reading (nothing that could block), and what it is. */
int open_file(struct file_work *w, const char *real, int *out_fd, struct stat *st);

/* --- file_write.c: shared with file_patch.c ----------------------------------------------------- */

struct replace {
        const char *real;
        int dir_fd;
        const char *base;
        const void *data;
        size_t n;
        int mode;              /* -1: keep, or by umask */
        const char *if_sha256; /* the old contents must have it; NULL: whatever */
        bool if_absent;
        bool existed;   /* out */
        struct stat st; /* out, of the new file */
};
int replace_file(struct file_work *w, struct replace *r);
int fd_sha256(struct file_work *w, int fd, const char *path, char out[SHA256_HEX]);
int add_written(struct file_work *w, const struct replace *r);
/* "644" or "0644" -> mode; -1 if absent. */
int work_mode(struct file_work *w, int *out);

#endif
