/* Errors as the API states them: RFC 9457 problem documents. Pure; any thread. */
#ifndef PHOTON_HTTP_PROBLEM_H
#define PHOTON_HTTP_PROBLEM_H

struct buf;
struct err;

#define PROBLEM_TYPE "application/problem+json"

/* The HTTP status for an error code (either sign). */
int problem_status(int code);
/* The reason phrase of the statuses that the API uses. */
const char *problem_title(int status);

/* Appends {"type","title","status","detail","code"} with line, column and path
 * where known. `code` NULL: e's own. `extra`: more members without the
 * leading comma ("\"taken\":7"), or NULL. */
int problem_write(struct buf *b, int status, const char *code, const struct err *e, const char *path,
                  const char *extra);

#endif
