#include "hub/http/mcp_session.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/id.h"
#include "common/json.h"
#include "common/list.h"
#include "common/mailbox.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/auth/auth.h"
#include "hub/http/core.h"
#include "hub/http/mcp_rpc.h"

#define EARLY_MAX 8

struct session {
        struct list link; /* mcp_sessions.quiet: who was used last is last */
        char id[MCP_SESSION_ID];
        char token_id[32];
        unsigned can;
        struct list flights;
        size_t n_flights;
        /* Cancelled before they came: each message is a POST of its own, and the later may be first. */
        char *early[EARLY_MAX];
        unsigned next_early;
};

struct mcp_sessions {
        struct map *by_id;
        struct list quiet;
        size_t n;
        uint64_t flights; /* ever */
};

struct mcp_flight {
        struct list link;        /* [loop] session.flights */
        struct session *session; /* [loop] NULL: it was closed */
        char *id;                /* the request's, as JSON; const */
        uint64_t number;         /* const */
        struct mail end;
        atomic_bool cancelled;
        atomic_uint asked;      /* questions so far */
        _Atomic(char *) answer; /* to the last one; who takes it frees it */
};

unsigned mcp_can_bits(const cJSON *capabilities)
{
        return (mcp_can(capabilities, "elicitation") ? MCP_CAN_ELICIT : 0) |
               (mcp_can(capabilities, "sampling") ? MCP_CAN_SAMPLE : 0) |
               (mcp_can(capabilities, "roots") ? MCP_CAN_ROOTS : 0);
}

/* ---- sessions ---- */

static struct mcp_sessions *sessions(struct http *h)
{
        struct mcp_sessions *s = h->mcp;

        if (s)
                return s;
        s = mem_calloc(1, sizeof *s);
        if (!s)
                return NULL;
        list_init(&s->quiet);
        s->by_id = map_create();
        if (!s->by_id) {
                mem_free(s);
                return NULL;
        }
        h->mcp = s;
        return s;
}

/* Whoever waits in a call of it is told by the flag. */
static void drop(struct mcp_sessions *all, struct session *s)
{
        LIST_EACH_SAFE (it, nx, &s->flights) {
                struct mcp_flight *f = container_of(it, struct mcp_flight, link);

                list_remove(&f->link);
                f->session = NULL;
                atomic_store(&f->cancelled, true);
        }
        map_del(all->by_id, s->id);
        list_remove(&s->link);
        all->n--;
        for (int i = 0; i < EARLY_MAX; i++)
                mem_free(s->early[i]);
        mem_free(s);
}

void mcp_sessions_free(struct mcp_sessions *s)
{
        if (!s)
                return;
        LIST_EACH_SAFE (it, nx, &s->quiet)
                drop(s, container_of(it, struct session, link));
        map_free(s->by_id);
        mem_free(s);
}

/* The one of this token (NULL: of any) that was quiet longest; with nothing in flight if there is such. */
static struct session *quietest(struct mcp_sessions *all, const char *token_id, size_t *count)
{
        struct session *first = NULL, *idle = NULL;

        *count = 0;
        LIST_EACH (it, &all->quiet) {
                struct session *s = container_of(it, struct session, link);

                if (token_id && strcmp(s->token_id, token_id) != 0)
                        continue;
                (*count)++;
                if (!first)
                        first = s;
                if (!idle && !s->n_flights)
                        idle = s;
        }
        return idle ? idle : first;
}

static void make_room(struct http *h, struct mcp_sessions *all, const char *token_id)
{
        size_t n;
        struct session *s = quietest(all, token_id, &n);

        if (n < MCP_SESSIONS_PER_TOKEN) {
                if (all->n < MCP_SESSIONS_MAX)
                        return;
                s = quietest(all, NULL, &n);
        }
        drop(all, s);
        streams_on_event(h, 0);
}

int mcp_session_open(struct http *h, const struct caller *who, unsigned can, char id[MCP_SESSION_ID])
{
        struct mcp_sessions *all = sessions(h);
        struct session *s = all ? mem_calloc(1, sizeof *s) : NULL;
        uint8_t raw[18];

        if (!s)
                return -E_NOMEM;
        list_init(&s->link);
        list_init(&s->flights);
        id_random(raw, sizeof raw);
        str_hex(raw, sizeof raw, s->id);
        snprintf(s->token_id, sizeof s->token_id, "%s", who->token_id);
        s->can = can;
        make_room(h, all, s->token_id);
        if (map_put(all->by_id, s->id, s, NULL)) {
                mem_free(s);
                return -E_NOMEM;
        }
        list_push_back(&all->quiet, &s->link);
        all->n++;
        memcpy(id, s->id, MCP_SESSION_ID);
        return 0;
}

static struct session *find(struct http *h, const char *id)
{
        return h->mcp ? map_get(h->mcp->by_id, id) : NULL;
}

static struct session *find_own(struct http *h, const struct caller *who, const char *id)
{
        struct session *s = find(h, id);

        return s && strcmp(s->token_id, who->token_id) == 0 ? s : NULL;
}

bool mcp_session_use(struct http *h, const struct caller *who, const char *id, unsigned *can)
{
        struct session *s = find_own(h, who, id);

        if (!s)
                return false;
        list_remove(&s->link);
        list_push_back(&h->mcp->quiet, &s->link);
        *can = s->can;
        return true;
}

bool mcp_session_close(struct http *h, const struct caller *who, const char *id)
{
        struct session *s = find_own(h, who, id);

        if (!s)
                return false;
        drop(h->mcp, s);
        streams_on_event(h, 0);
        return true;
}

/* ---- calls in flight ---- */

static struct mcp_flight *find_flight(const struct session *s, const cJSON *id)
{
        char *text = s && id ? json_text(id) : NULL;
        struct mcp_flight *found = NULL;

        if (!text)
                return NULL;
        LIST_EACH (it, &s->flights) {
                struct mcp_flight *f = container_of(it, struct mcp_flight, link);

                if (strcmp(f->id, text) == 0)
                        found = f;
        }
        mem_free(text);
        return found;
}

/* An id is used once in a session, so remembering one that never comes does no harm. */
static void cancel_early(struct session *s, const cJSON *id)
{
        char *text = json_text(id);

        if (!text)
                return;
        mem_free(s->early[s->next_early]);
        s->early[s->next_early] = text;
        s->next_early = (s->next_early + 1) % EARLY_MAX;
}

static bool was_cancelled(const struct session *s, const char *id)
{
        for (int i = 0; i < EARLY_MAX; i++)
                if (s->early[i] && strcmp(s->early[i], id) == 0)
                        return true;
        return false;
}

int mcp_flight_begin(struct http *h, const char *session, const cJSON *id, struct mcp_flight **out)
{
        struct session *s = find(h, session);
        struct mcp_flight *f;

        if (!s)
                return -E_NOENT;
        if (find_flight(s, id))
                return -E_EXIST;
        if (s->n_flights == MCP_FLIGHTS_PER_SESSION)
                return -E_FULL;
        f = mem_calloc(1, sizeof *f);
        if (f)
                f->id = json_text(id);
        if (!f || !f->id) {
                mem_free(f);
                return -E_NOMEM;
        }
        list_push_back(&s->flights, &f->link);
        s->n_flights++;
        f->session = s;
        f->number = ++h->mcp->flights;
        atomic_store(&f->cancelled, was_cancelled(s, f->id));
        *out = f;
        return 0;
}

void mcp_flight_cancel(struct http *h, const char *session, const cJSON *id)
{
        struct session *s = find(h, session);
        struct mcp_flight *f = find_flight(s, id);

        if (!f && s && (cJSON_IsString(id) || cJSON_IsNumber(id)))
                cancel_early(s, id);
        if (!f)
                return;
        atomic_store(&f->cancelled, true);
        streams_on_event(h, 0); /* wakes all; it is rare */
}

bool mcp_flight_answer(struct http *h, const char *session, const cJSON *id, const cJSON *doc)
{
        struct session *s = find(h, session);
        char asked[48], *text;

        if (!s || !cJSON_IsString(id))
                return false;
        LIST_EACH (it, &s->flights) {
                struct mcp_flight *f = container_of(it, struct mcp_flight, link);

                snprintf(asked, sizeof asked, "photon-%llu-%u", (unsigned long long)f->number,
                         atomic_load(&f->asked));
                if (!atomic_load(&f->asked) || strcmp(asked, id->valuestring) != 0)
                        continue;
                text = json_text(doc);
                if (!text || strlen(text) > MCP_ANSWER_MAX) {
                        mem_free(text);
                        return false;
                }
                mem_free(atomic_exchange(&f->answer, text));
                streams_on_event(h, 0);
                return true;
        }
        return false;
}

bool mcp_flight_cancelled(const struct mcp_flight *f)
{
        return f && atomic_load(&f->cancelled);
}

void mcp_flight_ask(struct mcp_flight *f, char id[48])
{
        mem_free(atomic_exchange(&f->answer, NULL));
        snprintf(id, 48, "photon-%llu-%u", (unsigned long long)f->number, atomic_fetch_add(&f->asked, 1) + 1);
}

char *mcp_flight_take(struct mcp_flight *f)
{
        return atomic_exchange(&f->answer, NULL);
}

static void on_end(struct mail *m)
{
        struct mcp_flight *f = container_of(m, struct mcp_flight, end);

        if (f->session) {
                list_remove(&f->link);
                f->session->n_flights--;
        }
        mem_free(atomic_load(&f->answer));
        mem_free(f->id);
        mem_free(f);
}

void mcp_flight_end(struct http *h, struct mcp_flight *f)
{
        if (!f)
                return;
        f->end.run = on_end;
        mailbox_post(h->o.mailbox, &f->end);
}
