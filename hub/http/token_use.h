/* When API tokens were last used, coarsely: a row a minute and token at most, however busy it is, and none
 * that a request waits for. So a token that nobody needs any more, or that is used when nobody should, is
 * seen. */
#ifndef PHOTON_HTTP_TOKEN_USE_H
#define PHOTON_HTTP_TOKEN_USE_H

#include <stdbool.h>
#include <stdint.h>

struct http;
struct store_reader;

#define TOKEN_USE_EVERY_US    INT64_C(60000000)
#define TOKEN_USE_WAITING_MAX 64 /* what is over that is written by a later use */

/* Is it to be written again? Pure. A clock that was set back does not silence it. */
bool token_use_due(int64_t written_us, int64_t now_us);
/* A request with this token was let in. Any HTTP thread, with its reader. */
void token_use_note(struct http *h, struct store_reader *r, const char *token_id, int64_t now_us);

#endif
