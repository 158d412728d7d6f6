/* Reading the policy file: strict keys, every mistake with its line. */
#include "agent/policy_in.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"
#include "common/yaml.h"

static const char default_text[] =
        "# What this machine lets the PHOTON hub do. Only this file decides; the hub cannot\n"
        "# widen it. The agent reads it at its start (systemctl restart photon-agent).\n"
        "# A key that is left out means what is written here. deny always wins over allow.\n"
        "version: 1\n"
        "\n"
        "# Tools by name; * stands for any run of characters.\n"
        "tools:\n"
        "  allow: [\"*\"]\n"
        "  deny: []\n"
        "\n"
        "# Folders (and all below them) for the file.* tools, after symbolic links are followed.\n"
        "# deny entries may contain *. The agent's own data folder is always denied.\n"
        "# The programs that tools start are bound by read and write (not by deny): see sandbox.\n"
        "files:\n"
        "  read: [\"/\"]\n"
        "  write: [\"~\", \"/tmp\"]\n"
        "  deny:\n"
        "    - ~/.ssh\n"
        "    - ~/.gnupg\n"
        "    - ~/.aws\n"
        "    - ~/.azure\n"
        "    - ~/.config/gcloud\n"
        "    - ~/.config/gh\n"
        "    - ~/.config/photon\n"
        "    - ~/.kube\n"
        "    - ~/.docker/config.json\n"
        "    - ~/.netrc\n"
        "    - ~/.git-credentials\n"
        "    - ~/.npmrc\n"
        "    - ~/.pypirc\n"
        "    - ~/.password-store\n"
        "    - ~/.local/share/keyrings\n"
        "    - ~/.mozilla\n"
        "    - ~/.config/google-chrome\n"
        "    - ~/.config/chromium\n"
        "    - /etc/shadow*\n"
        "    - /etc/gshadow*\n"
        "    - /etc/sudoers*\n"
        "    - /etc/photon\n"
        "    - /etc/ssl/private\n"
        "    - /etc/ssh/*_key\n"
        "    - /var/lib/photon*\n"
        "    - /proc/*/environ\n"
        "    - /proc/*/mem\n"
        "    - /dev\n"
        "\n"
        "# Programs that process.exec may start, by path or by base name. Once allow is not [\"*\"],\n"
        "# a base name means the program of that name on the agent's own PATH, and calls may not\n"
        "# set PATH or LD_*. shell: false forbids `shell:` (and so `run:`) altogether.\n"
        "commands:\n"
        "  allow: [\"*\"]\n"
        "  deny: []\n"
        "  shell: true\n"
        "\n"
        "# Variables of the agent's environment that commands inherit, and fixed ones.\n"
        "env:\n"
        "  pass: [PATH, HOME, LANG, LANGUAGE, LC_*, TZ, TERM, USER, LOGNAME, SHELL, TMPDIR, "
        "XDG_RUNTIME_DIR]\n"
        "  set: {}\n"
        "\n"
        "# Hosts for http.request and for pages: host or host:port. Denied here: where clouds hand out "
        "credentials.\n"
        "http:\n"
        "  allow: [\"*\"]\n"
        "  deny: [\"169.254.*\", \"metadata.google.internal\", \"[fd00:ec2::254]\", \"100.100.100.200\"]\n"
        "\n"
        "# Pages of browser.*: whether calls may run scripts of their own in them, and whether pages may be\n"
        "# files of this machine (those that files.read allows).\n"
        "browser: {evaluate: false, files: false}\n"
        "\n"
        "# What tools ask before they do something (AI tools, MCP servers, photon.ask). What commands,\n"
        "# files and deny forbid is denied, whatever a person or the call's permission mode says. Then ask:\n"
        "# a person is asked, whatever the mode says. Then allow. For the rest the call's mode decides\n"
        "# (allow, accept-edits, deny), and if that is ask, a person. All that a rule names must match:\n"
        "#   action   read edit delete move search execute think fetch other\n"
        "#   tool     what the asking program calls it (Bash, create_file), or CALLER:TOOL\n"
        "#   command  with a space a whole command, else a program's name; each command of a shell text\n"
        "#            must match to be allowed, one is enough to be denied or asked\n"
        "#   paths    folders or files, as under files\n"
        "# such as: allow: [{action: [read, search]}, {action: edit, paths: [\"~/src\"]}, {command: \"git "
        "status*\"}]\n"
        "questions:\n"
        "  deny: []\n"
        "  ask: []\n"
        "  allow: []\n"
        "\n"
        "# Programs that tools start (process.exec, plug-ins, AI tools, MCP servers, browsers). They may "
        "read and\n"
        "# write what files.read and files.write name, and what read and write add here; they never see the "
        "agent's\n"
        "# data folder, gain no privileges, and reach no other call.\n"
        "#   mode     best-effort: what this kernel does not have is left out, and said (photon-agent "
        "doctor)\n"
        "#            require: calls that would need it are refused; off: programs start as they are\n"
        "#   network  any, none, or a list of ports that TCP may go out to\n"
        "#   user     whom programs run as, if the agent is root\n"
        "#   limits   cpu, memory, address-space, processes, open-files, file-size\n"
        "#   tools    the same keys for some: tools: {\"codex.*\": {mode: off}}; \"browser\", \"mcp.NAME\" "
        "of a server.\n"
        "#            Coding tools and MCP servers may write the home folder, unless an entry here says "
        "otherwise\n"
        "sandbox: {mode: best-effort, read: [], write: [], network: any, user: \"\", limits: {}, tools: {}}\n"
        "\n"
        "# runtime: the longest call. output: the most one call may write. spool: disk for output that\n"
        "# the hub has not taken yet. running: calls at once. input: the largest input of a call.\n"
        "limits: {runtime: 24h, output: 64GiB, spool: 1GiB, running: 32, input: 4MiB}\n";

const char *policy_default_text(void)
{
        return default_text;
}

enum entry_kind { ENTRY_GLOB, ENTRY_PATH, ENTRY_HOST, ENTRY_ENV };

/* Every list in the file: where it stands and where it goes. */
static const struct list_key {
        const char *section, *key;
        enum entry_kind kind;
        size_t offset;
} list_keys[] = {
        {"tools", "allow", ENTRY_GLOB, offsetof(struct policy, tools_allow)},
        {"tools", "deny", ENTRY_GLOB, offsetof(struct policy, tools_deny)},
        {"files", "read", ENTRY_PATH, offsetof(struct policy, read)},
        {"files", "write", ENTRY_PATH, offsetof(struct policy, write)},
        {"files", "deny", ENTRY_PATH, offsetof(struct policy, deny)},
        {"commands", "allow", ENTRY_GLOB, offsetof(struct policy, commands_allow)},
        {"commands", "deny", ENTRY_GLOB, offsetof(struct policy, commands_deny)},
        {"env", "pass", ENTRY_ENV, offsetof(struct policy, env_pass)},
        {"http", "allow", ENTRY_HOST, offsetof(struct policy, http_allow)},
        {"http", "deny", ENTRY_HOST, offsetof(struct policy, http_deny)},
};
#define LIST_KEYS (sizeof list_keys / sizeof *list_keys)

static struct rules *rules_at(struct policy *p, size_t offset)
{
        return (struct rules *)(void *)((char *)p + offset);
}

static const struct rules *rules_at_const(const struct policy *p, size_t offset)
{
        return (const struct rules *)(const void *)((const char *)p + offset);
}

void rules_fini(struct rules *r)
{
        for (size_t i = 0; i < r->n; i++) {
                mem_free(r->v[i].text);
                mem_free(r->v[i].path);
                mem_free(r->v[i].real);
        }
        mem_free(r->v);
        r->v = NULL;
        r->n = 0;
}

void policy_free(struct policy *p)
{
        if (!p)
                return;
        for (size_t i = 0; i < LIST_KEYS; i++)
                rules_fini(rules_at(p, list_keys[i].offset));
        rules_fini(&p->env_set);
        rules_fini(&p->protected);
        for (size_t i = 0; i < QUESTION_LISTS; i++)
                question_rules_fini(&p->questions[i]);
        policy_sandbox_fini(&p->sandbox);
        mem_free(p->file);
        mem_free(p->home);
        mem_free(p->text);
        mem_free(p);
}

const char *policy_where(const struct policy *p, const struct rule *r, char *tmp, size_t n)
{
        if (!p->file)
                return "the default policy (write a policy.yaml into the agent's data folder to change it)";
        if (!r || !r->line)
                snprintf(tmp, n, "the policy %s", p->file);
        else
                snprintf(tmp, n, "line %d of the policy %s", r->line, p->file);
        return tmp;
}

/* --- one section ------------------------------------------------------ */

int policy_entry_path(const struct policy *p, struct rule *r, const struct doc *d, struct err *e)
{
        struct err why = {0};
        int rc = policy_plain_path(p, d->text, &r->path, &why);

        if (rc)
                return err_at(e, -rc, d->line, d->col, "%s", why.msg);
        if (!strchr(r->path, '*')) {
                char *real = realpath(r->path, NULL);

                if (real) {
                        r->real = mem_strdup(real);
                        free(real);
                        if (!r->real)
                                return err_set(e, E_NOMEM, "out of memory");
                }
        }
        return 0;
}

/* What a wrong entry would silently not do must be an error here. */
static int entry_check(const struct list_key *k, const struct doc *d, struct err *e)
{
        if (d->kind != DOC_STRING && d->kind != DOC_NUMBER)
                return err_at(e, E_INVAL, d->line, d->col, "%s.%s: expected a text, got %s", k->section,
                              k->key, doc_kind_name(d->kind));
        if (!*d->text)
                return err_at(e, E_INVAL, d->line, d->col, "%s.%s: an empty entry matches nothing; remove it",
                              k->section, k->key);
        if (k->kind == ENTRY_HOST && (strstr(d->text, "//") || strpbrk(d->text, "/@ ")))
                return err_at(
                        e, E_INVAL, d->line, d->col,
                        "http.%s: \"%s\" is not a host; write host or host:port without scheme and path",
                        k->key, d->text);
        if (k->kind == ENTRY_ENV && strchr(d->text, '='))
                return err_at(e, E_INVAL, d->line, d->col,
                              "env.pass: \"%s\" holds a value; fixed values belong under env.set", d->text);
        return 0;
}

static int read_list(struct policy *p, const struct list_key *k, const struct doc *d, bool lines,
                     struct err *e)
{
        struct rules *r = rules_at(p, k->offset);
        int rc;

        if (d->kind != DOC_LIST)
                return err_at(e, E_INVAL, d->line, d->col, "%s.%s: expected a list such as [\"*\"], got %s",
                              k->section, k->key, doc_kind_name(d->kind));
        if (d->count > POLICY_RULES_MAX)
                return err_at(e, E_TOOBIG, d->line, d->col, "%s.%s: more than %d entries", k->section, k->key,
                              POLICY_RULES_MAX);
        rules_fini(r);
        r->v = mem_calloc(d->count ? d->count : 1, sizeof *r->v);
        if (!r->v)
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *i = d->child; i; i = i->next) {
                struct rule *x = &r->v[r->n];

                rc = entry_check(k, i, e);
                if (rc)
                        return rc;
                r->n++;
                x->line = lines ? i->line : 0;
                x->text = mem_strdup(i->text);
                if (!x->text)
                        return err_set(e, E_NOMEM, "out of memory");
                rc = k->kind == ENTRY_PATH ? policy_entry_path(p, x, i, e) : 0;
                if (rc)
                        return rc;
        }
        return 0;
}

static bool is_env_name(const char *s)
{
        if (!*s || (*s >= '0' && *s <= '9'))
                return false;
        for (; *s; s++)
                if (!(*s == '_' || (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
                      (*s >= '0' && *s <= '9')))
                        return false;
        return true;
}

static int read_env_set(struct policy *p, const struct doc *d, bool lines, struct err *e)
{
        if (d->kind != DOC_MAP)
                return err_at(e, E_INVAL, d->line, d->col,
                              "env.set: expected a map such as {NAME: value}, got %s",
                              doc_kind_name(d->kind));
        if (d->count > POLICY_RULES_MAX)
                return err_at(e, E_TOOBIG, d->line, d->col, "env.set: more than %d entries",
                              POLICY_RULES_MAX);
        rules_fini(&p->env_set);
        p->env_set.v = mem_calloc(d->count ? d->count : 1, sizeof *p->env_set.v);
        if (!p->env_set.v)
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *i = d->child; i; i = i->next) {
                struct rule *x = &p->env_set.v[p->env_set.n];

                if (!is_env_name(i->key))
                        return err_at(e, E_INVAL, i->key_line, i->key_col,
                                      "env.set: \"%s\" is not the name of a variable", i->key);
                if (i->kind != DOC_STRING && i->kind != DOC_NUMBER && i->kind != DOC_BOOL)
                        return err_at(e, E_INVAL, i->line, i->col, "env.set.%s: expected a text, got %s",
                                      i->key, doc_kind_name(i->kind));
                x->line = lines ? i->line : 0;
                x->text = str_printf("%s=%s", i->key, i->text);
                if (!x->text)
                        return err_set(e, E_NOMEM, "out of memory");
                p->env_set.n++;
        }
        return 0;
}

static int read_limit(struct policy *p, const struct doc *d, struct err *e)
{
        static const int64_t size_max = (int64_t)1 << 50;
        struct policy_limits *l = &p->limits;
        int64_t v = 0;
        const char *want = "a size such as 64MiB";
        const char *text = d->text ? d->text : "";
        int rc;

        if (strcmp(d->key, "runtime") == 0) {
                want = "a duration such as 24h";
                rc = str_parse_duration(text, &v);
                if (rc == 0 && v < 1)
                        rc = -E_INVAL;
                l->runtime_ms = v;
        } else if (strcmp(d->key, "running") == 0) {
                want = "a number from 1 to 10000";
                rc = str_parse_i64(text, 1, 10000, &v);
                l->running = (int)v;
        } else {
                bool input = strcmp(d->key, "input") == 0;

                if (input)
                        want = "a size from 1KiB to 64MiB";
                rc = str_parse_size(text, &v);
                if (rc == 0 && (v < 1024 || v > (input ? (int64_t)64 << 20 : size_max)))
                        rc = -E_INVAL;
                if (input)
                        l->input_bytes = v;
                else if (strcmp(d->key, "output") == 0)
                        l->output_bytes = v;
                else
                        l->spool_bytes = v;
        }
        if (rc)
                return err_at(e, E_INVAL, d->line, d->col, "limits.%s: expected %s", d->key, want);
        return 0;
}

/* --- the document ----------------------------------------------------- */

static int unknown_key(const struct doc *d, const char *section, const char *const *known, size_t n,
                       struct err *e)
{
        const char *near = str_nearest(d->key, known, n);

        return err_at(e, E_INVAL, d->key_line, d->key_col, "unknown key \"%s%s%s\"%s%s%s", section,
                      *section ? "." : "", d->key, near ? "; did you mean \"" : "", near ? near : "",
                      near ? "\"?" : "");
}

static int read_member(struct policy *p, const char *section, const struct doc *d, bool lines, struct err *e)
{
        static const char *const limit_keys[] = {"runtime", "output", "spool", "running", "input"};
        const char *known[8];
        size_t n = 0;

        for (size_t i = 0; i < LIST_KEYS; i++) {
                if (strcmp(list_keys[i].section, section) != 0)
                        continue;
                if (strcmp(list_keys[i].key, d->key) == 0)
                        return read_list(p, &list_keys[i], d, lines, e);
                known[n++] = list_keys[i].key;
        }
        if (strcmp(section, "commands") == 0) {
                known[n++] = "shell";
                if (strcmp(d->key, "shell") == 0) {
                        if (d->kind != DOC_BOOL)
                                return err_at(e, E_INVAL, d->line, d->col,
                                              "commands.shell: expected true or false");
                        p->shell = d->number != 0;
                        return 0;
                }
        }
        if (strcmp(section, "env") == 0) {
                known[n++] = "set";
                if (strcmp(d->key, "set") == 0)
                        return read_env_set(p, d, lines, e);
        }
        if (strcmp(section, "browser") == 0) {
                bool *flags[] = {&p->browser.evaluate, &p->browser.files};

                known[n++] = "evaluate";
                known[n++] = "files";
                for (size_t i = 0; i < n; i++) {
                        if (strcmp(d->key, known[i]) != 0)
                                continue;
                        if (d->kind != DOC_BOOL)
                                return err_at(e, E_INVAL, d->line, d->col,
                                              "browser.%s: expected true or false", d->key);
                        *flags[i] = d->number != 0;
                        return 0;
                }
        }
        if (strcmp(section, "questions") == 0)
                return policy_question_read(p, d, lines, e);
        if (strcmp(section, "limits") == 0)
                for (size_t i = 0; i < sizeof limit_keys / sizeof *limit_keys; i++) {
                        if (strcmp(d->key, limit_keys[i]) == 0)
                                return read_limit(p, d, e);
                        known[n++] = limit_keys[i];
                }
        return unknown_key(d, section, known, n, e);
}

static int read_doc(struct policy *p, const char *text, size_t len, bool lines, struct err *e)
{
        static const char *const sections[] = {"version", "tools",   "files",     "commands", "env",
                                               "http",    "browser", "questions", "sandbox",  "limits"};
        struct doc *top = NULL;
        const struct doc *v;
        int rc = doc_parse(text, len, &top, e);

        if (rc)
                return rc;
        if (top->kind != DOC_MAP) {
                rc = err_at(e, E_INVAL, top->line, top->col,
                            "expected a map that starts with \"version: 1\"");
                goto out;
        }
        v = doc_get(top, "version");
        if (!v || !v->text || strcmp(v->text, "1") != 0) {
                rc = err_at(e, v ? E_VERSION : E_INVAL, v ? v->line : 1, v ? v->col : 1,
                            v ? "version: this agent understands version 1 only"
                              : "\"version: 1\" is missing; it says how the rest is meant");
                goto out;
        }
        for (const struct doc *s = top->child; s && rc == 0; s = s->next) {
                bool known = false;

                for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
                        known |= strcmp(sections[i], s->key) == 0;
                if (!known) {
                        rc = unknown_key(s, "", sections, sizeof sections / sizeof *sections, e);
                } else if (s != v && s->kind != DOC_MAP) {
                        rc = err_at(e, E_INVAL, s->line, s->col, "%s: expected a map, got %s", s->key,
                                    doc_kind_name(s->kind));
                } else if (strcmp(s->key, "sandbox") == 0) {
                        rc = policy_sandbox_read(p, s, lines, e);
                } else if (s != v) {
                        for (const struct doc *m = s->child; m && rc == 0; m = m->next)
                                rc = read_member(p, s->key, m, lines, e);
                }
        }
out:
        doc_free(top);
        return rc;
}

/* --- what the rules are, in words and as a digest --------------------- */

static int put_rules(struct buf *b, const char *label, const struct rules *r)
{
        int rc = buf_puts(b, label);

        for (size_t i = 0; i < r->n && rc == 0; i++)
                rc = buf_printf(b, "%s%s", i ? ", " : " ", r->v[i].text);
        if (rc == 0 && r->n == 0)
                rc = buf_puts(b, " (none)");
        return rc ? rc : buf_putc(b, '\n');
}

/* env.set may hold what the owner thinks private: names only. */
static int put_env_names(struct buf *b, const struct rules *r)
{
        int rc = buf_puts(b, "env set:");

        for (size_t i = 0; i < r->n && rc == 0; i++)
                rc = buf_printf(b, "%s%.*s", i ? ", " : " ", (int)strcspn(r->v[i].text, "="), r->v[i].text);
        if (rc == 0 && r->n == 0)
                rc = buf_puts(b, " (none)");
        return rc ? rc : buf_putc(b, '\n');
}

static int describe(struct policy *p)
{
        static const char *const labels[LIST_KEYS] = {
                "tools:",    "  but not:", "files read:", "files written:", "  but not:",
                "commands:", "  but not:", "env passed:", "http hosts:",    "  but not:"};
        char out[32], spool[32], input[32], runtime[32];
        struct buf b;
        int rc = 0;

        buf_init(&b, 0);
        for (size_t i = 0; i < LIST_KEYS && rc == 0; i++)
                rc = put_rules(&b, labels[i], rules_at(p, list_keys[i].offset));
        if (rc == 0)
                rc = put_env_names(&b, &p->env_set);
        if (rc == 0)
                rc = policy_question_describe(p, &b);
        str_format_duration(p->limits.runtime_ms, runtime);
        str_format_size(p->limits.output_bytes, out);
        str_format_size(p->limits.spool_bytes, spool);
        str_format_size(p->limits.input_bytes, input);
        if (rc == 0)
                rc = buf_printf(&b,
                                "shell: %s\nbrowser: evaluate %s, files %s\nlimits: runtime %s, output %s, "
                                "spool %s, running %d, input %s\n",
                                p->shell ? "yes" : "no", p->browser.evaluate ? "yes" : "no",
                                p->browser.files ? "yes" : "no", runtime, out, spool, p->limits.running,
                                input);
        if (rc == 0)
                rc = policy_sandbox_describe(p, &b);
        if (rc == 0) {
                p->text = buf_steal_str(&b);
                rc = p->text ? 0 : -E_NOMEM;
        }
        buf_fini(&b);
        return rc;
}

/* Over every rule with its length, so that no two policies look alike. */
static int digest(struct policy *p)
{
        uint8_t sum[SHA256_LEN];
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_puts(&b, p->text);
        for (size_t k = 0; k <= LIST_KEYS && rc == 0; k++) {
                const struct rules *r = k < LIST_KEYS ? rules_at_const(p, list_keys[k].offset) : &p->env_set;

                rc = buf_printf(&b, "%zu\n", r->n);
                for (size_t i = 0; i < r->n && rc == 0; i++)
                        rc = buf_printf(&b, "%zu:%s\n", strlen(r->v[i].text), r->v[i].text);
        }
        if (rc == 0)
                rc = policy_question_sum(p, &b);
        if (rc == 0) {
                secret_sha256(b.data, b.len, sum);
                str_hex(sum, sizeof sum, p->sha256);
        }
        buf_fini(&b);
        return rc;
}

/* --- the file --------------------------------------------------------- */

/* -E_NOENT: there is none. */
static int slurp(const char *path, char **out, size_t *out_len, struct err *e)
{
        struct stat st;
        struct buf b;
        ssize_t n;
        int rc = 0;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

        if (fd < 0)
                return err_set(e, err_from_errno(errno), "cannot open the policy %s: %s", path,
                               strerror(errno));
        buf_init(&b, POLICY_FILE_MAX);
        if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
                rc = err_set(e, E_INVAL, "the policy %s is not a regular file", path);
        else if (st.st_uid != 0 && st.st_uid != geteuid())
                rc = err_set(e, E_DENIED,
                             "the policy %s belongs to user %u; chown it to root or to the agent's user",
                             path, (unsigned)st.st_uid);
        else if (st.st_mode & 022)
                rc = err_set(e, E_DENIED, "others may write to the policy %s; run: chmod go-w %s", path,
                             path);
        else if (st.st_size > (off_t)POLICY_FILE_MAX)
                rc = err_set(e, E_TOOBIG, "the policy %s is over 1 MiB", path);
        while (rc == 0) {
                rc = buf_reserve(&b, 4096);
                if (rc) {
                        err_set(e, -rc, "the policy %s is over 1 MiB", path);
                        break;
                }
                n = read(fd, b.data + b.len, b.cap - b.len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        rc = err_set(e, err_from_errno(errno), "cannot read the policy %s: %s", path,
                                     strerror(errno));
                if (n <= 0)
                        break;
                b.len += (size_t)n;
        }
        if (rc == 0) {
                *out_len = b.len;
                *out = buf_steal_str(&b);
                rc = *out ? 0 : err_set(e, E_NOMEM, "out of memory");
        }
        buf_fini(&b);
        close(fd);
        return rc;
}

static char *find_home(void)
{
        const char *h = getenv("HOME");
        struct passwd *pw;

        if (!h || *h != '/') {
                pw = getpwuid(geteuid());
                h = pw && pw->pw_dir && *pw->pw_dir == '/' ? pw->pw_dir : "/";
        }
        return mem_strdup(h);
}

int policy_load(const char *path, struct policy **out, struct err *e)
{
        struct policy *p = mem_calloc(1, sizeof *p);
        char *text = NULL;
        size_t len = 0;
        int rc = -E_NOMEM;

        if (!p || !(p->home = find_home())) {
                err_set(e, E_NOMEM, "out of memory");
                goto fail;
        }
        rc = read_doc(p, default_text, sizeof default_text - 1, false, e);
        if (rc)
                goto fail;
        rc = path ? slurp(path, &text, &len, e) : -E_NOENT;
        if (rc == 0) {
                struct err why = {0};

                rc = -E_NOMEM;
                p->file = mem_strdup(path);
                if (!p->file) {
                        err_set(e, E_NOMEM, "out of memory");
                        goto fail;
                }
                rc = read_doc(p, text, len, true, &why);
                if (rc) {
                        err_at(e, -rc, why.line, why.col, "%s:%d:%d: %s", path, why.line, why.col, why.msg);
                        goto fail;
                }
        } else if (rc != -E_NOENT) {
                goto fail;
        }
        rc = policy_sandbox_make(p);
        if (rc == 0)
                rc = describe(p);
        if (rc == 0)
                rc = digest(p);
        if (rc) {
                err_set(e, -rc, "out of memory");
                goto fail;
        }
        if (e)
                memset(e, 0, sizeof *e);
        mem_free(text);
        *out = p;
        return 0;
fail:
        mem_free(text);
        policy_free(p);
        return rc;
}

int policy_protect(struct policy *p, const char *path)
{
        struct rule *v = mem_realloc(p->protected.v, (p->protected.n + 1) * sizeof *v);
        struct rule *r;
        char *real;
        int rc;

        if (!v)
                return -E_NOMEM;
        p->protected.v = v;
        r = &v[p->protected.n];
        memset(r, 0, sizeof *r);
        /* A relative data folder means: relative to where the agent was started. */
        real = realpath(path, NULL);
        if (!real && path[0] != '/') {
                char cwd[PATH_MAX];
                char *whole = getcwd(cwd, sizeof cwd) ? str_printf("%s/%s", cwd, path) : NULL;

                rc = whole ? policy_plain_path(p, whole, &r->path, NULL) : -E_NOMEM;
                mem_free(whole);
        } else {
                rc = policy_plain_path(p, real ? real : path, &r->path, NULL);
        }
        if (rc == 0) {
                r->text = mem_strdup(r->path);
                r->real = real ? mem_strdup(real) : NULL;
                if (!r->text || (real && !r->real))
                        rc = -E_NOMEM;
        }
        free(real);
        if (rc) {
                mem_free(r->path);
                mem_free(r->text);
                mem_free(r->real);
                return rc;
        }
        p->protected.n++;
        return 0;
}

const struct policy_browser *policy_browser(const struct policy *p)
{
        return &p->browser;
}

const struct policy_limits *policy_limits(const struct policy *p)
{
        return &p->limits;
}

const char *policy_text(const struct policy *p)
{
        return p->text;
}

const char *policy_sha256(const struct policy *p)
{
        return p->sha256;
}

const char *policy_home(const struct policy *p)
{
        return p->home;
}
