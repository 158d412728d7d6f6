/* The data folder: 0700, one agent at a time, and the policy file in it. */
#ifndef PHOTON_AGENT_DATADIR_H
#define PHOTON_AGENT_DATADIR_H

#include <stdbool.h>

struct agent_conf;
struct err;
struct policy;

/* Makes the folder and takes its lock for the life of the process. -E_EXIST: an agent runs there. */
int datadir_open(const char *path, int *out_lock, struct err *e);
/* Writes the default policy if there is none and none was named. *out_path: mem_free. */
int datadir_policy(const struct agent_conf *conf, bool create, struct policy **out, char **out_path,
                   struct err *e);
/* An empty folder `name` in the data folder: what was there is deleted (blocking: start-up). */
int datadir_fresh(const char *data, const char *name, char **out_path, struct err *e);

#endif
