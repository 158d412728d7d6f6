/* The model endpoints of this machine: where they are, what their models can do
 * and cost. Read once, at start, from the section `models` of the agent's
 * configuration; the hub is told all of it but how to get the keys.
 *
 *     models:
 *       - name: local
 *         kind: ollama                 # openai anthropic gemini ollama zai jules
 *         base_url: http://127.0.0.1:11434
 *         local: true                  # what is asked stays on this machine
 *         models:
 *           - {name: qwen3, context: 32768, capabilities: [tools, json]}
 *       - name: claude
 *         kind: anthropic
 *         key_file: /etc/photon/claude.key
 *         models:
 *           - {name: claude-sonnet-5, context: 200000, capabilities: [tools, json, images, files],
 *              price: {input: 3, output: 15, cache_read: 0.3, cache_write: 3.75}}   # USD per million tokens
 *
 * One table per process, loop thread; what it lends lives until models_close,
 * and models_key may be called on any thread. */
#ifndef PHOTON_AGENT_TOOLS_MODELS_H
#define PHOTON_AGENT_TOOLS_MODELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tools/event.h"

struct err;

#define MODELS_ENDPOINTS_MAX 64
#define MODELS_EACH_MAX      256 /* models of one endpoint */

enum model_kind { MODEL_OPENAI, MODEL_ANTHROPIC, MODEL_GEMINI, MODEL_OLLAMA, MODEL_ZAI, MODEL_JULES };
const char *model_kind_name(enum model_kind k);

enum { MODEL_TOOLS = 1, MODEL_JSON = 2, MODEL_IMAGES = 4, MODEL_FILES = 8 };

/* USD per million tokens; negative: not said. */
struct model_price {
        double input, output, cache_read, cache_write;
};

struct model {
        char *name;
        unsigned capabilities;
        int64_t context, max_output; /* tokens; 0: not said */
        struct model_price price;
};

struct endpoint {
        char *name;
        enum model_kind kind;
        char *base_url;    /* no '/' at its end */
        char *unix_socket; /* connect there instead of to the host of base_url; or NULL */
        char *key_env, *key_file, *key_credential;
        bool local, implied; /* implied: not in the file */
        int64_t timeout_ms, connect_ms, stall_ms;
        int retries;
        struct model *models;
        size_t n_models;
};

/* Reads the section `models` of the file (NULL: none). In any case there are endpoints for Z.AI and Jules
 * afterwards. -E_INVAL with the place in the file. */
int models_load(const char *path, struct err *e);
/* The same from text; path is only named in mistakes. */
int models_parse(const char *text, size_t n, const char *path, struct err *e);
void models_close(void);

size_t models_count(void);
const struct endpoint *models_at(size_t i);
const struct endpoint *models_find(const char *name); /* or NULL */
/* The first that was written down of this kind, or the implied one; NULL: none. */
const struct endpoint *models_of_kind(enum model_kind k);
const struct model *models_model(const struct endpoint *ep, const char *name); /* or NULL */

/* What the hub and people see, as JSON: {"endpoints": [...]}; never where a key lies. Lent. */
const char *models_detail(void);
/* Is there a key, as far as can be told without reading it? */
bool models_has_key(const struct endpoint *ep);
/* The key, mem_wipe and mem_free it; *out is NULL if the endpoint needs none. Blocking. -E_NOENT: there is
 * none, -E_DENIED: others may read it; with what to do. */
int models_key(const struct endpoint *ep, char **out, struct err *e);

/* What u costs, in USD; negative: not known. */
double models_cost(const struct model *m, const struct event_usage *u);

#endif
