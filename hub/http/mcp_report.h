/* How a run goes, told as progress messages: what its steps do (the hub's events), and of
 * a call what its tool does (docs/EVENTS.md) and writes. HTTP threads; one stream's. */
#ifndef PHOTON_HTTP_MCP_REPORT_H
#define PHOTON_HTTP_MCP_REPORT_H

#include <stdbool.h>
#include <stdint.h>

struct http_thread;
struct mcp_report;
struct mcp_stream;

#define MCP_MESSAGE_MAX 4096 /* bytes; when there is more to tell at once, what lies between is left out */

struct mcp_report *mcp_report_create(const char *run_id); /* NULL: no memory, or no such id */
void mcp_report_free(struct mcp_report *r);               /* accepts NULL */
/* Tells what is new, at most so much at once. attempt_id 0: only the hub's events. over: the attempt is.
 * *told: there was something; *more: there is more to read now. */
int mcp_report(struct mcp_report *r, struct mcp_stream *ms, struct http_thread *t, uint64_t attempt_id,
               bool over, bool *told, bool *more);

#endif
