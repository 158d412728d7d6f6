/* From rows to the JSON that docs/API.md promises. HTTP threads. */
#ifndef PHOTON_HTTP_PRESENT_H
#define PHOTON_HTTP_PRESENT_H

#include <stdbool.h>
#include <stddef.h>

#include "hub/http/jsonw.h"

struct buf;
struct def_cache;
struct err;
struct http_thread;
struct row_api_token;
struct row_attempt;
struct row_checkpoint;
struct row_join_token;
struct row_run;
struct row_step;
struct workflow;

/* The last few parsed definitions, so that a step can say what it needs. One
 * thread's. Accepts NULL. */
void def_cache_free(struct def_cache *c);

/* The members of a run, without the braces and without "steps". brief: as in a list. */
void present_run(struct jsonw *w, const struct row_run *r, bool brief);
/* One step as an element or member. wf NULL: no "needs" are known (calls). */
void present_step(struct jsonw *w, const char *key, const struct row_step *s, const struct workflow *wf);
void present_step_members(struct jsonw *w, const struct row_step *s, const struct workflow *wf);
void present_attempt(struct jsonw *w, const struct row_attempt *a);
/* The members of a checkpoint. brief: without arguments, schema and content. */
void present_checkpoint(struct jsonw *w, const struct row_checkpoint *c, bool brief);
void present_join_token(struct jsonw *w, const struct row_join_token *t, long long now_us);
/* user: the name of whose it is, or NULL; off: they are disabled, and the token with them. */
void present_api_token(struct jsonw *w, const struct row_api_token *t, const char *user, bool off,
                       long long used_us, long long now_us);
/* The member "scopes": null is no limit. */
void present_scopes(struct jsonw *w, const char *names);

/* Appends the whole run. -E_NOENT, -E_*; e says why. */
int present_run_by_id(struct http_thread *t, const char *id, bool steps, struct buf *out, struct err *e);
int present_step_by_id(struct http_thread *t, const char *run_id, const char *step_id, struct buf *out,
                       struct err *e);

#endif
