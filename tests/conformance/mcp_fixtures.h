/* What the official MCP conformance suite wants to call: tools, prompts and resources of
 * agreed names. Linked into a hub for tests only ($(BUILD)/tests/photon-hub-mcp), beside the
 * product's own objects; the product has none of it, and a test looks. */
#ifndef PHOTON_TEST_MCP_FIXTURES_H
#define PHOTON_TEST_MCP_FIXTURES_H

#include "hub/http/mcp.h"

#define FIXTURE_PNG                                                                                          \
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="

extern const struct mcp_tool fixture_tools[];     /* fixture_tools.c */
extern const struct mcp_method fixture_methods[]; /* fixture_methods.c */

/* Tools that take a while and talk meanwhile (fixture_streams.c). */
int fixture_progress(struct http_req *q, struct mcp_call *c, struct err *e);
int fixture_logging(struct http_req *q, struct mcp_call *c, struct err *e);
int fixture_sampling(struct http_req *q, struct mcp_call *c, struct err *e);
int fixture_elicitation(struct http_req *q, struct mcp_call *c, struct err *e);
int fixture_elicit_defaults(struct http_req *q, struct mcp_call *c, struct err *e);
int fixture_elicit_enums(struct http_req *q, struct mcp_call *c, struct err *e);

/* Questions that go out as an unfinished result (fixture_rounds.c). */
int fixture_round_tool(struct http_req *q, struct mcp_call *c, struct err *e);
int fixture_round_prompt(struct http_req *q, struct mcp_call *c);
int fixture_needs_sampling(struct http_req *q, struct mcp_call *c, struct err *e);

/* q answered with one text. */
int fixture_text(struct http_req *q, struct mcp_call *c, const char *text);

#endif
