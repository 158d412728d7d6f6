/* The policy's section `questions:`: what becomes of what a tool asks before a
 * person is asked. First what the other sections forbid (commands, files), then
 * questions.deny, .ask and .allow, then the call's own mode. */
#include "agent/policy_in.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/policy_shell.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/yaml.h"

static const char *const list_names[QUESTION_LISTS] = {"deny", "ask", "allow"};
static const char *const actions[] = {"read",    "edit",  "delete", "move", "search",
                                      "execute", "think", "fetch",  "other"};
#define ACTIONS    (sizeof actions / sizeof *actions)
#define SUFFIX_MAX 1024 /* of an unclear text, looked at from each word on */

/* --- reading ----------------------------------------------------------- */

static const struct {
        const char *key;
        size_t offset;
} parts[] = {
        {"action", offsetof(struct question_rule, action)},
        {"tool", offsetof(struct question_rule, tool)},
        {"command", offsetof(struct question_rule, command)},
        {"paths", offsetof(struct question_rule, paths)},
};
#define PARTS (sizeof parts / sizeof *parts)

static struct rules *part_at(struct question_rule *r, size_t i)
{
        return (struct rules *)(void *)((char *)r + parts[i].offset);
}

void question_rules_fini(struct question_rules *qs)
{
        for (size_t i = 0; i < qs->n; i++) {
                for (size_t k = 0; k < PARTS; k++)
                        rules_fini(part_at(&qs->v[i], k));
                mem_free(qs->v[i].text);
        }
        mem_free(qs->v);
        *qs = (struct question_rules){0};
}

static int check_text(const char *list, size_t part, const struct doc *d, struct err *e)
{
        if (d->kind != DOC_STRING && d->kind != DOC_NUMBER)
                return err_at(e, E_INVAL, d->line, d->col, "questions.%s: %s: expected a text, got %s", list,
                              parts[part].key, doc_kind_name(d->kind));
        if (!*d->text)
                return err_at(e, E_INVAL, d->line, d->col, "questions.%s: %s: an empty text matches nothing",
                              list, parts[part].key);
        if (part != 0)
                return 0;
        for (size_t i = 0; i < ACTIONS; i++)
                if (strcmp(actions[i], d->text) == 0)
                        return 0;
        return err_at(e, E_INVAL, d->line, d->col,
                      "questions.%s: \"%s\" is no action; there are read, edit, delete, move, search, "
                      "execute, think, fetch and other",
                      list, d->text);
}

/* One text or a list of them. */
static int read_part(struct policy *p, const char *list, struct question_rule *r, size_t part,
                     const struct doc *d, struct err *e)
{
        bool many = d->kind == DOC_LIST;
        struct rules *to = part_at(r, part);
        int rc = 0;

        if (many && d->count == 0)
                return err_at(e, E_INVAL, d->line, d->col, "questions.%s: %s: an empty list matches nothing",
                              list, parts[part].key);
        if (many && d->count > POLICY_RULES_MAX)
                return err_at(e, E_TOOBIG, d->line, d->col, "questions.%s: %s: more than %d entries", list,
                              parts[part].key, POLICY_RULES_MAX);
        to->v = mem_calloc(many ? d->count : 1, sizeof *to->v);
        if (!to->v)
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *i = many ? d->child : d; i && !rc; i = many ? i->next : NULL) {
                struct rule *x = &to->v[to->n];

                rc = check_text(list, part, i, e);
                if (rc)
                        return rc;
                x->text = mem_strdup(i->text);
                if (!x->text)
                        return err_set(e, E_NOMEM, "out of memory");
                to->n++;
                if (strcmp(parts[part].key, "paths") == 0)
                        rc = policy_entry_path(p, x, i, e);
        }
        return rc;
}

/* "action edit, delete; paths /srv": for people, and for the digest. */
static int put_words(struct question_rule *r)
{
        struct buf b;
        int rc = 0;

        buf_init(&b, 0);
        for (size_t k = 0; k < PARTS; k++) {
                const struct rules *rs = part_at(r, k);

                if (rs->n && !rc)
                        rc = buf_printf(&b, "%s%s", b.len ? "; " : "", parts[k].key);
                for (size_t i = 0; i < rs->n && !rc; i++)
                        rc = buf_printf(&b, "%s%s", i ? ", " : " ", rs->v[i].text);
        }
        if (!rc)
                r->text = buf_steal_str(&b);
        buf_fini(&b);
        return r->text ? 0 : -E_NOMEM;
}

static int read_rule(struct policy *p, const char *list, struct question_rule *r, const struct doc *d,
                     struct err *e)
{
        const char *keys[PARTS];
        int rc;

        for (size_t k = 0; k < PARTS; k++)
                keys[k] = parts[k].key;
        if (d->kind != DOC_MAP || d->count == 0)
                return err_at(e, E_INVAL, d->line, d->col,
                              "questions.%s: expected a rule such as {action: edit, paths: [\"~/src\"]}",
                              list);
        for (const struct doc *m = d->child; m; m = m->next) {
                size_t k = 0;

                while (k < PARTS && strcmp(m->key, keys[k]) != 0)
                        k++;
                if (k == PARTS) {
                        const char *near = str_nearest(m->key, keys, PARTS);

                        return err_at(e, E_INVAL, m->key_line, m->key_col,
                                      "questions.%s: a rule has no key \"%s\"%s%s%s", list, m->key,
                                      near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
                }
                rc = read_part(p, list, r, k, m, e);
                if (rc)
                        return rc;
        }
        return put_words(r) ? err_set(e, E_NOMEM, "out of memory") : 0;
}

int policy_question_read(struct policy *p, const struct doc *d, bool lines, struct err *e)
{
        struct question_rules *to = NULL;
        int rc = 0;

        for (size_t i = 0; i < QUESTION_LISTS; i++)
                if (strcmp(d->key, list_names[i]) == 0)
                        to = &p->questions[i];
        if (!to) {
                const char *near = str_nearest(d->key, list_names, QUESTION_LISTS);

                return err_at(e, E_INVAL, d->key_line, d->key_col, "unknown key \"questions.%s\"%s%s%s",
                              d->key, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        }
        if (d->kind != DOC_LIST)
                return err_at(e, E_INVAL, d->line, d->col,
                              "questions.%s: expected a list of rules such as [{action: read}], got %s",
                              d->key, doc_kind_name(d->kind));
        if (d->count > POLICY_RULES_MAX)
                return err_at(e, E_TOOBIG, d->line, d->col, "questions.%s: more than %d rules", d->key,
                              POLICY_RULES_MAX);
        question_rules_fini(to);
        to->v = mem_calloc(d->count ? d->count : 1, sizeof *to->v);
        if (!to->v)
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *i = d->child; i && !rc; i = i->next) {
                to->v[to->n].line = lines ? i->line : 0;
                rc = read_rule(p, d->key, &to->v[to->n++], i, e);
        }
        return rc;
}

int policy_question_sum(const struct policy *p, struct buf *b)
{
        int rc = 0;

        for (size_t i = 0; i < QUESTION_LISTS && !rc; i++) {
                rc = buf_printf(b, "%zu\n", p->questions[i].n);
                for (size_t k = 0; k < p->questions[i].n * PARTS && !rc; k++) {
                        const struct rules *rs = part_at(&p->questions[i].v[k / PARTS], k % PARTS);

                        rc = buf_printf(b, "%zu\n", rs->n);
                        for (size_t t = 0; t < rs->n && !rc; t++)
                                rc = buf_printf(b, "%zu:%s\n", strlen(rs->v[t].text), rs->v[t].text);
                }
        }
        return rc;
}

int policy_question_describe(const struct policy *p, struct buf *b)
{
        static const char *const labels[QUESTION_LISTS] = {
                "questions denied:", "questions asked:", "questions allowed:"};
        int rc = 0;

        for (size_t i = 0; i < QUESTION_LISTS && !rc; i++) {
                const struct question_rules *qs = &p->questions[i];

                rc = buf_printf(b, "%s%s", labels[i], qs->n ? "" : " (none)");
                for (size_t k = 0; k < qs->n && !rc; k++)
                        rc = buf_printf(b, "%s%s", k ? " | " : " ", qs->v[k].text);
                if (!rc)
                        rc = buf_putc(b, '\n');
        }
        return rc;
}

/* --- deciding ----------------------------------------------------------- */

/* A question as the rules see it. */
struct asked {
        const struct policy *p;
        const struct policy_question *q;
        struct shell_text shell;
        bool has_command, unreadable; /* unreadable: too long for the rules */
        char **real;                  /* q->paths, resolved */
        size_t n_real;
};

static bool any_glob(const struct rules *rs, const char *s)
{
        for (size_t i = 0; s && i < rs->n; i++)
                if (str_glob(rs->v[i].text, s))
                        return true;
        return false;
}

static bool tool_matches(const struct rules *rs, const struct policy_question *q)
{
        char full[512];

        if (!q->tool)
                return false;
        snprintf(full, sizeof full, "%s:%s", q->caller ? q->caller : "", q->tool);
        return any_glob(rs, q->tool) || any_glob(rs, full);
}

/* A pattern without a space is a program's name, else a whole command. */
static bool command_is(const char *pattern, const struct shell_command *c, bool base)
{
        char name[PATH_MAX];
        const char *slash;

        if (strcmp(pattern, "*") == 0 || str_glob(pattern, c->text))
                return true;
        if (c->name_len >= sizeof name)
                return false;
        memcpy(name, c->text, c->name_len);
        name[c->name_len] = '\0';
        if (!strchr(pattern, ' ') && str_glob(pattern, name))
                return true;
        slash = base ? strrchr(name, '/') : NULL;
        if (!slash)
                return false;
        return str_glob(pattern, c->text + (slash + 1 - name)) ||
               (!strchr(pattern, ' ') && str_glob(pattern, slash + 1));
}

/* Could it be this command, wherever in the text? For deny and ask. */
static bool command_may_be(const char *pattern, const struct asked *a)
{
        static const char cut[] = " \t\r\n;|&()`<>\"'${}=";
        const char *text = a->q->command;
        char tail[SUFFIX_MAX];

        if (str_glob(pattern, text))
                return true;
        for (size_t i = 0; i < a->shell.n; i++)
                if (command_is(pattern, &a->shell.v[i], true))
                        return true;
        if (!a->shell.unclear)
                return false;
        for (size_t i = 0; i < a->shell.n_words; i++) {
                struct shell_command c = {a->shell.words[i], strlen(a->shell.words[i])};

                if (command_is(pattern, &c, true))
                        return true;
        }
        for (size_t i = 0; text[i] && strchr(pattern, ' '); i++) {
                if (strchr(cut, text[i]) || (i > 0 && !strchr(cut, text[i - 1])))
                        continue;
                snprintf(tail, sizeof tail, "%s", text + i);
                if (str_glob(pattern, tail))
                        return true;
                tail[strcspn(tail, ";|&)`\n\"'")] = '\0';
                if (str_glob(pattern, tail))
                        return true;
        }
        return false;
}

static bool command_matches(const struct rules *rs, const struct asked *a, bool surely)
{
        if (!a->has_command)
                return false;
        if (a->unreadable)
                return !surely; /* what cannot be read is not let through */
        if (!surely) {
                for (size_t i = 0; i < rs->n; i++)
                        if (command_may_be(rs->v[i].text, a))
                                return true;
                return false;
        }
        for (size_t i = 0; i < a->shell.n; i++) {
                bool one = false;

                for (size_t k = 0; k < rs->n && !one; k++)
                        one = command_is(rs->v[k].text, &a->shell.v[i], false);
                if (!one)
                        return false;
        }
        return a->shell.n > 0 && !a->shell.unclear;
}

static bool paths_match(const struct rules *rs, const struct asked *a, bool surely)
{
        for (size_t i = 0; i < a->n_real; i++) {
                bool one = false;

                for (size_t k = 0; k < rs->n && !one; k++)
                        one = policy_rule_holds(&rs->v[k], a->real[i]);
                if (one != surely)
                        return one;
        }
        return surely && a->n_real > 0;
}

/* surely: every command and every path must match (allow); else one is enough (deny, ask). */
static bool rule_matches(const struct question_rule *r, const struct asked *a, bool surely)
{
        return (r->action.n == 0 || any_glob(&r->action, a->q->action)) &&
               (r->tool.n == 0 || tool_matches(&r->tool, a->q)) &&
               (r->command.n == 0 || command_matches(&r->command, a, surely)) &&
               (r->paths.n == 0 || paths_match(&r->paths, a, surely));
}

static void decide(struct policy_answer *out, enum policy_verdict v, const char *by, const char *reason)
{
        out->verdict = v;
        out->by = by;
        snprintf(out->reason, sizeof out->reason, "%s", reason);
}

/* --- what the other sections forbid ---------------------------------------- */

static int check_command(const struct asked *a, struct err *e)
{
        const struct policy *p = a->p;
        bool open = policy_commands_open(p), guarded = !open || p->commands_deny.n > 0;
        int rc = 0;

        if (a->unreadable && guarded)
                return err_set(e, E_DENIED,
                               "the command is too long to be held against the policy's commands");
        if (a->shell.unclear || a->shell.n > 1 || a->unreadable)
                rc = policy_shell(p, e);
        for (size_t i = 0; i < a->shell.n && guarded && !rc; i++) {
                struct shell_command *c = &a->shell.v[i];
                char saved = c->text[c->name_len];

                c->text[c->name_len] = '\0';
                if (c->name_len)
                        rc = policy_command(p, c->text, false, e);
                c->text[c->name_len] = saved;
        }
        if (!rc && a->shell.unclear && !open)
                return err_set(e, E_DENIED,
                               "the command cannot be read with certainty, and the policy's commands.allow "
                               "is not [\"*\"]");
        for (size_t i = 0; a->shell.unclear && p->commands_deny.n && i < a->shell.n_words && !rc; i++)
                if (a->shell.words[i][0])
                        rc = policy_command(p, a->shell.words[i], false, e);
        return rc;
}

static bool writes(const char *action)
{
        return strcmp(action, "edit") == 0 || strcmp(action, "delete") == 0 || strcmp(action, "move") == 0;
}

static bool below(const char *root, const char *path)
{
        size_t n = strlen(root);

        return strncmp(root, path, n) == 0 &&
               (path[n] == '\0' || path[n] == '/' || (n == 1 && root[0] == '/'));
}

/* The call's own folder lies in the agent's, which is closed to tools, and is open to the call. */
static bool is_own(const struct asked *a, const char *real)
{
        char *root = a->q->scratch ? realpath(a->q->scratch, NULL) : NULL;
        bool yes = root && below(root, real);

        free(root);
        return yes;
}

static int check_paths(struct asked *a, struct err *e)
{
        size_t n = 0;
        int rc;

        while (a->q->paths && a->q->paths[n])
                n++;
        if (n > POLICY_RULES_MAX)
                return err_set(e, E_DENIED, "it names more than %d files", POLICY_RULES_MAX);
        a->real = mem_calloc(n + 1, sizeof *a->real);
        if (!a->real)
                return err_set(e, E_NOMEM, "the agent has no memory left to look at the question");
        for (size_t i = 0; i < n; i++) {
                rc = policy_resolve_at(a->p, a->q->paths[i], a->q->cwd, &a->real[i], e);
                if (rc)
                        return rc;
                a->n_real++;
                rc = is_own(a, a->real[i])
                             ? 0
                             : policy_path_real(a->p, writes(a->q->action) ? POLICY_WRITE : POLICY_READ,
                                                a->real[i], e);
                if (rc)
                        return rc;
        }
        return 0;
}

static bool all_in_cwd(const struct asked *a)
{
        char *root = NULL;
        bool yes = a->q->cwd && a->n_real > 0 && policy_resolve(a->p, a->q->cwd, &root, NULL) == 0;

        for (size_t i = 0; i < a->n_real && yes; i++)
                yes = below(root, a->real[i]) && strcmp(root, a->real[i]) != 0;
        mem_free(root);
        return yes;
}

static void by_mode(const struct asked *a, struct policy_answer *out)
{
        const char *mode = a->q->mode ? a->q->mode : "ask";

        if (strcmp(mode, "deny") == 0)
                decide(out, POLICY_DENY, "mode", "the call's permission mode is deny");
        else if (a->q->form)
                decide(out, POLICY_ASK, "", "");
        else if (strcmp(mode, "allow") == 0)
                decide(out, POLICY_ALLOW, "mode", "the call's permission mode is allow");
        else if (strcmp(mode, "accept-edits") == 0 && writes(a->q->action) && all_in_cwd(a))
                decide(out, POLICY_ALLOW, "mode", "the call's permission mode is accept-edits");
        else
                decide(out, POLICY_ASK, "", "");
}

static void by_rules(const struct asked *a, struct policy_answer *out)
{
        static const enum policy_verdict verdicts[QUESTION_LISTS] = {POLICY_DENY, POLICY_ASK, POLICY_ALLOW};
        char where[512], reason[sizeof out->reason];

        for (size_t l = 0; l < QUESTION_LISTS; l++) {
                for (size_t i = 0; i < a->p->questions[l].n; i++) {
                        const struct question_rule *r = &a->p->questions[l].v[i];
                        struct rule at = {.line = r->line};

                        if (!rule_matches(r, a, verdicts[l] == POLICY_ALLOW) ||
                            (verdicts[l] == POLICY_ALLOW && a->q->form))
                                continue;
                        snprintf(reason, sizeof reason, "questions.%s \"%.200s\" in %s", list_names[l],
                                 r->text, policy_where(a->p, &at, where, sizeof where));
                        decide(out, verdicts[l], "policy", reason);
                        return;
                }
        }
        by_mode(a, out);
}

void policy_question(const struct policy *p, const struct policy_question *q, struct policy_answer *out)
{
        struct asked a = {.p = p, .q = q, .has_command = q->command && *q->command};
        struct err e = {0};
        int rc = 0;

        if (a.has_command)
                rc = shell_read(q->command, &a.shell);
        if (rc == -E_TOOBIG) {
                a.unreadable = true;
                rc = 0;
        } else if (rc) {
                err_set(&e, -rc, "the agent has no memory left to look at the question");
        }
        if (!rc && a.has_command)
                rc = check_command(&a, &e);
        if (!rc)
                rc = check_paths(&a, &e);
        if (rc)
                decide(out, POLICY_DENY, "policy", e.msg);
        else
                by_rules(&a, out);
        for (size_t i = 0; i < a.n_real; i++)
                mem_free(a.real[i]);
        mem_free(a.real);
        shell_fini(&a.shell);
}
