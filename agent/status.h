/* The status command: the running agent answers each connection to
 * DATA/agent.sock (0600) with one JSON document and closes it. */
#ifndef PHOTON_AGENT_STATUS_H
#define PHOTON_AGENT_STATUS_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <uv.h>

struct agent_conf;
struct err;
struct status_server;

#define STATUS_CLIENTS_MAX 8

/* `describe` makes the document (NULL: no memory). */
int status_server_open(uv_loop_t *loop, const char *data_dir, cJSON *(*describe)(void *arg), void *arg,
                       struct status_server **out, struct err *e);
void status_server_close(struct status_server *s, void (*on_closed)(void *arg), void *arg);

/* What the agent that runs with this data folder says of itself. -E_NOENT: none runs, -E_TIMEOUT: it does
 * not answer, -E_INVAL, -E_NOMEM. The caller owns *out. Blocking. */
int status_ask(const char *data_dir, cJSON **out);
/* The client: prints text or JSON; *out_running false when no agent answers. Blocking. */
int status_show(const struct agent_conf *conf, bool *out_running, struct err *e);

#endif
