/* JSON-RPC 2.0 as ACP, MCP and Codex's app-server speak it: reads one message,
 * makes one, and remembers which of our requests wait for an answer.
 *
 * Knows nothing of pipes or sockets: messages leave through `send`, answers
 * come in through jsonrpc_answer. Ids are whole numbers (0 as well) or strings.
 * What is lenient here is so because real peers need it: a missing result is
 * null, "error": null is none, and escapes that no text can hold (\u0000, half
 * a surrogate pair, where a peer cut a text in two) become U+FFFD.
 * No batches: none of these protocols has them. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_JSONRPC_H
#define PHOTON_AGENT_TOOLS_JSONRPC_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct map;

#define JSONRPC_ID_MAX      256  /* bytes of an id that is a string */
#define JSONRPC_WAITING_MAX 1024 /* requests of ours without an answer */

enum jsonrpc_code {
        JSONRPC_PARSE_ERROR = -32700,
        JSONRPC_INVALID_REQUEST = -32600,
        JSONRPC_METHOD_NOT_FOUND = -32601,
        JSONRPC_INVALID_PARAMS = -32602,
        JSONRPC_INTERNAL_ERROR = -32603,
};

enum jsonrpc_kind { JSONRPC_REQUEST, JSONRPC_NOTIFICATION, JSONRPC_RESULT, JSONRPC_ERROR };

/* One message that came. Everything points into `tree`. */
struct jsonrpc_msg {
        enum jsonrpc_kind kind;
        const cJSON *id;     /* NULL: a notification, or an error about something the peer could not read */
        const char *method;  /* of requests and notifications */
        const cJSON *params; /* object or array, or NULL */
        const cJSON *result; /* of JSONRPC_RESULT; NULL stands for null */
        int64_t code;        /* of JSONRPC_ERROR */
        const char *message; /* of JSONRPC_ERROR; "" if it has none */
        const cJSON *data;   /* of JSONRPC_ERROR, or NULL */
        cJSON *tree;
};

/* Reads one message; `text` is written to. bare: Codex's app-server leaves "jsonrpc" out. jsonrpc_msg_fini
 * when done. -E_PROTO: no message, and why. -E_NOMEM. */
int jsonrpc_read(char *text, size_t n, bool bare, struct jsonrpc_msg *out, struct err *e);
/* The same from a tree, which is taken also on failure. */
int jsonrpc_read_tree(cJSON *tree, bool bare, struct jsonrpc_msg *out, struct err *e);
void jsonrpc_msg_fini(struct jsonrpc_msg *m);

/* Our end of one conversation. */
struct jsonrpc {
        bool bare;
        uint64_t next_id; /* 0 is the first */
        struct map *waiting;
        int (*send)(void *arg, const cJSON *message);
        void *arg;
};

/* bare: write no "jsonrpc" member. send says 0 or -E_*, which then is what the call here says. */
int jsonrpc_init(struct jsonrpc *r, bool bare, int (*send)(void *arg, const cJSON *message), void *arg);
/* Forgets what waits: no callback comes any more. */
void jsonrpc_fini(struct jsonrpc *r);

/* params are taken, also on failure, and may be NULL. on_answer comes at most once, from jsonrpc_answer, with
 * a message of kind JSONRPC_RESULT or JSONRPC_ERROR, lent; it may call anything here but jsonrpc_fini.
 * -E_FULL: too many wait. */
int jsonrpc_call(struct jsonrpc *r, const char *method, cJSON *params,
                 void (*on_answer)(void *arg, const struct jsonrpc_msg *m), void *arg, uint64_t *out_id);
int jsonrpc_notify(struct jsonrpc *r, const char *method, cJSON *params);
/* id: as it came (a copy of it is fine); NULL writes null. result is taken; NULL writes null. */
int jsonrpc_reply(struct jsonrpc *r, const cJSON *id, cJSON *result);
int jsonrpc_reply_error(struct jsonrpc *r, const cJSON *id, int code, const char *message);

/* Hands an answer to whoever waits for it. -E_NOENT: nobody does (it came twice, was forgotten, or never
 * asked for). */
int jsonrpc_answer(struct jsonrpc *r, const struct jsonrpc_msg *m);
/* No answer to this one is wanted any more. */
void jsonrpc_forget(struct jsonrpc *r, uint64_t id);
size_t jsonrpc_waiting(const struct jsonrpc *r);

#endif
