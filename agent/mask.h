/* Takes secrets out of what tools write, before it leaves the machine.
 *
 * A mask knows a call's secrets in the forms in which they leak (mask_forms.h), and each line of a long one.
 * What matches is replaced by
 * "***", overlapping matches by one. A stream is masked piece by piece: bytes that may be the beginning of a
 * secret are held back until what follows decides, so that no split lets one through; the end of the stream
 * gives them free.
 *
 * It is no defence against a tool that wants to leak (which can reverse or
 * encrypt): it is one against accidents. One owner; no locks. */
#ifndef PHOTON_AGENT_MASK_H
#define PHOTON_AGENT_MASK_H

#include <stddef.h>

struct buf;
struct mask;
struct mask_stream;

#define MASK_SECRET_MIN  6 /* shorter ones would mask half of the output: refused */
#define MASK_SECRET_MAX  ((size_t)64 << 10)
#define MASK_SECRETS_MAX 64
#define MASK_TEXT        "***"

int mask_create(struct mask **out); /* -E_NOMEM */
/* Copies. -E_INVAL: too short; -E_TOOBIG: too long, or too many. */
int mask_add(struct mask *m, const void *secret, size_t n);
void mask_free(struct mask *m); /* wipes; streams must be gone */

/* Lent the mask, which may not change while a stream lives. */
int mask_stream_create(const struct mask *m, struct mask_stream **out);
/* Appends what may leave to `out`. -E_NOMEM: nothing was taken. */
int mask_put(struct mask_stream *s, const void *p, size_t n, struct buf *out);
/* Appends what was held back. */
int mask_end(struct mask_stream *s, struct buf *out);
void mask_stream_free(struct mask_stream *s); /* wipes */
/* One whole text. A long one was perhaps cut from a longer one: what is left of a secret at its edges goes
 * too (8 bytes and more). Appends to `out`. -E_NOMEM. */
#define MASK_CUT_MIN 4096 /* nobody cuts shorter texts */
int mask_whole(const struct mask *m, const void *p, size_t n, struct buf *out);
/* A masked copy of one text; mem_free. NULL: no memory. */
char *mask_text(const struct mask *m, const char *text);
/* The same for a sentence that others may have cut short: the beginning of a secret goes too. */
char *mask_sentence(const struct mask *m, const char *text);

#endif
