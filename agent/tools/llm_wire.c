#include "agent/tools/llm_wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/tools/llm_in.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define HEAD_MAX ((size_t)4 << 10)

const struct llm_wire *llm_wire(enum model_kind k)
{
        static const struct llm_wire *const wires[] = {
                [MODEL_OPENAI] = &llm_openai, [MODEL_ANTHROPIC] = &llm_anthropic,
                [MODEL_GEMINI] = &llm_gemini, [MODEL_OLLAMA] = &llm_ollama,
                [MODEL_ZAI] = &llm_zai,       [MODEL_JULES] = NULL,
        };

        return wires[k];
}

const char *llm_end_name(enum llm_end e)
{
        static const char *const names[] = {
                [LLM_NONE] = "",
                [LLM_STOP] = "stop",
                [LLM_MAX_TOKENS] = "max_tokens",
                [LLM_TOOLS] = "tool_calls",
                [LLM_FILTERED] = "content_filtered",
        };

        return names[e];
}

/* ---- what the dialects call ---- */

int llm_fault(struct llm_stream *s, const char *code, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        err_setv(&s->trouble, E_PROTO, fmt, ap);
        va_end(ap);
        s->code = code;
        return -E_PROTO;
}

int llm_text(struct llm_stream *s, const char *p, size_t n)
{
        size_t room = LLM_TEXT_MAX - s->text.len;
        size_t take = n < room ? n : room;

        if (!n)
                return 0;
        s->started = true;
        if (s->on_text)
                s->on_text(s->arg, p, n);
        if (take < n) {
                while (take && ((unsigned char)p[take] & 0xc0) == 0x80)
                        take--;
                if (s->text_cut)
                        take = 0;
                s->text_cut = true;
        }
        return take ? buf_put(&s->text, p, take) : 0;
}

int llm_thought(struct llm_stream *s, const char *p, size_t n)
{
        if (!n)
                return 0;
        s->started = true;
        if (s->on_thought)
                s->on_thought(s->arg, p, n);
        return 0;
}

struct llm_call *llm_call_at(struct llm_stream *s, size_t index)
{
        struct llm_call *c;

        if (index < s->n_calls)
                return &s->calls[index];
        if (index > s->n_calls || index >= LLM_CALLS_MAX)
                return NULL;
        c = &s->calls[s->n_calls++];
        buf_init(&c->id, 1024);
        buf_init(&c->name, 1024);
        buf_init(&c->arguments, LLM_ARGS_MAX + 1);
        s->started = true;
        return c;
}

int llm_call_arguments(struct llm_stream *s, struct llm_call *c, const char *p, size_t n)
{
        if (s->args_bytes + n > LLM_ARGS_MAX)
                return llm_fault(s, "message_too_large",
                                 "the arguments of the tool calls are over 256 KiB; ask for less at once");
        s->args_bytes += n;
        return buf_put(&c->arguments, p, n);
}

void llm_model(struct llm_stream *s, const char *name)
{
        if (*name)
                snprintf(s->model, sizeof s->model, "%.*s", (int)sizeof s->model - 1, name);
        if (!str_is_utf8(s->model, strlen(s->model)))
                s->model[0] = '\0';
}

/* ---- errors that are told ---- */

static const char *error_message(const cJSON *v)
{
        const cJSON *error = member(v, "error");
        const char *m = cJSON_IsString(error) ? error->valuestring : member_text(error, "message");

        if (!*m)
                m = member_text(v, "message");
        return *m ? m : member_text(v, "detail");
}

static void clean(const char *p, size_t n, char out[304])
{
        char *text;
        size_t k;

        if (n > 300)
                for (n = 300; n && ((unsigned char)p[n] & 0xc0) == 0x80;)
                        n--;
        text = str_utf8_lossy(p, n);
        snprintf(out, 304, "%.300s", text ? text : "");
        mem_free(text);
        for (k = strlen(out); k && !str_is_utf8(out, k);)
                out[--k] = '\0';
        for (char *c = out; *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        *c = ' ';
}

void llm_error_text(const char *body, size_t n, char out[304])
{
        cJSON *v = NULL;
        const char *m = "";

        if (json_parse(body, n, &v, NULL) == 0)
                m = error_message(cJSON_IsArray(v) ? cJSON_GetArrayItem(v, 0) : v);
        if (*m)
                clean(m, strlen(m), out);
        else
                clean(body, n, out);
        cJSON_Delete(v);
}

/* OpenAI: error.code; Z.AI: 1211; the others say it in the status. */
static bool names_unknown_model(const char *body, size_t n)
{
        cJSON *v = NULL;
        const cJSON *error, *code;
        bool yes = false;

        if (json_parse(body, n, &v, NULL) == 0) {
                error = member(v, "error");
                code = member(error, "code");
                yes = cJSON_IsString(code) ? strcmp(code->valuestring, "model_not_found") == 0 ||
                                                     strcmp(code->valuestring, "1211") == 0
                                           : cJSON_IsNumber(code) && code->valuedouble == 1211;
        }
        cJSON_Delete(v);
        return yes;
}

/* OpenAI says it with 429, as if it passed by itself. */
static bool names_spent_quota(const char *body, size_t n)
{
        cJSON *v = NULL;
        bool yes = false;

        if (json_parse(body, n, &v, NULL) == 0)
                yes = strcmp(member_text(member(v, "error"), "code"), "insufficient_quota") == 0 ||
                      strcmp(member_text(member(v, "error"), "type"), "insufficient_quota") == 0;
        cJSON_Delete(v);
        return yes;
}

const char *llm_status_code(long status, const char *body, size_t n)
{
        switch (status) {
        case 401:
        case 403:
                return "auth_failed";
        case 402:
                return "quota_exceeded";
        case 429:
                return names_spent_quota(body, n) ? "quota_exceeded" : "rate_limited";
        case 503:
        case 529:
                return "overloaded";
        case 404:
                return n && memmem(body, n, "model", 5) ? "unknown_model" : "bad_request";
        case 408:
                return "server_error";
        default:
                break;
        }
        if (status >= 400 && status < 500)
                return names_unknown_model(body, n) ? "unknown_model" : "bad_request";
        if (status >= 500)
                return "server_error";
        return "bad_answer";
}

bool llm_status_retryable(long status)
{
        return status == 429 || status == 500 || status == 502 || status == 503 || status == 504 ||
               status == 529;
}

int llm_told_error(struct llm_stream *s, const cJSON *error)
{
        static const struct {
                const char *said, *code;
        } codes[] = {
                {"overloaded_error", "overloaded"},
                {"rate_limit_error", "rate_limited"},
                {"rate_limit_exceeded", "rate_limited"},
                {"authentication_error", "auth_failed"},
                {"permission_error", "auth_failed"},
                {"invalid_request_error", "bad_request"},
                {"not_found_error", "unknown_model"},
                {"RESOURCE_EXHAUSTED", "rate_limited"},
                {"UNAVAILABLE", "overloaded"},
                {"UNAUTHENTICATED", "auth_failed"},
                {"PERMISSION_DENIED", "auth_failed"},
                {"INVALID_ARGUMENT", "bad_request"},
                {"insufficient_quota", "quota_exceeded"},
                {"billing_error", "quota_exceeded"},
        };
        const char *type = member_text(error, "type"), *status = member_text(error, "status");
        const char *message = cJSON_IsString(error) ? error->valuestring : member_text(error, "message");
        const cJSON *number = member(error, "code");
        const char *code = "server_error";
        char text[304];

        if (cJSON_IsNumber(number) && number->valuedouble >= 400 && number->valuedouble < 600)
                code = llm_status_code((long)number->valuedouble, "", 0);
        for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
                if (strcmp(codes[i].said, type) == 0 || strcmp(codes[i].said, status) == 0 ||
                    strcmp(codes[i].said, member_text(error, "code")) == 0)
                        code = codes[i].code;
        clean(message, strlen(message), text);
        return llm_fault(s, code, "the endpoint told of an error while it answered: %s",
                         *text ? text : "no reason given");
}

/* ---- the stream ---- */

void llm_stream_init(struct llm_stream *s, enum model_kind k)
{
        memset(s, 0, sizeof *s);
        s->wire = llm_wire(k);
        s->usage = event_usage_unknown;
        s->block = -1;
        sse_init(&s->sse, LLM_MESSAGE_MAX);
        buf_init(&s->line, LLM_MESSAGE_MAX + 1);
        buf_init(&s->text, LLM_TEXT_MAX + 1);
        buf_init(&s->head, HEAD_MAX);
}

void llm_stream_fini(struct llm_stream *s)
{
        for (size_t i = 0; i < s->n_calls; i++) {
                buf_fini(&s->calls[i].id);
                buf_fini(&s->calls[i].name);
                buf_fini(&s->calls[i].arguments);
        }
        s->n_calls = 0;
        buf_fini(&s->text);
        buf_fini(&s->line);
        buf_fini(&s->head);
        sse_fini(&s->sse);
}

/* A model's pieces may end within a character, and servers send them so: that part of it is lost, not all. */
static int parse(const char *p, size_t n, cJSON **out, struct err *why)
{
        int rc = json_parse(p, n, out, why);
        char *text = rc && rc != -E_NOMEM ? str_utf8_lossy(p, n) : NULL;

        if (text) {
                json_mend(text, strlen(text));
                if (json_parse(text, strlen(text), out, NULL) == 0)
                        rc = 0;
        }
        mem_free(text);
        return rc;
}

static int on_document(struct llm_stream *s, const char *p, size_t n)
{
        struct err why = {0};
        cJSON *v = NULL;
        int rc;

        if (s->over)
                return 0; /* whatever follows the end is not the answer */
        s->spoke = true;
        rc = parse(p, n, &v, &why);
        if (rc == -E_NOMEM)
                return rc;
        if (rc || !cJSON_IsObject(v)) {
                cJSON_Delete(v);
                return llm_fault(s, "bad_answer", "a message of the answer is no JSON object: %s",
                                 rc ? why.msg : "it is something else");
        }
        rc = s->wire->message(s, v);
        cJSON_Delete(v);
        return rc;
}

static int on_sse(void *arg, const struct sse_event *e)
{
        struct llm_stream *s = arg;

        if (e->n == 6 && memcmp(e->data, "[DONE]", 6) == 0) {
                if (s->end == LLM_NONE && !s->started && !s->over)
                        return llm_fault(s, "bad_answer", "the answer ended before anything was said");
                if (s->end == LLM_NONE)
                        s->end = LLM_STOP;
                s->over = true;
                return 0;
        }
        return e->n ? on_document(s, e->data, e->n) : 0;
}

static int feed_lines(struct llm_stream *s, const char *p, size_t n)
{
        while (n) {
                const char *nl = memchr(p, '\n', n);
                size_t k = nl ? (size_t)(nl - p) : n;
                int rc;

                if (s->line.len + k > LLM_MESSAGE_MAX)
                        return -E_TOOBIG;
                rc = buf_put(&s->line, p, k);
                if (rc)
                        return rc;
                if (!nl)
                        return 0;
                p += k + 1;
                n -= k + 1;
                while (s->line.len && (s->line.data[s->line.len - 1] == '\r'))
                        s->line.len--;
                rc = s->line.len ? on_document(s, (char *)s->line.data, s->line.len) : 0;
                buf_reset(&s->line);
                if (rc)
                        return rc;
        }
        return 0;
}

static int fill_reason(struct llm_stream *s, int rc)
{
        if (!rc || s->code)
                return rc;
        if (rc == -E_TOOBIG)
                llm_fault(s, "message_too_large", "one message of the answer is over %zu MiB",
                          LLM_MESSAGE_MAX >> 20);
        else
                llm_fault(s, "out_of_memory", "the agent is out of memory");
        return rc;
}

int llm_stream_feed(struct llm_stream *s, const void *p, size_t n)
{
        size_t room = HEAD_MAX - s->head.len;

        if (!s->rc && !s->spoke)
                s->rc = fill_reason(s, buf_put(&s->head, p, n < room ? n : room));
        if (!s->rc)
                s->rc = fill_reason(s, s->wire->lines ? feed_lines(s, p, n)
                                                      : sse_feed(&s->sse, p, n, on_sse, s));
        return s->rc;
}

/* The last message needs no line break, and no blank line, behind it: if it is whole, it counts. */
static void end_last(struct llm_stream *s)
{
        cJSON *v = NULL;

        if (!s->wire->lines) {
                s->rc = fill_reason(s, sse_feed(&s->sse, "\n\n", 2, on_sse, s));
                if (s->rc && strcmp(s->code, "bad_answer") == 0)
                        s->rc = llm_fault(s, "half_message",
                                          "the connection ended in the middle of a message");
        } else if (json_parse((char *)s->line.data, s->line.len, &v, NULL) == 0) {
                cJSON_Delete(v);
                s->rc = fill_reason(s, on_document(s, (char *)s->line.data, s->line.len));
                buf_reset(&s->line);
        }
}

/* Does it look like events, if only like comments? */
static bool is_events(const char *p, size_t n)
{
        static const char *const begins[] = {":", "data:", "event:", "id:", "retry:", "\xef\xbb\xbf"};

        while (n && strchr("\r\n", *p)) {
                p++;
                n--;
        }
        for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
                if (n >= strlen(begins[i]) && memcmp(p, begins[i], strlen(begins[i])) == 0)
                        return true;
        return n == 0;
}

/* A page, a whole document, compressed bytes: whoever answers is not what the configuration says. */
static int no_stream(struct llm_stream *s)
{
        const char *p = (const char *)s->head.data;
        cJSON *v = NULL;
        const cJSON *error;
        char text[304];
        int rc;

        (void)json_parse(p, s->head.len, &v, NULL);
        error = member(cJSON_IsArray(v) ? cJSON_GetArrayItem(v, 0) : v, "error");
        if (error && !cJSON_IsNull(error)) {
                rc = llm_told_error(s, error);
        } else {
                clean(p, s->head.len < 100 ? s->head.len : 100, text);
                rc = llm_fault(
                        s, "bad_answer",
                        "it answered with no stream of events, but with: %s; are its base_url and kind "
                        "right?",
                        text);
        }
        cJSON_Delete(v);
        return rc;
}

int llm_stream_end(struct llm_stream *s, bool whole)
{
        bool partial;

        if (s->rc || s->over)
                return s->rc;
        if (whole && !s->wire->lines && !s->spoke && !is_events((char *)s->head.data, s->head.len))
                return s->rc = no_stream(s);
        if (whole && (s->wire->lines ? s->line.len > 0 : sse_is_partial(&s->sse)))
                end_last(s);
        if (s->rc || s->over)
                return s->rc;
        partial = s->wire->lines ? s->line.len > 0 : sse_is_partial(&s->sse);
        /* Some compatible servers leave out the last word, but have said how it ended. */
        if (whole && !partial && s->end != LLM_NONE) {
                s->over = true;
                return 0;
        }
        if (partial)
                s->rc = llm_fault(s, "half_message", "the connection ended in the middle of a message");
        else
                s->rc = llm_fault(s, "stream_ended",
                                  "the connection ended before the answer did; what came of it is not whole");
        return s->rc;
}

/* ---- an answer in JSON ---- */

int llm_json_answer(const char *text, size_t n, const cJSON *schema, cJSON **out, struct err *e)
{
        const char *end = text + n, *nl;
        struct err why = {0};
        cJSON *v = NULL;
        int rc;

        while (text < end && strchr(" \t\r\n", *text))
                text++;
        while (end > text && strchr(" \t\r\n", end[-1]))
                end--;
        if (end - text > 6 && memcmp(text, "```", 3) == 0 && memcmp(end - 3, "```", 3) == 0 &&
            (nl = memchr(text, '\n', (size_t)(end - text)))) {
                text = nl + 1;
                end = end - 3 > text ? end - 3 : text;
        }
        rc = json_parse(text, (size_t)(end - text), &v, &why);
        if (!rc && schema)
                rc = json_check(schema, v, &why);
        if (rc) {
                cJSON_Delete(v);
                return err_set(e, -rc, "the answer is not the JSON that was asked for: %s", why.msg);
        }
        *out = v;
        return 0;
}
