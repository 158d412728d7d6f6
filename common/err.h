/* Error codes of every PHOTON module, and a bounded error message for people.
 *
 * Functions return 0 or a negative code: `return -E_NOENT`. Results leave
 * through `out` pointers, written only on success. Where a person will read
 * the reason, the function also takes a `struct err *` and fills it. */
#ifndef PHOTON_ERR_H
#define PHOTON_ERR_H

#include <stdarg.h>

/* X(symbol, stable lower-case name used in JSON, gRPC status number) */
#define ERR_LIST(X)                                                                                          \
        X(NOMEM, "out_of_memory", 8)                                                                         \
        X(INVAL, "invalid_argument", 3)                                                                      \
        X(NOENT, "not_found", 5)                                                                             \
        X(EXIST, "already_exists", 6)                                                                        \
        X(DENIED, "permission_denied", 7)                                                                    \
        X(UNAUTH, "unauthenticated", 16)                                                                     \
        X(STATE, "failed_precondition", 9)                                                                   \
        X(FULL, "resource_exhausted", 8)                                                                     \
        X(TOOBIG, "too_large", 11)                                                                           \
        X(TIMEOUT, "deadline_exceeded", 4)                                                                   \
        X(CANCELLED, "cancelled", 1)                                                                         \
        X(IO, "io_error", 13)                                                                                \
        X(NOSPACE, "no_space", 8)                                                                            \
        X(READONLY, "read_only", 9)                                                                          \
        X(CLOSED, "closed", 14)                                                                              \
        X(PROTO, "protocol_error", 13)                                                                       \
        X(UNAVAIL, "unavailable", 14)                                                                        \
        X(CORRUPT, "data_loss", 15)                                                                          \
        X(AGAIN, "aborted", 10)                                                                              \
        X(NOTSUP, "unimplemented", 12)                                                                       \
        X(VERSION, "version_mismatch", 9)                                                                    \
        X(INTERNAL, "internal", 13)

enum err_code {
        E_OK = 0,
#define X(sym, name, grpc) E_##sym,
        ERR_LIST(X)
#undef X
                E_MAX_CODE
};

/* "invalid_argument" for both E_INVAL and -E_INVAL; "ok" for 0. Any thread. */
const char *err_name(int code);

/* The gRPC status number (grpc/grpc doc/statuscodes.md) of a code. */
int err_to_grpc(int code);

/* The positive code whose name is `name`, or E_INTERNAL. */
int err_from_name(const char *name);

/* The positive code for an errno value (ENOSPC -> E_NOSPACE ...). */
int err_from_errno(int sys_errno);

/* What happened, to what, why, what to do: one or two sentences. line and
 * col are 1-based and 0 where there is no position in a file. */
struct err {
        int code; /* positive enum err_code, 0: no error */
        int line;
        int col;
        char msg[512];
};

/* Fills `e` (which may be NULL) and returns -code. Truncates long text at a
 * UTF-8 boundary. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int err_setv(struct err *e, int code, const char *fmt, va_list ap);
int err_at(struct err *e, int code, int line, int col, const char *fmt, ...)
        __attribute__((format(printf, 5, 6)));

/* The message without the "line N, column N: " that parsers begin it with: for those who say
 * the place in their own way. Points into `e`. */
const char *err_unplaced(const struct err *e);

#endif
