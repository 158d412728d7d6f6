/* Whom the hub tells of questions to people: the section "notices" of its configuration. Addresses and
 * secrets come from an operator's files alone; nothing that a workflow or a tool says is ever an address.
 *
 *   notices:
 *     url: https://hub.example.org:7443       # what links in notices begin with
 *     give-up-after: 24h
 *     audit-head-every: 1h
 *     targets:
 *       ops:  {type: webhook, url: https://..., secret-file: /etc/photon/ops.secret, kinds: [approval]}
 *       chat: {type: slack, url-file: /etc/photon/chat.url, projects: [shop], roles: [admin]}
 *       mail: {type: smtp, url: smtps://mail.example.org, from: hub@..., to: [ops@...], user: hub,
 *              password-file: /etc/photon/mail.password} */
#ifndef PHOTON_NOTIFY_TARGETS_H
#define PHOTON_NOTIFY_TARGETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/sched/engine.h"

struct err;

#define NOTICE_TARGETS_MAX   32
#define NOTICE_KEYS_MAX      4  /* of one webhook: the one in use and those it replaces */
#define NOTICE_KEY_MIN       24 /* bytes */
#define NOTICE_KEY_MAX       256
#define NOTICE_AUDIT_HEAD_MS (INT64_C(3600) * 1000)
#define NOTICE_GIVE_UP_MS    (INT64_C(24) * 3600 * 1000)

enum target_type { TARGET_WEBHOOK, TARGET_SLACK, TARGET_SMTP };

struct target_key {
        uint8_t bytes[NOTICE_KEY_MAX];
        size_t n;
};

/* NULL-ended lists; NULL: any. */
struct target {
        char *name;
        enum target_type type;
        char *url, *ca_file;
        struct target_key keys[NOTICE_KEYS_MAX]; /* webhook */
        size_t n_keys;
        char *user, *password, *from; /* smtp */
        char **to;
        bool clear; /* smtp:// without STARTTLS, as told */
        char **kinds, **projects, **roles, **users, **events;
};

struct targets {
        struct target *v;
        size_t n;
        char *url; /* without a slash at its end; NULL: no links */
        int64_t give_up_ms;
        int64_t audit_head_ms; /* how often those are told whose events name "audit.head" */
};

/* Reads the section out of the configuration file; path NULL, or no such section: no targets. Errors name
 * file, line and column. A file with a secret in it that others may read is refused. Blocking, at start-up.
 */
int targets_read(const char *path, struct targets *out, struct err *e);
/* The same from text; path: for messages. */
int targets_parse(const char *text, size_t n, const char *path, struct targets *out, struct err *e);
void targets_fini(struct targets *t); /* wipes secrets */
const struct target *targets_find(const struct targets *t, const char *name);

/* Is this target to be told? Pure. Roles and users are held against those whom the question asks; a question
 * that anybody may answer is for all roles. "audit.head" is for those alone whose events name it. */
bool target_wants(const struct target *t, const struct engine_notice *n);

#endif
