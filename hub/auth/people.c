#include "hub/auth/people.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/id.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/auth/auth_impl.h"
#include "hub/model/oidc.h"
#include "hub/store/store.h"

void person_free(struct person *p)
{
        if (!p)
                return;
        mem_free(p->email);
        mem_free(p->issuer);
        mem_free(p->subject);
        mem_free(p->created_by);
        mem_free(p);
}

void project_free(struct project *p)
{
        if (!p)
                return;
        mem_free(p->title);
        mem_free(p->created_by);
        mem_free(p);
}

/* ---- roles as text ---- */

void roles_read(const char *json, struct roles *io)
{
        cJSON *doc = NULL;
        enum role role;

        if (!json || json_parse(json, strlen(json), &doc, NULL))
                return;
        for (const cJSON *m = doc->child; m; m = m->next) {
                if (m->string && cJSON_IsString(m) && role_parse(m->valuestring, &role) == 0)
                        (void)roles_give(io, m->string, role); /* one too many: none */
        }
        cJSON_Delete(doc);
}

char *roles_write(const struct roles *r)
{
        cJSON *o = cJSON_CreateObject();
        bool ok = o != NULL;
        char *text = NULL;

        if (ok && r->everywhere != ROLE_NONE)
                ok = cJSON_AddStringToObject(o, PROJECT_ALL, role_name(r->everywhere));
        for (unsigned i = 0; ok && i < r->n; i++) {
                if (r->in[i].role != ROLE_NONE)
                        ok = cJSON_AddStringToObject(o, r->in[i].project, role_name(r->in[i].role));
        }
        if (ok)
                text = json_text(o);
        cJSON_Delete(o);
        return text;
}

/* ---- loading ---- */

static int copy(char **out, const char *s)
{
        *out = s ? mem_strdup(s) : NULL;
        return s && !*out ? -E_NOMEM : 0;
}

static char *subject_key(const char *issuer, const char *subject)
{
        return str_printf("%s\n%s", issuer, subject);
}

/* Takes p, on failure too. */
static int add_person(struct auth *a, struct person *p)
{
        char *key = p->subject ? subject_key(p->issuer, p->subject) : NULL;
        int rc = p->subject && !key ? -E_NOMEM : map_put(a->person_by_name, p->name, p, NULL);

        if (!rc && key) {
                rc = map_put(a->person_by_subject, key, p, NULL);
                if (rc)
                        map_del(a->person_by_name, p->name);
        }
        mem_free(key);
        if (rc)
                person_free(p);
        else
                list_push_back(&a->people, &p->link);
        return rc;
}

/* What somebody else has written gives nothing: a user of this name who has no role, logs in nowhere and is
 * disabled, until people say anew what they are. */
static int add_refused(struct auth *a, struct person *p)
{
        if (map_get(a->person_by_name, p->name)) {
                person_free(p);
                return 0;
        }
        p->roles = p->idp_roles = (struct roles){0};
        if (!p->disabled_us)
                p->disabled_us = auth_now(a);
        return add_person(a, p);
}

static int on_user(void *arg, const struct row_user *row)
{
        struct person *p = mem_calloc(1, sizeof *p);

        if (!p)
                return -E_NOMEM;
        snprintf(p->id, sizeof p->id, "%s", row->id);
        snprintf(p->name, sizeof p->name, "%s", row->name);
        p->service = row->kind && strcmp(row->kind, "service") == 0;
        roles_read(row->roles, &p->roles);
        roles_read(row->idp_roles, &p->idp_roles);
        p->created_us = row->created_us;
        p->disabled_us = row->disabled_us;
        p->last_login_us = row->last_login_us;
        if (row->sealed.refused)
                return add_refused(arg, p);
        p->deleted_us = row->deleted_us;
        if (copy(&p->email, row->email) || copy(&p->created_by, row->created_by) ||
            (row->subject && row->issuer &&
             (copy(&p->issuer, row->issuer) || copy(&p->subject, row->subject)))) {
                person_free(p);
                return -E_NOMEM;
        }
        return add_person(arg, p);
}

static int add_project(struct auth *a, const char *name, const char *title, const char *by,
                       int64_t created_us, struct project **out)
{
        struct project *p = mem_calloc(1, sizeof *p);
        int rc = p ? 0 : -E_NOMEM;

        if (!rc) {
                snprintf(p->name, sizeof p->name, "%s", name);
                p->created_us = created_us;
                rc = copy(&p->title, title ? title : "");
        }
        if (!rc)
                rc = copy(&p->created_by, by);
        if (!rc)
                rc = map_put(a->project_by_name, p->name, p, NULL);
        if (rc) {
                project_free(p);
                return rc;
        }
        list_push_back(&a->projects, &p->link);
        *out = p;
        return 0;
}

static int on_project(void *arg, const struct row_project *row)
{
        struct project *p;
        int rc = add_project(arg, row->name, row->title, row->created_by, row->created_us, &p);

        if (!rc)
                p->archived_us = row->archived_us;
        if (!rc && row->sealed.refused && !p->archived_us)
                p->archived_us = auth_now(arg);
        return rc;
}

int people_load(struct auth *a, struct store_reader *r, struct err *e)
{
        int rc = read_projects(r, on_project, a);

        if (!rc)
                rc = read_users(r, on_user, a);
        return rc ? err_set(e, -rc, "users and projects could not be read: %s", err_name(rc)) : 0;
}

/* ---- people ---- */

static int put_person(struct auth *a, struct store_tx *tx, const struct person *p, struct err *e)
{
        char *roles = roles_write(&p->roles), *idp = roles_write(&p->idp_roles);
        int rc = roles && idp ? 0 : err_set(e, E_NOMEM, "out of memory");

        (void)a;
        if (!rc)
                store_put_user(tx, &(struct row_user){.id = p->id,
                                                      .name = p->name,
                                                      .kind = p->service ? "service" : "user",
                                                      .email = p->email,
                                                      .issuer = p->issuer,
                                                      .subject = p->subject,
                                                      .roles = roles,
                                                      .idp_roles = idp,
                                                      .created_by = p->created_by,
                                                      .created_us = p->created_us,
                                                      .disabled_us = p->disabled_us,
                                                      .last_login_us = p->last_login_us,
                                                      .deleted_us = p->deleted_us});
        mem_free(roles);
        mem_free(idp);
        return rc;
}

static bool printable(const char *s)
{
        for (; *s; s++)
                if ((unsigned char)*s < ' ' || *s == 127)
                        return false;
        return true;
}

/* Characters that show nothing, or turn the text around them: with them two names can look the same. Of valid
 * UTF-8: C1 controls and the soft hyphen (C2 80..A0, AD), U+200B..200F, U+2028..202F, U+2060..206F, U+FEFF.
 */
static bool visible(const char *name)
{
        for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
                if (p[0] == 0xc2 && (p[1] <= 0xa0 || p[1] == 0xad))
                        return false;
                if (p[0] == 0xe2 && p[1] == 0x80 &&
                    ((p[2] >= 0x8b && p[2] <= 0x8f) || (p[2] >= 0xa8 && p[2] <= 0xaf)))
                        return false;
                if (p[0] == 0xe2 && p[1] == 0x81 && p[2] >= 0xa0 && p[2] <= 0xaf)
                        return false;
                if (p[0] == 0xef && p[1] == 0xbb && p[2] == 0xbf)
                        return false;
        }
        return true;
}

/* Names are what the audit, approvals and lists call somebody by. */
int auth_name_check(const char *name, struct err *e)
{
        static const char *const own[] = {"hub", "init", "stranger"};
        size_t n = strlen(name);

        if (!n || n > PERSON_NAME_MAX || !str_is_utf8(name, n) || !printable(name) || !visible(name) ||
            name[0] == ' ' || name[n - 1] == ' ')
                return err_set(
                        e, E_INVAL,
                        "a name has 1 to %d bytes, no control or invisible characters, and no space at "
                        "its ends",
                        PERSON_NAME_MAX);
        for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
                if (str_ieq(name, own[i]))
                        return err_set(
                                e, E_INVAL,
                                "the name \"%s\" is what the audit calls the hub itself, or a stranger",
                                name);
        }
        return 0;
}

/* Users have a place of their own in addresses, and on command lines. */
static int check_name(const char *name, struct err *e)
{
        int rc = auth_name_check(name, e);

        if (!rc && (strchr(name, '/') || name[0] == '-' || !strcmp(name, ".") || !strcmp(name, "..")))
                rc = err_set(e, E_INVAL,
                             "a user's name holds no /, does not begin with - and is not . or ..");
        return rc;
}

static struct person *find_person(struct auth *a, const char *name, struct err *e)
{
        struct person *p = map_get(a->person_by_name, name);

        if (p && !p->deleted_us)
                return p;
        err_set(e, E_NOENT, "there is no user '%.100s'; see: photon user list", name);
        return NULL;
}

bool auth_person_deleted(struct auth *a, const char *name)
{
        const struct person *p = map_get(a->person_by_name, name);

        return p && p->deleted_us;
}

bool auth_person_rules_by_claim(struct auth *a, const char *name)
{
        const struct person *p = map_get(a->person_by_name, name);

        return p && p->idp_roles.everywhere == ROLE_ADMIN;
}

const char *auth_person_id(struct auth *a, const char *name)
{
        const struct person *p = map_get(a->person_by_name, name);

        return p && !p->deleted_us ? p->id : NULL;
}

static int new_person(struct auth *a, const char *name, bool service, const char *email, const char *issuer,
                      const char *subject, struct person **out, struct err *e)
{
        struct person *p;
        int rc;

        if (map_count(a->person_by_name) >= PEOPLE_MAX)
                return err_set(e, E_FULL, "there are %d users already", PEOPLE_MAX);
        p = mem_calloc(1, sizeof *p);
        if (!p)
                return err_set(e, E_NOMEM, "out of memory");
        p->created_us = auth_now(a);
        id_make(p->created_us, p->id);
        snprintf(p->name, sizeof p->name, "%s", name);
        p->service = service;
        if (copy(&p->email, email) || copy(&p->issuer, issuer) || copy(&p->subject, subject) ||
            copy(&p->created_by, a->actor[0] ? a->actor : "hub")) {
                person_free(p);
                return err_set(e, E_NOMEM, "out of memory");
        }
        rc = add_person(a, p);
        if (rc)
                return err_set(e, -rc, "out of memory");
        *out = p;
        return 0;
}

static int check_subject(struct auth *a, const struct new_person *n, struct err *e)
{
        const struct person *p;
        char *key;

        if (n->service)
                return err_set(e, E_INVAL, "a service never logs in: it has no \"subject\"");
        if (!n->issuer || !*n->subject || strlen(n->subject) > OIDC_SUBJECT_MAX || !printable(n->subject))
                return err_set(e, E_INVAL,
                               "\"subject\" is what the identity provider's tokens have as sub, and this hub "
                               "needs a provider (--oidc-issuer)");
        key = subject_key(n->issuer, n->subject);
        if (!key)
                return err_set(e, E_NOMEM, "out of memory");
        p = map_get(a->person_by_subject, key);
        mem_free(key);
        return p ? err_set(e, E_EXIST, "that subject is user '%s' already", p->name) : 0;
}

int auth_person_create(struct auth *a, struct store_tx *tx, const struct new_person *n, char out_id[32],
                       struct err *e)
{
        struct person *p = NULL;
        int rc = check_name(n->name, e);

        if (!rc && auth_person_deleted(a, n->name))
                rc = err_set(
                        e, E_EXIST,
                        "user '%s' was deleted: the audit still speaks of them, so nobody else is called so",
                        n->name);
        else if (!rc && map_get(a->person_by_name, n->name))
                rc = err_set(e, E_EXIST, "there is a user '%s' already", n->name);
        if (!rc && n->email &&
            (strlen(n->email) > PERSON_NAME_MAX * 2 || !strchr(n->email, '@') || !printable(n->email)))
                rc = err_set(e, E_INVAL, "\"email\" is no address");
        if (!rc && n->subject)
                rc = check_subject(a, n, e);
        if (!rc)
                rc = new_person(a, n->name, n->service, n->email, n->subject ? n->issuer : NULL, n->subject,
                                &p, e);
        if (!rc)
                rc = put_person(a, tx, p, e);
        if (rc)
                return rc;
        snprintf(out_id, 32, "%s", p->id);
        auth_record(a, tx, "user.create", p->name,
                    p->service ? "{\"kind\":\"service\"}" : "{\"kind\":\"user\"}", NULL, NULL);
        return 0;
}

int auth_person_enable(struct auth *a, struct store_tx *tx, const char *name, bool on, struct err *e)
{
        struct person *p = find_person(a, name, e);
        int64_t was;
        int rc;

        if (!p)
                return -E_NOENT;
        if (on == !p->disabled_us)
                return err_set(e, E_STATE, "user %s is %s already", name, on ? "enabled" : "disabled");
        was = p->disabled_us;
        p->disabled_us = on ? 0 : auth_now(a);
        rc = put_person(a, tx, p, e);
        if (rc) {
                p->disabled_us = was;
                return rc;
        }
        auth_record(a, tx, on ? "user.enable" : "user.disable", p->name, NULL, NULL, NULL);
        return 0;
}

int auth_person_delete(struct auth *a, struct store_tx *tx, const char *name, struct err *e)
{
        struct person *p = find_person(a, name, e);
        struct person was;
        int rc;

        if (!p)
                return -E_NOENT;
        was = *p;
        p->deleted_us = auth_now(a);
        if (!p->disabled_us)
                p->disabled_us = p->deleted_us;
        p->roles = p->idp_roles = (struct roles){0};
        p->email = NULL;
        rc = put_person(a, tx, p, e);
        if (rc) {
                p->deleted_us = 0;
                p->disabled_us = was.disabled_us;
                p->roles = was.roles;
                p->idp_roles = was.idp_roles;
                p->email = was.email;
                return rc;
        }
        mem_free(was.email);
        auth_record(a, tx, "user.delete", p->name, NULL, NULL, NULL);
        return 0;
}

static int set_role(struct roles *r, const char *project, enum role role)
{
        if (strcmp(project, PROJECT_ALL) == 0) {
                r->everywhere = role;
                return 0;
        }
        for (unsigned i = 0; i < r->n; i++) {
                if (strcmp(r->in[i].project, project) == 0) {
                        if (role == ROLE_NONE)
                                r->in[i] = r->in[--r->n];
                        else
                                r->in[i].role = role;
                        return 0;
                }
        }
        return role == ROLE_NONE ? -E_NOENT : roles_give(r, project, role);
}

static void record_role(struct auth *a, struct store_tx *tx, const char *action, const char *name,
                        const char *project, enum role role)
{
        char detail[160];

        /* A project's name needs no escapes. */
        snprintf(detail, sizeof detail, "{\"project\":\"%s\",\"role\":\"%s\"}", project, role_name(role));
        auth_record(a, tx, action, name, detail, NULL, NULL);
}

int auth_person_give(struct auth *a, struct store_tx *tx, const char *name, const char *project,
                     enum role role, struct err *e)
{
        struct person *p = find_person(a, name, e);
        struct roles was;
        int rc;

        if (!p)
                return -E_NOENT;
        if (role != ROLE_NONE && strcmp(project, PROJECT_ALL) != 0 && !map_get(a->project_by_name, project))
                return err_set(e, E_NOENT, "there is no project '%.64s'; see: photon project list", project);
        was = p->roles;
        if (role == ROLE_NONE && strcmp(project, PROJECT_ALL) == 0 && was.everywhere == ROLE_NONE)
                rc = -E_NOENT;
        else
                rc = set_role(&p->roles, project, role);
        if (rc == -E_NOENT)
                err_set(e, E_NOENT, "%s has no role of their own in project '%.64s'", name, project);
        else if (rc == -E_FULL)
                err_set(e, E_FULL, "%s has a role in %d projects already; give one in all of them: *", name,
                        ROLES_MAX);
        else if (!rc)
                rc = put_person(a, tx, p, e);
        if (rc) {
                p->roles = was;
                return rc;
        }
        record_role(a, tx, role == ROLE_NONE ? "role.take" : "role.give", p->name, project, role);
        return 0;
}

/* ---- logins ---- */

/* A name that nobody has, from what the provider calls them. */
static int free_name(struct auth *a, const struct login *l, char out[128], struct err *e)
{
        char base[PERSON_NAME_MAX + 1];
        size_t n = 0;

        for (const char *p = l->name; *p && n < 64; p++)
                base[n++] = (unsigned char)*p <= ' ' || *p == '/' || *p == 127 ? '-' : *p;
        base[n] = '\0';
        while (n && !str_is_utf8(base, n))
                base[--n] = '\0'; /* cut in the middle of a character */
        if (check_name(base, NULL))
                snprintf(base, sizeof base, "user");
        snprintf(out, 128, "%s", base);
        for (int i = 2; i < 1000; i++) {
                if (!map_get(a->person_by_name, out) && !(l->taken && l->taken(l->ctx, out)))
                        return 0;
                snprintf(out, 128, "%s-%d", base, i);
        }
        return err_set(e, E_FULL, "there is no free name like '%s'", base);
}

static int come_in(struct auth *a, const struct login *l, struct person **out, bool *is_new, struct err *e)
{
        char *key = subject_key(l->issuer, l->subject);
        char name[128];
        int rc = 0;

        if (!key)
                return err_set(e, E_NOMEM, "out of memory");
        *out = map_get(a->person_by_subject, key);
        mem_free(key);
        *is_new = !*out;
        if (*is_new && roles_best(l->roles) == ROLE_NONE)
                return err_set(
                        e, E_DENIED,
                        "%s may not log in here: nothing that the identity provider says of them gives a "
                        "role; ask the hub's admin",
                        l->name);
        if (*is_new)
                rc = free_name(a, l, name, e);
        if (!rc && *is_new)
                rc = new_person(a, name, false, l->email, l->issuer, l->subject, out, e);
        return rc;
}

int auth_login(struct auth *a, struct store_tx *tx, const struct login *l, char out_token[80],
               char out_token_id[32], char out_name[128], struct err *e)
{
        struct person *p = NULL;
        struct roles was, all;
        int64_t now = auth_now(a);
        bool is_new = false;
        int rc = come_in(a, l, &p, &is_new, e);

        if (rc)
                return rc;
        if (p->disabled_us)
                return err_set(e, E_DENIED, "user %s is %s; ask the hub's admin", p->name,
                               p->deleted_us ? "deleted" : "disabled");
        was = p->idp_roles;
        p->idp_roles = *l->roles;
        all = p->roles;
        for (unsigned i = 0; i < p->idp_roles.n; i++)
                (void)roles_give(&all, p->idp_roles.in[i].project, p->idp_roles.in[i].role);
        (void)roles_give(&all, PROJECT_ALL, p->idp_roles.everywhere);
        if (roles_best(&all) == ROLE_NONE) {
                p->idp_roles = was;
                return err_set(e, E_DENIED, "user %s has no role in any project; ask the hub's admin",
                               p->name);
        }
        p->last_login_us = now;
        rc = put_person(a, tx, p, e);
        if (!rc)
                rc = auth_api_token_create(
                        tx,
                        &(struct new_api_token){.name = p->name,
                                                .project = PROJECT_ALL,
                                                .role = ROLE_ADMIN, /* as their roles say */
                                                .user_id = p->id,
                                                .session = true,
                                                .expires_us = now + l->ttl_ms * 1000,
                                                .created_by = p->name},
                        now, out_token, out_token_id);
        if (rc) {
                p->idp_roles = was;
                return err_set(e, -rc, "the login could not be kept: %s", err_name(rc));
        }
        snprintf(out_name, 128, "%s", p->name);
        auth_act_as(a, p->name);
        auth_record(a, tx, is_new ? "user.first_login" : "user.login", p->name, NULL, NULL, NULL);
        return 0;
}

/* ---- projects ---- */

static void put_project(struct store_tx *tx, const struct project *p)
{
        store_put_project(tx, &(struct row_project){.name = p->name,
                                                    .title = p->title,
                                                    .created_by = p->created_by,
                                                    .created_us = p->created_us,
                                                    .archived_us = p->archived_us});
}

int auth_project_create(struct auth *a, struct store_tx *tx, const char *name, const char *title,
                        struct err *e)
{
        struct project *p;
        int rc;

        if (!project_name_ok(name))
                return err_set(
                        e, E_INVAL,
                        "\"%.80s\" is no project's name: letters, digits, '.', '_' and '-', at most %d", name,
                        PROJECT_NAME_MAX);
        if (title && (strlen(title) > TITLE_MAX || !printable(title)))
                return err_set(e, E_INVAL, "\"title\" has at most %d bytes and no control characters",
                               TITLE_MAX);
        if (map_get(a->project_by_name, name))
                return err_set(e, E_EXIST, "there is a project '%s' already", name);
        if (map_count(a->project_by_name) >= PROJECTS_MAX)
                return err_set(e, E_FULL, "there are %d projects already", PROJECTS_MAX);
        rc = add_project(a, name, title, a->actor[0] ? a->actor : "hub", auth_now(a), &p);
        if (rc)
                return err_set(e, -rc, "out of memory");
        put_project(tx, p);
        auth_record(a, tx, "project.create", p->name, NULL, NULL, NULL);
        return 0;
}

bool auth_has_project(struct auth *a, const char *name)
{
        return map_get(a->project_by_name, name) != NULL;
}

int auth_project_archive(struct auth *a, struct store_tx *tx, const char *name, bool on, struct err *e)
{
        struct project *p = map_get(a->project_by_name, name);

        if (!p)
                return err_set(e, E_NOENT, "there is no project '%.64s'; see: photon project list", name);
        if (on && strcmp(name, PROJECT_DEFAULT) == 0)
                return err_set(e, E_STATE, "the project '%s' is always there", name);
        if (on == (p->archived_us != 0))
                return err_set(e, E_STATE, "project %s is %s already", name, on ? "archived" : "open");
        p->archived_us = on ? auth_now(a) : 0;
        put_project(tx, p);
        auth_record(a, tx, on ? "project.archive" : "project.unarchive", p->name, NULL, NULL, NULL);
        return 0;
}
