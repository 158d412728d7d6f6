/* secret ..., vault ...: values come from standard input, a prompt without echo or a file, never from the
 * command line, where others on this machine could read them; and they are never shown. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/input.h"
#include "cli/print.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define VALUE_MAX ((size_t)64 << 10)
#define PASS_MAX  ((size_t)1024)

static void wipe(char *text, size_t n)
{
        if (text)
                mem_wipe(text, n);
        mem_free(text);
}

/* A line from the terminal that is not seen; *out without its end. */
static int ask_hidden(const char *prompt, size_t max, char **out, struct err *e)
{
        struct termios was, hidden;
        char *line = mem_alloc(max + 2);
        int rc = 0;

        if (!line)
                return err_set(e, E_NOMEM, "no memory");
        if (tcgetattr(STDIN_FILENO, &was))
                return wipe(line, 0), err_set(e, err_from_errno(errno), "the terminal: %s", strerror(errno));
        hidden = was;
        hidden.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
        /* Before the prompt: it drops what was typed unseen, and nothing that answers the question. */
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
        fputs(prompt, stderr);
        fflush(stderr);
        if (!fgets(line, (int)max + 2, stdin))
                rc = err_set(e, E_CANCELLED, "nothing was entered");
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &was);
        fputc('\n', stderr);
        if (!rc && !strchr(line, '\n') && strlen(line) > max)
                rc = err_set(e, E_TOOBIG, "that is too long for a line: use --from-file");
        if (rc) {
                wipe(line, max + 2);
                return rc;
        }
        line[strcspn(line, "\r\n")] = '\0';
        *out = line;
        return 0;
}

/* From --from-file as it is; from a pipe without the newline that echo adds; from people. */
static int read_hidden(struct cli *c, const char *what, size_t max, bool twice, char **out, size_t *out_n,
                       struct err *e)
{
        char prompt[160], *again = NULL;
        int rc;

        if (c->o.from_file)
                return input_read(c->o.from_file, max, out, out_n, e);
        if (!isatty(STDIN_FILENO)) {
                rc = input_read("-", max + 2, out, out_n, e);
                if (!rc && *out_n && (*out)[*out_n - 1] == '\n')
                        (*out)[--*out_n] = '\0';
                return rc;
        }
        snprintf(prompt, sizeof prompt, "%s (not shown): ", what);
        rc = ask_hidden(prompt, max, out, e);
        if (rc)
                return rc;
        *out_n = strlen(*out);
        if (!twice)
                return 0;
        rc = ask_hidden("once more: ", max, &again, e);
        if (!rc && strcmp(*out, again) != 0)
                rc = err_set(e, E_INVAL, "the two are not the same");
        wipe(again, again ? strlen(again) : 0);
        if (rc)
                wipe(*out, *out_n);
        return rc;
}

/* The project (--project) is the client's to add. The hub judges names; what would lead to another path it
 * could not tell as one. */
static int secret_path(const char *name, const char *more, char **out, struct err *e)
{
        char *path;

        if (!*name || strchr(name, '/'))
                return err_set(e, E_INVAL,
                               "\"%s\" is no name of a secret: letters, digits, \"_\", \".\" and \"-\"",
                               name);
        path = client_path("/secrets/%s", name);
        *out = path ? str_printf("%s%s", path, more) : NULL;
        mem_free(path);
        return *out ? 0 : err_set(e, E_NOMEM, "no memory");
}

/* The body holds the value: what cJSON made of it is overwritten too. */
static void body_free(cJSON *body)
{
        for (cJSON *m = body ? body->child : NULL; m; m = m->next)
                if (cJSON_IsString(m))
                        mem_wipe(m->valuestring, strlen(m->valuestring));
        cJSON_Delete(body);
}

static void show_secret(struct cli *c, const cJSON *doc, const char *done)
{
        if (!print_doc(c, doc))
                note("secret %s of project %s %s, version %lld", jstr(doc, "name"), jstr(doc, "project"),
                     done, (long long)jnum(doc, "version"));
}

static int put(struct cli *c, bool rotate, struct err *e)
{
        char *value = NULL, *b64 = NULL, *path = NULL;
        cJSON *body = NULL, *doc = NULL;
        size_t n = 0;
        int rc = secret_path(c->args[0], rotate ? "/rotate" : "", &path, e);

        if (!rc)
                rc = read_hidden(c, c->args[0], VALUE_MAX, true, &value, &n, e);
        if (rc) {
                mem_free(path);
                return rc;
        }
        b64 = str_b64(value, n);
        body = cJSON_CreateObject();
        if (!b64 || !body || !cJSON_AddStringToObject(body, "value_base64", b64) ||
            (c->o.keep && !cJSON_AddNumberToObject(body, "keep", (double)c->o.keep)) ||
            (c->o.unmasked && !cJSON_AddTrueToObject(body, "unmasked")))
                rc = err_set(e, E_NOMEM, "no memory");
        if (!rc)
                rc = client_json(c->client, rotate ? "POST" : "PUT", path, body, &doc, e);
        if (!rc)
                show_secret(c, doc, rotate ? "has a new value" : "is set");
        wipe(value, n);
        wipe(b64, b64 ? strlen(b64) : 0);
        body_free(body);
        cJSON_Delete(doc);
        mem_free(path);
        return rc;
}

int cmd_secret_set(struct cli *c, struct err *e)
{
        return put(c, false, e);
}

int cmd_secret_rotate(struct cli *c, struct err *e)
{
        return put(c, true, e);
}

int cmd_secret_list(struct cli *c, struct err *e)
{
        static const char *const head[] = {"NAME", "PROJECT", "VERSION", "UPDATED", "BY"};
        struct table t;
        cJSON *all = NULL;
        char text[64];
        int rc = client_list(c->client, "/api/v1/secrets", 0, &all, e);

        if (rc)
                return rc;
        if (!print_doc(c, all)) {
                table_init(&t, 5, head);
                for (const cJSON *m = all->child; m; m = m->next) {
                        table_cell(&t, jstr(m, "name"), PAINT_NONE);
                        table_cell(&t, jstr(m, "project"), PAINT_NONE);
                        snprintf(text, sizeof text, "%lld", (long long)jnum(m, "version"));
                        table_cell(&t, text, PAINT_NONE);
                        ago_text(jstr(m, "updated_at"), text);
                        table_cell(&t, text, PAINT_NONE);
                        table_cell(&t, jstr(m, "updated_by"), PAINT_NONE);
                }
                table_print(&t);
        }
        cJSON_Delete(all);
        return 0;
}

int cmd_secret_show(struct cli *c, struct err *e)
{
        char *path = NULL;
        cJSON *doc = NULL;
        int rc = secret_path(c->args[0], "", &path, e);

        if (!rc)
                rc = client_json(c->client, "GET", path, NULL, &doc, e);
        if (!rc && !print_doc(c, doc))
                print_json(doc);
        cJSON_Delete(doc);
        mem_free(path);
        return rc;
}

int cmd_secret_delete(struct cli *c, struct err *e)
{
        char *path = NULL;
        int rc = secret_path(c->args[0], "", &path, e);

        if (!rc)
                rc = client_json(c->client, "DELETE", path, NULL, NULL, e);
        if (!rc)
                note("secret %s is deleted, with all its versions", c->args[0]);
        mem_free(path);
        return rc;
}

/* ---- the vault ---- */

static int vault_call(struct cli *c, const char *method, const char *path, const cJSON *body, struct err *e)
{
        cJSON *doc = NULL;
        int rc = client_json(c->client, method, path, body, &doc, e);

        if (!rc && !print_doc(c, doc)) {
                printf("state      %s%s%s\n", jstr(doc, "state"), *jstr(doc, "why") ? ": " : "",
                       jstr(doc, "why"));
                printf("master key %s (%s)\n", jstr(doc, "key"), jstr(doc, "master"));
                printf("data key   %lld, %lld uses%s\n", (long long)jnum(doc, "data_key"),
                       (long long)jnum(doc, "data_key_uses"),
                       cJSON_IsTrue(jget(doc, "resealing")) ? "; older texts are being sealed anew" : "");
                printf("secrets    %lld\n", (long long)jnum(doc, "secrets"));
        }
        cJSON_Delete(doc);
        return rc;
}

int cmd_vault_status(struct cli *c, struct err *e)
{
        return vault_call(c, "GET", "/api/v1/vault", NULL, e);
}

int cmd_vault_lock(struct cli *c, struct err *e)
{
        return vault_call(c, "POST", "/api/v1/vault/lock", NULL, e);
}

int cmd_vault_unlock(struct cli *c, struct err *e)
{
        cJSON *now = NULL, *body = cJSON_CreateObject();
        char *pass = NULL;
        size_t n = 0;
        int rc = client_json(c->client, "GET", "/api/v1/vault", NULL, &now, e);

        /* Only a passphrase is asked for; a file or a credential is looked for by the hub. */
        if (!rc && strcmp(jstr(now, "key"), "passphrase") == 0 && strcmp(jstr(now, "state"), "locked") == 0)
                rc = read_hidden(c, "passphrase of the vault", PASS_MAX, false, &pass, &n, e);
        while (n && (pass[n - 1] == '\n' || pass[n - 1] == '\r'))
                pass[--n] = '\0';
        if (!rc && (!body || (pass && !cJSON_AddStringToObject(body, "passphrase", pass))))
                rc = err_set(e, E_NOMEM, "no memory");
        if (!rc)
                rc = vault_call(c, "POST", "/api/v1/vault/unlock", body, e);
        wipe(pass, n);
        body_free(body);
        cJSON_Delete(now);
        return rc;
}

static int add_new_key(struct cli *c, cJSON *body, struct err *e)
{
        const char *kind = c->o.kind;
        char *text = NULL;
        size_t n = 0;
        int rc = 0;

        if (kind && !cJSON_AddStringToObject(body, "key", kind))
                return err_set(e, E_NOMEM, "no memory");
        if (!kind || strcmp(kind, "file") == 0)
                return 0;
        rc = read_hidden(c,
                         strcmp(kind, "passphrase") == 0 ? "new passphrase" : "new master key (hexadecimal)",
                         PASS_MAX, true, &text, &n, e);
        while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
                text[--n] = '\0';
        if (!rc &&
            !cJSON_AddStringToObject(body, strcmp(kind, "passphrase") == 0 ? "passphrase" : "new_key", text))
                rc = err_set(e, E_NOMEM, "no memory");
        wipe(text, n);
        return rc;
}

int cmd_vault_rotate(struct cli *c, struct err *e)
{
        const char *level = c->args[0];
        cJSON *body;
        int rc;

        if (strcmp(level, "data") != 0 && strcmp(level, "master") != 0)
                return cli_usage(c,
                                 "photon vault rotate: data (a new data key) or master (a new master key)?");
        if (c->o.kind && strcmp(level, "data") == 0)
                return cli_usage(c, "photon vault rotate: --key goes with master");
        body = cJSON_CreateObject();
        rc = body && cJSON_AddStringToObject(body, "level", level) ? 0 : err_set(e, E_NOMEM, "no memory");
        if (!rc)
                rc = add_new_key(c, body, e);
        if (!rc)
                rc = vault_call(c, "POST", "/api/v1/vault/rotate", body, e);
        body_free(body);
        return rc;
}
