/* From a request's answer fields to a libmicrohttpd response. HTTP thread. */
#ifndef PHOTON_HTTP_REPLY_H
#define PHOTON_HTTP_REPLY_H

#include <microhttpd.h>

struct err;
struct http_req;

/* Replaces whatever the request was about to answer by a problem document. */
void reply_problem(struct http_req *q, int rc, const struct err *e);
/* Queues it; MHD_NO cuts the connection. */
enum MHD_Result reply_send(struct http_req *q);

#endif
