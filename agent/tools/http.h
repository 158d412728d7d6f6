/* http.request: one HTTP exchange. Its table row is in table.c. */
#ifndef PHOTON_AGENT_TOOLS_HTTP_H
#define PHOTON_AGENT_TOOLS_HTTP_H

#include "agent/tools/tool.h"

extern const char http_input_schema[], http_output_schema[];

int http_request_permit(const struct policy *p, const cJSON *input, struct err *e);
int http_request_start(struct tool_call *c, const cJSON *input, struct err *e);
void http_request_cancel(struct tool_call *c, int grace_ms);
void http_request_free(struct tool_call *c);

/* "http://[::1]:80/x" -> "[::1]", 80. Strict; also used before libcurl is loaded. -E_INVAL. */
int http_split_url(const char *url, char host[256], int *out_port, bool *out_tls, struct err *e);

#endif
