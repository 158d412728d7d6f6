/* Sessions of MCP's legacy era (up to 2025-11-25), and the calls in flight in them: what
 * `notifications/cancelled` and the answers to our own questions are matched with.
 *
 * A session belongs to the token that opened it and lives in memory only: after a restart, or when it
 * made room for others, its client is told 404 and opens a new one, as the protocol has it. The
 * modern era has none of this: there a closed stream cancels. */
#ifndef PHOTON_HTTP_MCP_SESSION_H
#define PHOTON_HTTP_MCP_SESSION_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

struct caller;
struct http;
struct mcp_flight;
struct mcp_sessions;

#define MCP_SESSIONS_MAX        1000
#define MCP_SESSIONS_PER_TOKEN  100
#define MCP_FLIGHTS_PER_SESSION 64
#define MCP_SESSION_ID          40 /* its text with the NUL */
#define MCP_ANSWER_MAX          (256u << 10)

/* What a client said it can, as bits. */
#define MCP_CAN_ELICIT 1u
#define MCP_CAN_SAMPLE 2u
#define MCP_CAN_ROOTS  4u
unsigned mcp_can_bits(const cJSON *capabilities);

/* ---- loop thread ---- */
void mcp_sessions_free(struct mcp_sessions *s); /* accepts NULL */
/* -E_NOMEM. When there is no room the one that was quiet longest goes. */
int mcp_session_open(struct http *h, const struct caller *who, unsigned can, char id[MCP_SESSION_ID]);
/* False: there is none of this id that is the caller's. */
bool mcp_session_use(struct http *h, const struct caller *who, const char *id, unsigned *can);
/* Its calls are cancelled. False: as above. */
bool mcp_session_close(struct http *h, const struct caller *who, const char *id);
/* A request of the session (after mcp_session_use) begins: -E_EXIST: its id is in flight already; -E_FULL,
 * -E_NOMEM. */
int mcp_flight_begin(struct http *h, const char *session, const cJSON *id, struct mcp_flight **out);
/* The client does not want the answer to this request any more; it may be on its way still. */
void mcp_flight_cancel(struct http *h, const char *session, const cJSON *id);
/* The client's answer to a question of ours: the message as it came. False: nobody asked. */
bool mcp_flight_answer(struct http *h, const char *session, const cJSON *id, const cJSON *doc);

/* ---- any thread that has the flight ---- */
bool mcp_flight_cancelled(const struct mcp_flight *f);
/* The id of a question that is about to be sent. */
void mcp_flight_ask(struct mcp_flight *f, char id[48]);
/* The answer to the last question, once: JSON text, mem_free. NULL: not yet. */
char *mcp_flight_take(struct mcp_flight *f);
/* Over. Accepts NULL. */
void mcp_flight_end(struct http *h, struct mcp_flight *f);

#endif
