/* What the hub itself sends and fetches: notices to webhooks and mail servers, an identity provider's keys.
 * The only room of the hub that calls libcurl, on a thread of its own, so that neither a name that does not
 * resolve nor a peer that hangs holds up the loop.
 *
 * Only what an operator has configured is ever asked: no address comes from a workflow, a tool or a peer, so
 * redirects are not followed, and only http, https, smtp and smtps are spoken. Certificates are verified. */
#ifndef PHOTON_NET_H
#define PHOTON_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct mailbox;
struct net;

#define NET_PENDING_MAX 256u           /* requests that wait or are under way */
#define NET_ANSWER_MAX  (1u << 20)     /* bytes of an answer, unless the request wants fewer */
#define NET_TIMEOUT_MS  INT64_C(10000) /* unless the request says otherwise */

/* Everything is copied by net_send; secrets are wiped when it is over. */
struct net_request {
        const char *url;            /* http://, https://, smtp://, smtps:// */
        const char *method;         /* HTTP; NULL: GET, or POST with a body */
        const char *const *headers; /* "Name: value", NULL-ended; or NULL */
        const void *body;           /* of a mail: with its own headers */
        size_t body_len;
        size_t answer_max;           /* 0: NET_ANSWER_MAX */
        int64_t timeout_ms;          /* 0: NET_TIMEOUT_MS */
        const char *ca_file;         /* PEM; NULL: what this machine trusts */
        const char *user, *password; /* HTTP basic or SMTP AUTH; or NULL */
        /* mail */
        const char *from;
        const char *const *to; /* NULL-ended */
        bool starttls;         /* smtp://: refuse to go on in clear text */
};

/* Lent for the call. */
struct net_answer {
        int rc;           /* 0: an answer came, whatever its status; -E_UNAVAIL, -E_TIMEOUT, -E_TOOBIG ... */
        const char *why;  /* rc != 0: a sentence */
        long status;      /* HTTP's or SMTP's last; 0: none */
        const char *body; /* NUL-terminated */
        size_t len;
        int64_t retry_after_ms; /* what a Retry-After of seconds says; 0: none */
};
typedef void (*net_done)(void *arg, const struct net_answer *a);

/* Starts the thread. mb: where answers come to the loop. */
int net_create(struct mailbox *mb, struct net **out, struct err *e);
/* Loop thread; on_done comes once, later, on the loop. -E_FULL, -E_NOMEM, -E_INVAL (a URL of another kind).
 */
int net_send(struct net *n, const struct net_request *r, net_done on_done, void *arg, struct err *e);
/* Loop thread. Breaks off what is under way and joins the thread; callbacks that are not in the mailbox by
 * now never run. Drain or drop the mailbox after it. Accepts NULL. */
void net_close(struct net *n);

#endif
