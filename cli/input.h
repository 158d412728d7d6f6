/* What commands read: files (or "-": standard input) and KEY=VALUE pairs. One thread. */
#ifndef PHOTON_CLI_INPUT_H
#define PHOTON_CLI_INPUT_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

struct conf_list;
struct err;

#define INPUT_WORKFLOW_MAX ((size_t)16 << 20) /* what the hub takes */

/* Any kind of file, whole; NUL behind it; mem_free. -E_TOOBIG, -E_NOENT, -E_IO ... */
int input_read(const char *path, size_t max_bytes, char **out, size_t *out_len, struct err *e);
/* A JSON or YAML file that holds an object. */
int input_object(const char *path, cJSON **out, struct err *e);
/* "KEY=VALUE" ... -> object of strings; `what`: the flag, for messages. -E_INVAL. */
int input_pairs(const struct conf_list *l, const char *what, cJSON **out, struct err *e);
/* Adds texts to `into`, each as the type that the workflow's text states for the input of that
 * name (string if it states none). -E_INVAL. */
int input_typed(const char *workflow, size_t n, const cJSON *texts, cJSON *into, struct err *e);
/* JSON text, "@FILE" or "-". */
int input_json(const char *arg, const char *what, cJSON **out, struct err *e);

#endif
