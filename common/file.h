/* Files the way a daemon needs them: whole, atomic, private. Blocking; call
 * at start-up, on a worker thread, or for small files. */
#ifndef PHOTON_FILE_H
#define PHOTON_FILE_H

#include <stddef.h>
#include <stdint.h>

struct err;

/* Reads a whole regular file of at most max_bytes; adds a NUL; mem_free it. */
int file_read(const char *path, size_t max_bytes, char **out, size_t *out_len, struct err *e);

/* The same for a key: -E_DENIED if anybody but its owner may read or write it, -E_NOENT without a word if
 * there is none. Wipe it. */
int file_read_private(const char *path, size_t max_bytes, char **out, size_t *out_len, struct err *e);

/* Writes to a temporary neighbour, fsyncs, renames, fsyncs the folder. */
int file_write_atomic(const char *path, const void *p, size_t n, unsigned mode, struct err *e);

/* mkdir -p with mode for the last folder; refuses a last folder that others
 * may write to. */
int file_mkdir_private(const char *path, struct err *e);
int file_mkdirs(const char *path, unsigned mode, struct err *e);

/* Loops over partial writes; returns 0 or -E_*. */
int file_write_all(int fd, const void *p, size_t n);

/* Takes an exclusive flock(2) on `path` (created 0600) for the life of the
 * process; -E_EXIST when another process holds it. */
int file_lock(const char *path, int *out_fd, struct err *e);

char *path_join(const char *a, const char *b); /* mem_free */

#endif
