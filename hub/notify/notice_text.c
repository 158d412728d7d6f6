#include "hub/notify/notice_text.h"

#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"
#include "hub/model/approval.h"

#define TITLE_MAX 300u /* bytes of the question in chats and subjects; webhooks have all of it */

/* ---- words ---- */

static const char *headline(const struct engine_notice *n)
{
        if (strcmp(n->event, "audit.head") == 0)
                return "The audit";
        if (strcmp(n->event, "checkpoint.escalated") == 0)
                return "Still waiting for an answer";
        if (strcmp(n->event, "checkpoint.delegated") == 0)
                return "Handed on to you";
        if (strcmp(n->kind, "approval") == 0)
                return "Approval wanted";
        if (strcmp(n->kind, "budget") == 0)
                return "Over budget";
        return strcmp(n->kind, "policy") == 0 ? "A policy asks" : "A tool asks";
}

/* The question without line breaks and control bytes, cut at a character. */
static char *one_line(const char *s)
{
        size_t n = strlen(s), cut = n < TITLE_MAX ? n : TITLE_MAX;
        char *t;

        while (cut < n && cut && ((unsigned char)s[cut] & 0xc0) == 0x80)
                cut--;
        t = mem_strndup(s, cut);
        for (char *p = t; p && *p; p++)
                if ((unsigned char)*p < ' ' || *p == 0x7f)
                        *p = ' ';
        return t;
}

static int put_plain(struct buf *b, const struct engine_notice *n, const char *title, const char *base)
{
        char until[CLOCK_RFC3339_LEN];
        int rc;

        if (n->audit_seq)
                return buf_printf(
                        b,
                        "%s: %s.\n\nKeep this: a chain that was cut or written anew does not have it. "
                        "Compare:\n    photon audit export | grep '^{\"seq\":%lld,'\n",
                        headline(n), title, (long long)n->audit_seq);
        clock_format(n->expires_us, until);
        rc = buf_printf(b, "%s: %s\n\nStep %s of run %s (%s, project %s), started by %s.\n", headline(n),
                        title, n->step_id, n->run_id, n->workflow, n->project, n->asked_by);
        if (!rc)
                rc = buf_printf(b,
                                "Without an answer by %s it counts as no.\n\n"
                                "Look and answer, logged in:\n    photon checkpoint show %s\n",
                                until, n->checkpoint_id);
        if (!rc && base)
                rc = buf_printf(b, "    %s/approve/%s\n", base, n->checkpoint_id);
        return rc;
}

/* ---- a webhook's document ---- */

static bool add_list(cJSON *o, const char *key, const cJSON *list)
{
        return !list || cJSON_AddItemReferenceToObject(o, key, (cJSON *)list);
}

static bool add_data(cJSON *d, const struct engine_notice *n, const char *base)
{
        const struct approval_rules *r = n->rules;
        char until[CLOCK_RFC3339_LEN], url[600];

        if (n->audit_seq)
                return cJSON_AddNumberToObject(d, "seq", (double)n->audit_seq) &&
                       cJSON_AddStringToObject(d, "hash", n->sha256);
        clock_format(n->expires_us, until);
        snprintf(url, sizeof url, "%s/approve/%s", base ? base : "", n->checkpoint_id);
        return cJSON_AddStringToObject(d, "checkpoint", n->checkpoint_id) &&
               cJSON_AddStringToObject(d, "kind", n->kind) && cJSON_AddStringToObject(d, "title", n->title) &&
               cJSON_AddStringToObject(d, "sha256", n->sha256) &&
               cJSON_AddStringToObject(d, "run", n->run_id) &&
               cJSON_AddStringToObject(d, "step", n->step_id) &&
               cJSON_AddStringToObject(d, "workflow", n->workflow) &&
               cJSON_AddStringToObject(d, "project", n->project) &&
               cJSON_AddStringToObject(d, "asked_by", n->asked_by) &&
               cJSON_AddStringToObject(d, "expires_at", until) &&
               (!r || (cJSON_AddNumberToObject(d, "quorum", r->quorum) && add_list(d, "roles", r->roles) &&
                       add_list(d, "users", r->users))) &&
               (!n->to || cJSON_AddStringToObject(d, "to", n->to)) &&
               (!base || cJSON_AddStringToObject(d, "url", url));
}

static char *webhook_body(const struct engine_notice *n, const char *base)
{
        char at[CLOCK_RFC3339_LEN];
        cJSON *o = cJSON_CreateObject(), *d;
        char *out = NULL;

        clock_format(n->at_us, at);
        if (o && cJSON_AddStringToObject(o, "type", n->event) &&
            cJSON_AddStringToObject(o, "timestamp", at) && (d = cJSON_AddObjectToObject(o, "data")) &&
            add_data(d, n, base))
                out = json_text(o);
        cJSON_Delete(o);
        return out;
}

/* ---- Slack: text with &, < and > escaped, or a question could link and mention ---- */

static int put_escaped(struct buf *b, const char *s)
{
        int rc = 0;

        for (; *s && !rc; s++)
                rc = *s == '&'   ? buf_puts(b, "&amp;")
                     : *s == '<' ? buf_puts(b, "&lt;")
                     : *s == '>' ? buf_puts(b, "&gt;")
                                 : buf_putc(b, *s);
        return rc;
}

static char *slack_body(const struct engine_notice *n, const char *base)
{
        char *title = one_line(n->title), *out = NULL;
        cJSON *o = cJSON_CreateObject();
        struct buf plain, text;

        buf_init(&plain, 0);
        buf_init(&text, 0);
        if (title && o && !put_plain(&plain, n, title, base) && !buf_putc(&plain, '\0') &&
            !put_escaped(&text, (const char *)plain.data) && !buf_putc(&text, '\0') &&
            cJSON_AddStringToObject(o, "text", (const char *)text.data))
                out = json_text(o);
        buf_fini(&plain);
        buf_fini(&text);
        cJSON_Delete(o);
        mem_free(title);
        return out;
}

/* ---- mail (RFC 5322, 2045, 2047): all that is not ours is in base64 ---- */

#define WORD_BYTES 42u /* of one encoded word: 75 characters at most (RFC 2047) */
#define LINE_BYTES 57u /* of one line: 76 characters (RFC 2045) */

static int put_subject(struct buf *b, const char *s)
{
        int rc = buf_puts(b, "Subject:");

        while (*s && !rc) {
                size_t n = strlen(s) < WORD_BYTES ? strlen(s) : WORD_BYTES;
                char *w;

                while (n > 1 && s[n] && ((unsigned char)s[n] & 0xc0) == 0x80)
                        n--;
                w = str_b64(s, n);
                rc = w ? buf_printf(b, " =?UTF-8?B?%s?=\r\n", w) : -1;
                mem_free(w);
                s += n;
        }
        return rc;
}

static int put_base64(struct buf *b, const char *s, size_t n)
{
        int rc = 0;

        while (n && !rc) {
                size_t k = n < LINE_BYTES ? n : LINE_BYTES;
                char *w = str_b64(s, k);

                rc = w ? buf_printf(b, "%s\r\n", w) : -1;
                mem_free(w);
                s += k;
                n -= k;
        }
        return rc;
}

static void mail_date(int64_t at_us, char out[40])
{
        /* Names are the RFC's, whatever the locale. */
        static const char *const days[] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
        static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                             "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        char iso[CLOCK_RFC3339_LEN];
        int year = 1970, month = 1, day = 1;

        clock_format(at_us, iso);
        (void)sscanf(iso, "%4d-%2d-%2d", &year, &month, &day);
        snprintf(out, 40, "%s, %02d %s %04d %.8s +0000", days[at_us / 86400000000 % 7], day,
                 months[(month - 1) % 12], year, iso + 11);
}

static int put_head(struct buf *b, const struct target *t, const struct engine_notice *n, const char *id,
                    const char *title)
{
        const char *at = strchr(t->from, '@');
        char date[40], *subject = str_printf("[PHOTON] %s: %s", headline(n), title);
        int rc = subject ? 0 : -1;

        mail_date(n->at_us, date);
        if (!rc)
                rc = buf_printf(b, "Date: %s\r\nFrom: %s\r\nTo: %s", date, t->from, t->to[0]);
        for (size_t i = 1; t->to[i] && !rc; i++)
                rc = buf_printf(b, ",\r\n %s", t->to[i]);
        if (!rc)
                rc = buf_puts(b, "\r\n");
        if (!rc)
                rc = put_subject(b, subject);
        if (!rc)
                rc = buf_printf(
                        b,
                        "Message-ID: <%s%s>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
                        "Content-Type: text/plain; charset=utf-8\r\n"
                        "Content-Transfer-Encoding: base64\r\n\r\n",
                        id, at ? at : "@photon");
        mem_free(subject);
        return rc;
}

static char *mail_body(const struct target *t, const struct engine_notice *n, const char *id,
                       const char *base)
{
        char *title = one_line(n->title), *out = NULL;
        struct buf text, b;

        buf_init(&text, 0);
        buf_init(&b, 0);
        if (title && !put_plain(&text, n, title, base) && !put_head(&b, t, n, id, title) &&
            !put_base64(&b, (const char *)text.data, text.len) && !buf_putc(&b, '\0'))
                out = buf_steal_str(&b);
        buf_fini(&text);
        buf_fini(&b);
        mem_free(title);
        return out;
}

char *notice_body(const struct target *t, const struct engine_notice *n, const char *id, const char *base)
{
        switch (t->type) {
        case TARGET_WEBHOOK:
                return webhook_body(n, base);
        case TARGET_SLACK:
                return slack_body(n, base);
        default:
                return mail_body(t, n, id, base);
        }
}

char *notice_signature(const struct target *t, const char *id, int64_t timestamp_s, const char *body)
{
        char *message = str_printf("%s.%lld.%s", id, (long long)timestamp_s, body), *mac;
        uint8_t sum[SHA256_LEN];
        struct buf b;
        int rc = message ? 0 : -1;

        buf_init(&b, 0);
        for (size_t i = 0; i < t->n_keys && !rc; i++) {
                secret_hmac(t->keys[i].bytes, t->keys[i].n, message, strlen(message), sum);
                mac = str_b64(sum, sizeof sum);
                rc = mac ? buf_printf(&b, "%sv1,%s", i ? " " : "", mac) : -1;
                mem_free(mac);
        }
        mem_free(message);
        message = rc || buf_putc(&b, '\0') ? NULL : buf_steal_str(&b);
        buf_fini(&b);
        return message;
}

int64_t notice_delay_ms(uint32_t attempts, int64_t retry_after_ms, double rnd)
{
        int64_t ms = NOTICE_RETRY_MS;

        for (uint32_t i = 1; i < attempts && ms < NOTICE_RETRY_MAX_MS; i++)
                ms *= 2;
        if (ms > NOTICE_RETRY_MAX_MS)
                ms = NOTICE_RETRY_MAX_MS;
        ms = ms / 2 + (int64_t)((double)(ms / 2) * rnd);
        if (retry_after_ms > NOTICE_RETRY_AFTER_MS)
                retry_after_ms = NOTICE_RETRY_AFTER_MS;
        return retry_after_ms > ms ? retry_after_ms : ms;
}
