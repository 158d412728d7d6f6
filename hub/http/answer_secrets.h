/* Secrets that an answer to a checkpoint carries: out of the content before anything is made of it, and into
 * the vault in the decision's own transaction. In the content stays {"secret": NAME}. */
#ifndef PHOTON_HTTP_ANSWER_SECRETS_H
#define PHOTON_HTTP_ANSWER_SECRETS_H

#include <cjson/cJSON.h>

struct answer_secrets;
struct err;
struct http_req;
struct store_tx;

/* HTTP thread. Moves the values of the secret fields out of `content` (an object that fits the schema), and
 * wipes what is left of them there. *out NULL: there are none. -E_DENIED: the caller may not set secrets in
 * the project of the request; -E_UNAVAIL: no vault; q's problem code is set. */
int answer_secrets_take(struct http_req *q, const cJSON *fields, cJSON *content, struct answer_secrets **out,
                        struct err *e);
/* Overwrites every text of these members, of the request as it was read, and its body. */
void answer_secrets_forget(struct http_req *q, const cJSON *fields, cJSON *content);
void answer_secrets_free(struct answer_secrets *s); /* wipes; accepts NULL */

/* Loop; the `also` of struct engine_decision. All or nothing, but for a vault that is full. */
int answer_secrets_put(void *arg, struct store_tx *tx, const char **code, struct err *e);

#endif
