/* checkpoints, checkpoint show, checkpoint delegate, approve, reject: questions to people. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/input.h"
#include "cli/print.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

static int no_memory(struct err *e)
{
        return err_set(e, E_NOMEM, "no memory");
}

/* path: taken. */
static int request(struct cli *c, const char *method, char *path, const cJSON *body, cJSON **out,
                   struct err *e)
{
        int rc = path ? client_json(c->client, method, path, body, out, e) : no_memory(e);

        mem_free(path);
        if (!rc && !*out)
                rc = err_set(e, E_PROTO, "%s gave an empty answer; is --hub right?", client_hub(c->client));
        return rc;
}

/* "12m" until it counts as no; "over" when it is. */
static void left_text(const cJSON *cp, char out[32])
{
        int64_t until = 0, left;

        if (strcmp(jstr(cp, "state"), "open") != 0 || clock_parse(jstr(cp, "expires_at"), &until)) {
                snprintf(out, 32, "-");
                return;
        }
        left = (until - clock_now_us(&clock_system)) / 1000000;
        if (left <= 0)
                snprintf(out, 32, "over");
        else
                ms_text(left * 1000, out);
}

static enum paint tint(const char *state)
{
        if (strcmp(state, "open") == 0)
                return PAINT_YELLOW;
        return strcmp(state, "approved") == 0 ? PAINT_GREEN : PAINT_NONE;
}

static void draw_list(const cJSON *all)
{
        static const char *const names[] = {"CHECKPOINT", "STATE", "RUN",    "STEP",
                                            "AGENT",      "LEFT",  "ACTION", "QUESTION"};
        struct table t;
        char text[32];

        table_init(&t, 8, names);
        for (const cJSON *p = all->child; p; p = p->next) {
                table_cell(&t, jstr(p, "id"), PAINT_NONE);
                table_cell(&t, jstr(p, "state"), tint(jstr(p, "state")));
                table_cell(&t, jstr(p, "run"), PAINT_NONE);
                table_cell(&t, jstr(p, "step"), PAINT_NONE);
                table_cell(&t, jstr(p, "agent"), PAINT_NONE);
                left_text(p, text);
                table_cell(&t, text, PAINT_NONE);
                table_cell(&t, jstr(p, "action"), PAINT_NONE);
                table_cell(&t, jstr(p, "title"), PAINT_NONE);
        }
        table_print(&t);
}

int cmd_checkpoints(struct cli *c, struct err *e)
{
        char *run = c->o.run ? client_escape(c->o.run) : NULL;
        char *path = str_printf("/api/v1/checkpoints?state=%s%s%s", c->o.all ? "all" : "open",
                                run ? "&run=" : "", run ? run : "");
        cJSON *all = NULL;
        int rc =
                path && (run || !c->o.run) ? client_list(c->client, path, c->o.limit, &all, e) : no_memory(e);

        if (!rc && !print_doc(c, all)) {
                draw_list(all);
                if (!all->child && !c->o.all)
                        note("nothing waits for people; photon checkpoints --all shows what did");
        }
        cJSON_Delete(all);
        mem_free(path);
        mem_free(run);
        return rc;
}

/* ---- one ---- */

static void put_field(const char *name, const char *value)
{
        if (!*value)
                return;
        printf("%-10s ", name);
        put_plain(stdout, value);
        putchar('\n');
}

static void put_json_block(const char *name, const cJSON *v)
{
        char *text = v && !cJSON_IsNull(v) ? cJSON_Print(v) : NULL;

        if (text) {
                printf("%s\n", name);
                for (char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
                        char *piece = mem_strndup(line, strcspn(line, "\n"));

                        fputs("  ", stdout);
                        put_plain(stdout, piece ? piece : "");
                        putchar('\n');
                        mem_free(piece);
                }
        }
        cJSON_free(text);
}

/* The arguments as they were hashed, on lines of their own for the eye. */
static void put_arguments(const cJSON *cp)
{
        const char *text = jstr(cp, "arguments");
        cJSON *v = NULL;

        if (*text && json_parse(text, strlen(text), &v, NULL) == 0)
                put_json_block("arguments", v);
        cJSON_Delete(v);
}

/* "a, b" of a list of texts; nothing for none. */
static void put_names(const char *name, const cJSON *list)
{
        char text[600] = "";
        size_t n = 0;

        for (const cJSON *it = list ? list->child : NULL; it && n < sizeof text - 1; it = it->next)
                n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? ", " : "",
                                      cJSON_IsString(it) ? it->valuestring : "");
        put_field(name, text);
}

/* Of what the hub asks: whom, how many, who has answered. */
static void put_rules(const cJSON *cp)
{
        const cJSON *rules = jget(cp, "rules"), *esc = jget(rules, "escalate"), *it;
        char text[400];

        if (!rules || cJSON_IsNull(rules))
                return;
        put_names("roles", jget(rules, "roles"));
        put_names("people", jget(rules, "users"));
        snprintf(text, sizeof text, "%d of %d", (int)cJSON_GetNumberValue(jget(cp, "approved")),
                 (int)cJSON_GetNumberValue(jget(cp, "quorum")));
        put_field("approved", text);
        cJSON_ArrayForEach(it, jget(cp, "answers"))
        {
                snprintf(text, sizeof text, "%.100s %.20s%s%.200s", jstr(it, "by"), jstr(it, "decision"),
                         *jstr(it, "reason") ? ": " : "", jstr(it, "reason"));
                put_field("", text);
        }
        cJSON_ArrayForEach(it, jget(cp, "delegations"))
        {
                snprintf(text, sizeof text, "%.100s to %.100s", jstr(it, "from"), jstr(it, "to"));
                put_field("handed on", text);
        }
        if (esc) {
                put_field("escalates", *jstr(cp, "escalated_at") ? "it did" : jstr(cp, "escalates_at"));
                put_names("to roles", jget(esc, "roles"));
                put_names("to people", jget(esc, "users"));
        }
        snprintf(text, sizeof text, "when nobody answers: %.20s", jstr(cp, "then"));
        put_field("then", text);
}

/* --answer for each field, so that the line can be filled in. */
static void put_how(const cJSON *cp)
{
        const cJSON *it, *props = jget(jget(cp, "schema"), "properties");
        const char *id = jstr(cp, "id");

        printf("answer it: photon approve %s", id);
        cJSON_ArrayForEach(it, props)
        {
                bool secret = jbool(it, "writeOnly");

                printf(secret ? " --answer-file " : " --answer ");
                put_plain(stdout, it->string);
                printf(secret ? "=FILE" : "=VALUE");
        }
        printf("   or: photon reject %s --reason TEXT\n", id);
}

static void draw(const cJSON *cp)
{
        char left[32], who[300];
        const char *id = jstr(cp, "id"), *state = jstr(cp, "state");

        printf("%s", paint(PAINT_BOLD));
        put_plain(stdout, jstr(cp, "title"));
        printf("%s\n", unpaint());
        put_field("checkpoint", id);
        printf("%-10s %s%s%s\n", "state", paint(tint(state)), state, unpaint());
        left_text(cp, left);
        if (strcmp(state, "open") == 0)
                put_field("left", left);
        snprintf(who, sizeof who, "%s, step %s of run %s (%s)", jstr(cp, "step_tool"), jstr(cp, "step"),
                 jstr(cp, "run"), jstr(cp, "workflow"));
        put_field("asks", who);
        put_field("agent", jstr(cp, "agent"));
        put_field("started by", jstr(cp, "asked_by"));
        put_rules(cp);
        put_field("action", jstr(cp, "action"));
        put_field("tool", jstr(cp, "tool"));
        put_arguments(cp);
        put_field("sha256", jstr(cp, "sha256"));
        put_json_block("wanted", jget(cp, "schema"));
        put_json_block("content", jget(cp, "content"));
        if (*jstr(cp, "decided_by")) {
                put_field("decided by", jstr(cp, "decided_by"));
                put_field("reason", jstr(cp, "reason"));
                if (!jget(cp, "rules") || cJSON_IsNull(jget(cp, "rules")))
                        put_field("heard", *jstr(cp, "delivered_at") ? "yes" : "not yet");
        }
        if (strcmp(state, "open") == 0)
                put_how(cp);
}

/* What is shown is what the digest is over: the hub is not asked to be believed. */
static int check_digest(const cJSON *cp, struct err *e)
{
        const char *text = jstr(cp, "arguments");
        uint8_t sum[SHA256_LEN];
        char hex[2 * SHA256_LEN + 1];

        secret_sha256(text, strlen(text), sum);
        str_hex(sum, sizeof sum, hex);
        if (strcmp(hex, jstr(cp, "sha256")) == 0)
                return 0;
        return err_set(e, E_CORRUPT,
                       "the arguments of checkpoint %s do not have the SHA-256 that the hub states",
                       jstr(cp, "id"));
}

static int fetch(struct cli *c, const char *id, cJSON **out, struct err *e)
{
        int rc = request(c, "GET", client_path("/checkpoints/%s", id), NULL, out, e);

        return rc ? rc : check_digest(*out, e);
}

int cmd_checkpoint_show(struct cli *c, struct err *e)
{
        cJSON *cp = NULL;
        int rc = fetch(c, c->args[0], &cp, e);

        if (!rc && !print_doc(c, cp))
                draw(cp);
        cJSON_Delete(cp);
        return rc;
}

/* ---- answers ---- */

static bool is_type(const cJSON *schema, const char *key, const char *type)
{
        return strcmp(jstr(jget(jget(schema, "properties"), key), "type"), type) == 0;
}

/* NAME=VALUE, as the type that the schema states for it. */
static int typed_pairs(struct cli *c, const struct conf_list *pairs, const char *flag, const cJSON *schema,
                       cJSON *into, struct err *e)
{
        cJSON *texts = NULL;
        int rc = input_pairs(pairs, flag, &texts, e);

        if (rc == -E_INVAL)
                rc = cli_usage(c, "%s", e->msg);
        for (const cJSON *t = texts ? texts->child : NULL; t && !rc; t = t->next) {
                bool text = !is_type(schema, t->string, "number") && !is_type(schema, t->string, "integer") &&
                            !is_type(schema, t->string, "boolean") && !is_type(schema, t->string, "object") &&
                            !is_type(schema, t->string, "array");
                cJSON *v = NULL;

                if (jbool(jget(jget(schema, "properties"), t->string), "writeOnly"))
                        rc = cli_usage(
                                c,
                                "%.60s is a secret: give it with --answer-file %.60s=FILE, since others "
                                "can read a command line",
                                t->string, t->string);
                else if (text)
                        v = cJSON_CreateString(t->valuestring);
                else if (json_parse(t->valuestring, strlen(t->valuestring), &v, NULL))
                        rc = err_set(e, E_INVAL, "%s %.60s: \"%.60s\" is not what is wanted: %s", flag,
                                     t->string, t->valuestring,
                                     jstr(jget(jget(schema, "properties"), t->string), "type"));
                if (!rc && (!v || !cJSON_AddItemToObject(into, t->string, v))) {
                        cJSON_Delete(v);
                        rc = no_memory(e);
                }
        }
        cJSON_Delete(texts);
        return rc;
}

#define ANSWER_FILE_MAX ((size_t)64 << 10)

/* A file's text, without the newline that editors put at its end. */
static int file_answers(struct cli *c, cJSON *into, struct err *e)
{
        cJSON *files = NULL;
        int rc = input_pairs(&c->o.answer_files, "--answer-file", &files, e);

        if (rc == -E_INVAL)
                rc = cli_usage(c, "%s", e->msg);
        for (const cJSON *f = files ? files->child : NULL; f && !rc; f = f->next) {
                char *text = NULL;
                size_t n = 0;

                rc = input_read(f->valuestring, ANSWER_FILE_MAX, &text, &n, e);
                if (!rc && n && text[n - 1] == '\n')
                        text[--n] = '\0';
                if (!rc && strlen(text) != n)
                        rc = err_set(e, E_INVAL, "--answer-file %.60s: the file is no text", f->string);
                if (!rc && !cJSON_AddStringToObject(into, f->string, text))
                        rc = no_memory(e);
                if (text)
                        mem_wipe(text, n);
                mem_free(text);
        }
        cJSON_Delete(files);
        return rc;
}

static int content_of(struct cli *c, const cJSON *cp, cJSON **out, struct err *e)
{
        bool pairs = c->o.inputs.n || c->o.answers.n || c->o.answer_files.n;
        cJSON *o;
        int rc;

        if (c->o.content && pairs)
                return cli_usage(c, "give --content or single answers, not both");
        if (c->o.content)
                return input_json(c->o.content, "--content", out, e);
        if (!pairs)
                return 0;
        o = cJSON_CreateObject();
        if (!o)
                return no_memory(e);
        rc = typed_pairs(c, &c->o.answers, "--answer", jget(cp, "schema"), o, e);
        if (!rc)
                rc = typed_pairs(c, &c->o.inputs, "--input", jget(cp, "schema"), o, e);
        if (!rc)
                rc = file_answers(c, o, e);
        if (rc)
                cJSON_Delete(o);
        else
                *out = o;
        return rc;
}

/* Bound to what is known here of it: the digest given with --sha256, or the one of what was just fetched. */
static int answer(struct cli *c, bool approve, struct err *e)
{
        const char *id = c->args[0];
        cJSON *cp = NULL, *body = cJSON_CreateObject(), *content = NULL, *done = NULL;
        int rc = body ? fetch(c, id, &cp, e) : no_memory(e);

        if (!rc && approve)
                rc = content_of(c, cp, &content, e);
        if (!rc && content && !cJSON_AddItemToObject(body, "content", content)) {
                cJSON_Delete(content);
                rc = no_memory(e);
        }
        if (!rc &&
            (!cJSON_AddStringToObject(body, "sha256", c->o.sha256 ? c->o.sha256 : jstr(cp, "sha256")) ||
             (c->o.name && !cJSON_AddStringToObject(body, "reason", c->o.name)) ||
             (c->o.always && !cJSON_AddTrueToObject(body, "always"))))
                rc = no_memory(e);
        if (!rc)
                rc = request(c, "POST",
                             client_path(approve ? "/checkpoints/%s/approve" : "/checkpoints/%s/reject", id),
                             body, &done, e);
        if (!rc && !print_doc(c, done)) {
                char *title = plain(jstr(done, "title"));

                if (strcmp(jstr(done, "state"), "open") == 0)
                        note("noted; %d of %d have approved: %s",
                             (int)cJSON_GetNumberValue(jget(done, "approved")),
                             (int)cJSON_GetNumberValue(jget(done, "quorum")), title ? title : "");
                else
                        note("%s: %s%s", jstr(done, "state"), title ? title : "",
                             jbool(done, "always") ? " (and the same action for the rest of this call)" : "");
                mem_free(title);
        }
        cJSON_Delete(cp);
        cJSON_Delete(body);
        cJSON_Delete(done);
        return rc;
}

int cmd_approve(struct cli *c, struct err *e)
{
        return answer(c, true, e);
}

int cmd_reject(struct cli *c, struct err *e)
{
        return answer(c, false, e);
}

int cmd_checkpoint_delegate(struct cli *c, struct err *e)
{
        cJSON *body = cJSON_CreateObject(), *done = NULL;
        int rc = body && cJSON_AddStringToObject(body, "to", c->args[1]) ? 0 : no_memory(e);

        if (!rc)
                rc = request(c, "POST", client_path("/checkpoints/%s/delegate", c->args[0]), body, &done, e);
        if (!rc && !print_doc(c, done))
                note("handed on to %s; you cannot answer it any more", c->args[1]);
        cJSON_Delete(body);
        cJSON_Delete(done);
        return rc;
}
