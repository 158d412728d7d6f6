/* The manifest of a plug-in: a YAML or JSON file that makes a tool of any
 * executable. docs/TOOLS.md has the reference.
 *
 *     name: notes.count
 *     version: "1"
 *     description: Counts the words of a text.
 *     command: [./count.sh]          # relative to the manifest's folder; a bare name is looked for on PATH
 *     input_schema: {type: object, required: [text], properties: {text: {type: string}}}
 *     output_schema: {type: object, properties: {words: {type: integer}}}
 *     effect: pure                   # pure | idempotent | at-most-once
 *     timeout: 10m
 *     stall: 2m                      # fails when it says nothing for so long
 *     env: [NOTES_TOKEN]             # variables of the agent that it gets besides env.pass of the policy
 *     questions: false               # true: stdin stays open for answers
 *
 * Strict: an unknown key, a wrong type, a schema that cannot be checked are
 * errors with line and column. Pure but for plugin_manifest_read. */
#ifndef PHOTON_AGENT_TOOLS_PLUGIN_MANIFEST_H
#define PHOTON_AGENT_TOOLS_PLUGIN_MANIFEST_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define PLUGIN_MANIFEST_MAX ((size_t)256 << 10) /* bytes of the file */
#define PLUGIN_SCHEMA_MAX   ((size_t)64 << 10)  /* of one schema as JSON: more is not offered to the hub */
#define PLUGIN_COMMAND_MAX  256                 /* entries */
#define PLUGIN_ENV_MAX      256
#define PLUGIN_NAME_MAX     128

struct plugin_manifest {
        char *name, *version, *description;
        char **command, **env;              /* NULL-ended; env may be NULL */
        char *input_schema, *output_schema; /* JSON text */
        cJSON *output_check;                /* output_schema, read */
        const char *effect;                 /* static */
        int64_t timeout_ms, stall_ms;       /* 0: none */
        bool questions;
};

/* -E_INVAL with line and column, -E_NOMEM. */
int plugin_manifest_parse(const char *text, size_t len, struct plugin_manifest *out, struct err *e);
/* Reads the file, which must belong to root or to the agent's user, as must its folder and a program that
 * command[0] names by path; none may be writable for others. Messages begin with "FILE:" or "FILE:L:C:".
 * Blocking. */
int plugin_manifest_read(const char *path, struct plugin_manifest *out, struct err *e);
void plugin_manifest_fini(struct plugin_manifest *m);

/* command[0] as it is looked for: a path below the manifest's folder, or the bare name. mem_free; NULL: no
 * memory. */
char *plugin_program(const struct plugin_manifest *m, const char *manifest_path);

#endif
