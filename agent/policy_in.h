/* The inside of a policy, shared by policy.c (reading the file), policy_path.c
 * (questions about files) and policy_ask.c (all other questions). Nobody else
 * includes this. Everything is fixed after policy_load and policy_protect. */
#ifndef PHOTON_AGENT_POLICY_IN_H
#define PHOTON_AGENT_POLICY_IN_H

#include "agent/policy.h"
#include "agent/sandbox/sandbox.h"

struct buf;
struct doc;

#define POLICY_FILE_MAX  ((size_t)1 << 20)
#define POLICY_RULES_MAX 4096

/* One entry of a list. line is 0 for an entry of the default policy. */
struct rule {
        char *text; /* as written */
        char *path; /* files.*: absolute, "~" expanded, no trailing slash but for "/" */
        char *real; /* files.*: the same after symlinks, or NULL where it does not exist */
        int line;
};

struct rules {
        struct rule *v;
        size_t n;
};

/* A rule of questions.deny, .ask or .allow: all parts that it has must match. */
struct question_rule {
        struct rules action, tool, command, paths;
        char *text; /* in words */
        int line;
};

struct question_rules {
        struct question_rule *v;
        size_t n;
};

#define QUESTION_LISTS 3 /* deny, ask, allow: looked at in this order */

/* One set of rules of the section `sandbox`. */
struct policy_sandbox_set {
        char *tools; /* NULL: for all tools */
        enum sandbox_mode mode;
        enum sandbox_network network;
        uint16_t ports[SANDBOX_PORTS_MAX];
        size_t n_ports;
        struct rules read, write; /* besides those of `files` */
        struct sandbox_limits limits;
        char *user;
};

struct policy_sandbox {
        struct policy_sandbox_set *v; /* the first is for all tools */
        size_t n;
        struct sandbox_rules *rules; /* the same for sandbox_open; made once all is read */
        const char **paths;
};

struct policy {
        char *file; /* NULL: the default policy */
        char *home;
        struct rules tools_allow, tools_deny;
        struct rules read, write, deny;
        struct rules commands_allow, commands_deny;
        struct rules env_pass;
        struct rules env_set; /* "NAME=VALUE" */
        struct rules http_allow, http_deny;
        struct question_rules questions[QUESTION_LISTS];
        struct rules protected; /* policy_protect: no rule opens these */
        bool shell;
        struct policy_browser browser;
        struct policy_limits limits;
        struct policy_sandbox sandbox;
        char *text;
        char sha256[65];
};

/* "line 7 of /etc/x.yaml" or "the default policy", for messages. */
const char *policy_where(const struct policy *p, const struct rule *r, char *tmp, size_t n);

/* "~", "~/x" or an absolute path, made plain: no "//", ".", trailing "/".
 * -E_INVAL for anything else and for "..". */
int policy_plain_path(const struct policy *p, const char *text, char **out, struct err *e);

void rules_fini(struct rules *r);
void question_rules_fini(struct question_rules *qs);

/* A text of the document as an entry of a list of paths: fills path and real. */
int policy_entry_path(const struct policy *p, struct rule *r, const struct doc *d, struct err *e);
/* Is this resolved path the entry's folder or file, or below it? */
bool policy_rule_holds(const struct rule *r, const char *real);
/* policy_resolve for a path that may be relative to cwd. */
int policy_resolve_at(const struct policy *p, const char *path, const char *cwd, char **out_real,
                      struct err *e);
/* May a shell be used at all? */
int policy_shell(const struct policy *p, struct err *e);
/* One member of the section `questions`. */
int policy_question_read(struct policy *p, const struct doc *d, bool lines, struct err *e);
int policy_question_describe(const struct policy *p, struct buf *b);
int policy_question_sum(const struct policy *p,
                        struct buf *b); /* for the digest: every text and its length */

/* The section `sandbox` (policy_sandbox.c). */
int policy_sandbox_read(struct policy *p, const struct doc *section, bool lines, struct err *e);
int policy_sandbox_make(struct policy *p); /* once all sections are read; -E_NOMEM */
int policy_sandbox_describe(const struct policy *p, struct buf *b);
void policy_sandbox_fini(struct policy_sandbox *s);

#endif
