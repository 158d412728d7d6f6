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

/* The client: prints text or JSON; *out_running false when no agent answers. Blocking. */
int status_show(const struct agent_conf *conf, bool *out_running, struct err *e);

#endif
