#include "hub/notify/targets.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/err.h"
#include "common/file.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/yaml.h"
#include "hub/model/approval.h"

#define CONFIG_MAX ((size_t)1 << 20)
#define SECRET_MAX ((size_t)4096)
#define NAME_MAX_  64u
#define LIST_MAX   100u
#define URL_MAX    2000u

static int fail(const struct doc *d, struct err *e, const char *what, const char *name)
{
        return err_at(e, E_INVAL, d->line, d->col, "notices: %s%s%.100s", what, name ? ": " : "",
                      name ? name : "");
}

static int nomem(struct err *e)
{
        return err_set(e, E_NOMEM, "no memory for the notices' targets");
}

static void wipe(char *s)
{
        if (s)
                mem_wipe(s, strlen(s));
        mem_free(s);
}

static void list_free(char **v)
{
        for (size_t i = 0; v && v[i]; i++)
                mem_free(v[i]);
        mem_free(v);
}

void targets_fini(struct targets *t)
{
        for (size_t i = 0; i < t->n; i++) {
                struct target *g = &t->v[i];

                mem_free(g->name);
                wipe(g->url);
                mem_free(g->ca_file);
                mem_wipe(g->keys, sizeof g->keys);
                mem_free(g->user);
                wipe(g->password);
                mem_free(g->from);
                list_free(g->to);
                list_free(g->kinds);
                list_free(g->projects);
                list_free(g->roles);
                list_free(g->users);
                list_free(g->events);
        }
        mem_free(t->v);
        mem_free(t->url);
        *t = (struct targets){0};
}

const struct target *targets_find(const struct targets *t, const char *name)
{
        for (size_t i = 0; i < t->n; i++)
                if (strcmp(t->v[i].name, name) == 0)
                        return &t->v[i];
        return NULL;
}

/* ---- values ---- */

static bool plain(const char *s)
{
        for (; *s; s++)
                if ((unsigned char)*s <= ' ' || *s == 0x7f)
                        return false;
        return true;
}

static int text(const struct doc *d, const char *key, char **out, struct err *e)
{
        if (!d)
                return 0;
        if ((d->kind != DOC_STRING && d->kind != DOC_NUMBER) || !d->text[0] || strlen(d->text) > URL_MAX ||
            !plain(d->text))
                return fail(d, e, "expected a text without spaces", key);
        *out = mem_strdup(d->text);
        return *out ? 0 : nomem(e);
}

static int names(const struct doc *d, const char *key, char ***out, struct err *e)
{
        size_t n = 0;
        int rc = 0;

        if (!d)
                return 0;
        if (d->kind != DOC_LIST || !d->count || d->count > LIST_MAX)
                return fail(d, e, "expected a list of 1 to 100 names", key);
        *out = mem_calloc(d->count + 1, sizeof **out);
        if (!*out)
                return nomem(e);
        for (const struct doc *c = d->child; c && !rc; c = c->next)
                rc = text(c, key, &(*out)[n++], e);
        return rc;
}

/* What is in a file that nobody but the hub's user (and root) reads. */
static int secret_file(const struct doc *d, const char *key, char **out, struct err *e)
{
        struct err why = {0};
        struct stat sb;
        size_t n = 0;
        int rc;

        if (d->kind != DOC_STRING || stat(d->text, &sb))
                return fail(d, e, d->kind == DOC_STRING ? strerror(errno) : "expected the name of a file",
                            d->text ? d->text : key);
        if (sb.st_mode & (S_IRWXO | S_IWGRP))
                return fail(d, e, "others may read or write it; chmod 640 or stricter", d->text);
        rc = file_read(d->text, SECRET_MAX, out, &n, &why);
        if (rc)
                return fail(d, e, why.msg, NULL);
        while (n && strchr(" \r\n\t", (*out)[n - 1]))
                (*out)[--n] = '\0';
        if (!n || strlen(*out) != n) {
                wipe(*out);
                *out = NULL;
                return fail(d, e, "it is empty, or no text", d->text);
        }
        return 0;
}

/* ---- a webhook's keys: a line each, "whsec_BASE64" or the bytes themselves ---- */

static int take_key(const struct doc *d, const char *line, size_t n, struct target *t, struct err *e)
{
        struct target_key *k = &t->keys[t->n_keys];
        uint8_t *raw = NULL;
        size_t len = n;
        int rc = 0;

        if (t->n_keys == NOTICE_KEYS_MAX)
                return fail(d, e, "it has more than 4 lines", d->text);
        if (n > 6 && memcmp(line, "whsec_", 6) == 0 && str_unb64(line + 6, n - 6, &raw, &len))
                return fail(d, e, "what follows whsec_ is no base64", d->text);
        if (len < NOTICE_KEY_MIN || len > NOTICE_KEY_MAX)
                rc = fail(d, e, "a key has 24 to 256 bytes: openssl rand -base64 32", d->text);
        if (!rc) {
                memcpy(k->bytes, raw ? (const char *)raw : line, len);
                k->n = len;
                t->n_keys++;
        }
        if (raw)
                mem_wipe(raw, len);
        mem_free(raw);
        return rc;
}

static int take_keys(const struct doc *d, struct target *t, struct err *e)
{
        char *all = NULL;
        int rc = secret_file(d, "secret-file", &all, e);

        for (const char *p = all; p && *p && !rc;) {
                size_t n = strcspn(p, "\n"), len = n;

                while (len && strchr(" \r\t", p[len - 1]))
                        len--;
                if (len)
                        rc = take_key(d, p, len, t, e);
                p += n + (p[n] == '\n');
        }
        wipe(all);
        return rc;
}

/* ---- one target ---- */

enum {
        T_TYPE,
        T_URL,
        T_URL_FILE,
        T_SECRET,
        T_CA,
        T_USER,
        T_PASSWORD,
        T_FROM,
        T_TO,
        T_STARTTLS,
        T_KINDS,
        T_PROJECTS,
        T_ROLES,
        T_USERS,
        T_EVENTS,
        T_SLOTS
};
static const char *const target_keys[T_SLOTS] = {
        "type", "url",      "url-file", "secret-file", "ca-file", "user",  "password-file", "from",
        "to",   "starttls", "kinds",    "projects",    "roles",   "users", "events"};

static int slots(const struct doc *map, const char *const *keys, size_t n, const struct doc **out,
                 struct err *e)
{
        for (const struct doc *m = map->child; m; m = m->next) {
                const char *near = str_nearest(m->key, keys, n);
                size_t i = 0;

                while (i < n && strcmp(keys[i], m->key) != 0)
                        i++;
                if (i == n)
                        return err_at(e, E_INVAL, m->key_line, m->key_col,
                                      "notices: unknown key \"%.60s\"%s%s%s", m->key,
                                      near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
                out[i] = m;
        }
        return 0;
}

/* http only to this machine: what is asked, and by whom, is nobody else's business. */
static bool is_loopback(const char *url)
{
        const char *host = strstr(url, "://") + 3;
        size_t n = strcspn(host, ":/?#");

        return !memchr(host, '@', strcspn(host, "/?#")) &&
               ((n == 9 && memcmp(host, "127.0.0.1", 9) == 0) ||
                (n == 9 && memcmp(host, "localhost", 9) == 0) || strncmp(host, "[::1]", 5) == 0);
}

static int check_url(const struct doc *d, struct target *t, struct err *e)
{
        bool mail = t->type == TARGET_SMTP;

        if (!t->url)
                return fail(d, e, "a target needs \"url\" or \"url-file\"", t->name);
        if (!plain(t->url) || strlen(t->url) > URL_MAX)
                return fail(d, e, "its URL has spaces, or is too long", t->name);
        if (mail ? strncmp(t->url, "smtps://", 8) != 0 && strncmp(t->url, "smtp://", 7) != 0
                 : strncmp(t->url, "https://", 8) != 0 && strncmp(t->url, "http://", 7) != 0)
                return fail(d, e, mail ? "its URL must be smtps:// or smtp://" : "its URL must be https://",
                            t->name);
        if (!mail && strncmp(t->url, "http://", 7) == 0 && !is_loopback(t->url))
                return fail(d, e, "http:// is for this machine only: use https://", t->name);
        if (mail && t->clear && strncmp(t->url, "smtp://", 7) == 0 && !is_loopback(t->url))
                return fail(d, e, "\"starttls: false\" is for this machine only", t->name);
        return 0;
}

static int parse_type(const struct doc *d, const struct doc *at, struct target *t, struct err *e)
{
        static const char *const types[] = {
                [TARGET_WEBHOOK] = "webhook", [TARGET_SLACK] = "slack", [TARGET_SMTP] = "smtp"};

        for (unsigned i = 0; d && d->text && i < 3; i++) {
                if (strcmp(types[i], d->text) == 0) {
                        t->type = (enum target_type)i;
                        return 0;
                }
        }
        return fail(d ? d : at, e, "\"type\" must be webhook, slack or smtp", t->name);
}

/* What goes with a type, and what it cannot do without. */
static int check_parts(const struct doc *d, const struct doc *const *s, struct target *t, struct err *e)
{
        bool mail = t->type == TARGET_SMTP;

        if (t->type == TARGET_WEBHOOK && !t->n_keys)
                return fail(d, e, "a webhook needs \"secret-file\": its receiver checks the signature",
                            t->name);
        if (t->type != TARGET_WEBHOOK && s[T_SECRET])
                return fail(s[T_SECRET], e, "\"secret-file\" goes with the type webhook", t->name);
        if (mail && (!t->from || !t->to))
                return fail(d, e, "mail needs \"from\" and \"to\"", t->name);
        if (!mail && (s[T_FROM] || s[T_TO] || s[T_USER] || s[T_PASSWORD] || s[T_STARTTLS]))
                return fail(d, e,
                            "\"from\", \"to\", \"user\", \"password-file\" and \"starttls\" go with the type "
                            "smtp",
                            t->name);
        return check_url(d, t, e);
}

static int parse_target(const struct doc *d, struct target *t, struct err *e)
{
        const struct doc *s[T_SLOTS] = {NULL};
        int rc;

        if (!str_is_name(d->key, NAME_MAX_))
                return err_at(e, E_INVAL, d->key_line, d->key_col,
                              "notices: \"%.60s\" is no name of a target", d->key);
        t->name = mem_strdup(d->key);
        if (!t->name)
                return nomem(e);
        if (d->kind != DOC_MAP)
                return fail(d, e, "expected a map such as {type: webhook, url: ...}", t->name);
        rc = slots(d, target_keys, T_SLOTS, s, e);
        if (!rc)
                rc = parse_type(s[T_TYPE], d, t, e);
        if (!rc && s[T_URL] && s[T_URL_FILE])
                rc = fail(d, e, "\"url\" and \"url-file\": keep one", t->name);
        if (!rc)
                rc = text(s[T_URL], "url", &t->url, e);
        if (!rc && s[T_URL_FILE])
                rc = secret_file(s[T_URL_FILE], "url-file", &t->url, e);
        if (!rc && s[T_SECRET])
                rc = take_keys(s[T_SECRET], t, e);
        if (!rc)
                rc = text(s[T_CA], "ca-file", &t->ca_file, e);
        if (!rc)
                rc = text(s[T_USER], "user", &t->user, e);
        if (!rc && s[T_PASSWORD])
                rc = secret_file(s[T_PASSWORD], "password-file", &t->password, e);
        if (!rc)
                rc = text(s[T_FROM], "from", &t->from, e);
        if (!rc)
                rc = names(s[T_TO], "to", &t->to, e);
        if (!rc && s[T_STARTTLS] && s[T_STARTTLS]->kind != DOC_BOOL)
                rc = fail(s[T_STARTTLS], e, "\"starttls\" is true or false", t->name);
        t->clear = s[T_STARTTLS] && s[T_STARTTLS]->number == 0;
        if (!rc)
                rc = names(s[T_KINDS], "kinds", &t->kinds, e);
        if (!rc)
                rc = names(s[T_PROJECTS], "projects", &t->projects, e);
        if (!rc)
                rc = names(s[T_ROLES], "roles", &t->roles, e);
        if (!rc)
                rc = names(s[T_USERS], "users", &t->users, e);
        if (!rc)
                rc = names(s[T_EVENTS], "events", &t->events, e);
        return rc ? rc : check_parts(d, s, t, e);
}

/* ---- the section ---- */

static int parse_section(const struct doc *d, struct targets *t, struct err *e)
{
        static const char *const keys[] = {"url", "give-up-after", "targets", "audit-head-every"};
        const struct doc *s[4] = {NULL};
        int rc;

        if (d->kind != DOC_MAP)
                return fail(d, e, "expected a map with \"targets\"", NULL);
        rc = slots(d, keys, 4, s, e);
        if (!rc)
                rc = text(s[0], "url", &t->url, e);
        if (!rc && t->url && strncmp(t->url, "https://", 8) != 0)
                rc = fail(s[0], e, "\"url\" is where people reach this hub: https://...", NULL);
        if (t->url && t->url[0] && t->url[strlen(t->url) - 1] == '/')
                t->url[strlen(t->url) - 1] = '\0';
        if (!rc && s[1] &&
            (!s[1]->text || str_parse_duration(s[1]->text, &t->give_up_ms) || t->give_up_ms < 1000))
                rc = fail(s[1], e, "\"give-up-after\" is a duration such as 24h, at least 1s", NULL);
        if (!rc && s[3] &&
            (!s[3]->text || str_parse_duration(s[3]->text, &t->audit_head_ms) || t->audit_head_ms < 1000))
                rc = fail(s[3], e, "\"audit-head-every\" is a duration such as 1h, at least 1s", NULL);
        if (rc || !s[2])
                return rc;
        if (s[2]->kind != DOC_MAP || s[2]->count > NOTICE_TARGETS_MAX)
                return fail(s[2], e, "\"targets\" is a map of names to at most 32 targets", NULL);
        t->v = mem_calloc(s[2]->count + 1, sizeof *t->v);
        if (!t->v)
                return nomem(e);
        for (const struct doc *c = s[2]->child; c && !rc; c = c->next)
                rc = parse_target(c, &t->v[t->n++], e);
        return rc;
}

int targets_parse(const char *text_, size_t n, const char *path, struct targets *out, struct err *e)
{
        struct targets t = {.give_up_ms = NOTICE_GIVE_UP_MS};
        struct doc *root = NULL, *d;
        struct err why = {0};
        int rc = doc_parse(text_, n, &root, e);

        d = root && root->kind == DOC_MAP ? doc_get(root, "notices") : NULL;
        if (!rc && d && d->kind != DOC_NULL) {
                rc = parse_section(d, &t, &why);
                if (rc)
                        err_at(e, -rc, why.line, why.col, "%s:%d:%d: %s", path, why.line, why.col,
                               err_unplaced(&why));
        }
        doc_free(root);
        if (rc)
                targets_fini(&t);
        else
                *out = t;
        return rc;
}

int targets_read(const char *path, struct targets *out, struct err *e)
{
        char *all = NULL;
        size_t n = 0;
        int rc;

        if (!path) {
                *out = (struct targets){.give_up_ms = NOTICE_GIVE_UP_MS};
                return 0;
        }
        rc = file_read(path, CONFIG_MAX, &all, &n, e);
        if (!rc)
                rc = targets_parse(all, n, path, out, e);
        mem_free(all);
        return rc;
}

/* ---- whom does it concern? ---- */

static bool has(char *const *list, const char *s)
{
        for (size_t i = 0; list && list[i]; i++)
                if (strcmp(list[i], s) == 0)
                        return true;
        return false;
}

static bool any(char *const *list, const cJSON *of)
{
        const cJSON *it;

        cJSON_ArrayForEach(it, of) if (cJSON_IsString(it) && has(list, it->valuestring)) return true;
        return false;
}

static bool asks_one(const struct target *t, const struct engine_notice *n)
{
        const struct approval_rules *r = n->rules;
        bool escalated = strcmp(n->event, "checkpoint.escalated") == 0;

        if (!t->roles && !t->users)
                return true;
        if (n->to)
                return has(t->users, n->to);
        if (escalated)
                return any(t->roles, r->escalate_roles) || any(t->users, r->escalate_users);
        if (!r || (!r->roles && !r->users))
                return t->roles != NULL;
        return any(t->roles, r->roles) || any(t->users, r->users);
}

bool target_wants(const struct target *t, const struct engine_notice *n)
{
        if (strcmp(n->event, "audit.head") == 0)
                return t->events && has(t->events, n->event);
        return (!t->kinds || has(t->kinds, n->kind)) && (!t->projects || has(t->projects, n->project)) &&
               (!t->events || has(t->events, n->event)) && asks_one(t, n);
}
