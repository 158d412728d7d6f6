/* Idempotency-Key: the same POST sent twice has its effect once.
 *
 * A key belongs to the caller's token. The hub keeps, with the change itself,
 * the hash of the request and what to say again. An empty stored body means:
 * show the resource as it is now. While the first request is on its way the second
 * is told to come back (409); the same key with another request is 422. */
#ifndef PHOTON_HTTP_IDEM_H
#define PHOTON_HTTP_IDEM_H

#include <stdbool.h>

struct err;
struct http_req;
struct store_tx;

#define IDEM_KEY_MAX 200

struct idem {
        char key[IDEM_KEY_MAX + 1];
        char sha256[65];
        char *claim; /* what is held in http.keys; [loop] */
        bool stored; /* [loop] the handler keeps the answer itself */
        bool replay; /* an earlier answer was found: */
        int status;
        char *body;
};

/* HTTP thread, body still there. 0 also when there is no such header. */
int idem_read(struct http_req *q, struct err *e);
/* Loop. 0: go on, the key is held; 1: q->idem->replay is filled; -E_AGAIN, -E_EXIST (q's problem fields are
 * set). */
int idem_claim(struct http_req *q, struct err *e);
void idem_release(struct http_req *q);
/* Adds what to say again to the change's own transaction. */
void idem_store(struct http_req *q, struct store_tx *tx, int status, const char *body);
void idem_free(struct idem *i);

#endif
