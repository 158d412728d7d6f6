/* What was refused, and to whom, in the audit: every 403 of a caller that we know, every 404 that hides what
 * lies in a project of others, and every 401, as one record each. So that nobody can fill the disk with them,
 * records that wait are bounded, and those of strangers come at DENIALS_STRANGERS_PER_S at most; what was
 * left out is counted in the next record ("unrecorded"). */
#ifndef PHOTON_HTTP_DENIALS_H
#define PHOTON_HTTP_DENIALS_H

struct http_req;
struct route;

#define DENIALS_WAITING_MAX     1000
#define DENIALS_STRANGERS_PER_S 5

/* For the request's answer `status`; others than 401, 403 and a hiding 404 are ignored. why: as the caller is
 * told, or NULL. Any thread. */
void denials_note(struct http_req *q, const struct route *r, unsigned status, const char *why);

/* The caller's token is a row, or belongs to one, that this hub has not written ("table/key"): log and audit
 * (row.refused). Any thread. */
void denials_row(struct http_req *q, const char *table, const char *key);

/* The caller was let in to read, by a request or a tool of MCP: a record of its own where the hub is told to
 * keep those (audit-reads), bounded as denials are. Any thread. */
void reads_note(struct http_req *q, const struct route *r);

#endif
