#include "common/jointoken.h"

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#include <stdio.h>
#include <string.h>

static const char prefix[] = "pj1.";

int host_port_split(const char *host_port, char *host, int *out_port, struct err *e)
{
        const char *colon = strrchr(host_port, ':'), *from = host_port, *to;
        int64_t port;

        if (strlen(host_port) >= HOST_PORT_MAX)
                return err_set(e, E_INVAL, "an address of %zu bytes is too long", strlen(host_port));
        if (!colon || str_parse_i64(colon + 1, 1, 65535, &port))
                return err_set(e, E_INVAL, "\"%s\" is no address: write HOST:PORT, the port being 1 to 65535",
                               host_port);
        to = colon;
        if (*from == '[') {
                if (to == from + 1 || to[-1] != ']')
                        return err_set(e, E_INVAL,
                                       "\"%s\" is no address: an IPv6 address goes in brackets, [::1]:7440",
                                       host_port);
                from++;
                to--;
        } else if (memchr(from, ':', (size_t)(to - from))) {
                return err_set(e, E_INVAL,
                               "\"%s\" is no address: an IPv6 address goes in brackets, [::1]:7440",
                               host_port);
        }
        if (to == from)
                return err_set(e, E_INVAL, "\"%s\" names no host: write HOST:PORT", host_port);
        for (const char *p = from; p < to; p++) {
                if ((unsigned char)*p <= ' ' || *p == 0x7f || strchr("/@[]", *p))
                        return err_set(e, E_INVAL,
                                       "the host in an address has a character that no host name has");
        }
        if (host) {
                memcpy(host, from, (size_t)(to - from));
                host[to - from] = '\0';
        }
        if (out_port)
                *out_port = (int)port;
        return 0;
}

static int check_id(const char *id, struct err *e)
{
        if (!str_is_name(id, JOIN_TOKEN_ID_MAX))
                return err_set(e, E_INVAL,
                               "the join token's id is malformed; ask for a new token (photon token create)");
        return 0;
}

static int read_address(const cJSON *o, const char *key, const char *what, char *out, struct err *e)
{
        const char *s;
        struct err why = {0};

        if (json_str(o, key, &s, NULL))
                return err_set(e, E_INVAL,
                               "the join token lacks %s; ask for a new token (photon token create)", what);
        if (host_port_split(s, NULL, NULL, &why))
                return err_set(e, E_INVAL, "in the join token, %s: %s", what, why.msg);
        memcpy(out, s, strlen(s) + 1);
        return 0;
}

static int read_fields(const cJSON *o, struct join_token *t, struct err *e)
{
        const char *pin, *id, *secret;
        uint8_t *raw = NULL;
        size_t n = 0;
        int rc;

        rc = read_address(o, "e", "the hub's address for joining", t->enroll, e);
        if (!rc)
                rc = read_address(o, "a", "the hub's address for agents", t->agent, e);
        if (rc)
                return rc;
        if (json_str(o, "p", &pin, NULL) || strlen(pin) != 2 * sizeof t->ca_pin ||
            str_unhex(pin, t->ca_pin, sizeof t->ca_pin))
                return err_set(e, E_INVAL,
                               "the join token lacks the SHA-256 of the hub's CA; ask for a new token");
        if (json_str(o, "i", &id, NULL))
                return err_set(e, E_INVAL,
                               "the join token lacks its id; ask for a new token (photon token create)");
        rc = check_id(id, e);
        if (rc)
                return rc;
        memcpy(t->id, id, strlen(id) + 1);
        if (json_str(o, "s", &secret, NULL) || str_unb64url(secret, strlen(secret), &raw, &n) ||
            n < JOIN_TOKEN_SECRET_MIN || n > sizeof t->secret) {
                rc = err_set(e, E_INVAL,
                             "the join token's secret is missing or malformed; ask for a new token");
        } else {
                memcpy(t->secret, raw, n);
                t->secret_len = n;
        }
        if (raw) {
                mem_wipe(raw, n);
                mem_free(raw);
        }
        return rc;
}

/* The tree holds the secret as text: wipe it before it is given away. */
static void tree_wipe(cJSON *o)
{
        cJSON *s = cJSON_GetObjectItemCaseSensitive(o, "s");

        if (cJSON_IsString(s))
                mem_wipe(s->valuestring, strlen(s->valuestring));
        cJSON_Delete(o);
}

static int check_shape(const char *text, size_t n, struct err *e)
{
        if (n == 0)
                return err_set(e, E_INVAL, "the join token is empty; get one with: photon token create");
        if (n > JOIN_TOKEN_TEXT_MAX)
                return err_set(e, E_INVAL, "this is too long (%zu bytes) to be a join token", n);
        if (n < sizeof prefix || strncmp(text, prefix, sizeof prefix - 1) != 0) {
                if (n > 3 && strncmp(text, "pj", 2) == 0 && text[2] >= '2' && text[2] <= '9')
                        return err_set(e, E_INVAL,
                                       "this join token was made by a newer hub; update photon-agent");
                return err_set(
                        e, E_INVAL,
                        "this is no join token: one begins with \"%s\"; get one with: photon token create",
                        prefix);
        }
        for (size_t i = 0; i < n; i++) {
                if ((unsigned char)text[i] <= ' ')
                        return err_set(e, E_INVAL,
                                       "the join token has white space inside: paste it as one line");
        }
        return 0;
}

int join_token_parse(const char *text, struct join_token *out, struct err *e)
{
        struct join_token t = {0};
        size_t n, len = 0;
        uint8_t *raw = NULL;
        cJSON *o = NULL;
        int rc;

        text += strspn(text, " \t\r\n");
        n = strlen(text);
        while (n > 0 && strchr(" \t\r\n", text[n - 1]))
                n--;
        rc = check_shape(text, n, e);
        if (rc)
                return rc;
        rc = str_unb64url(text + sizeof prefix - 1, n - (sizeof prefix - 1), &raw, &len);
        if (rc != -E_NOMEM && (rc || json_parse((const char *)raw, len, &o, NULL) || !cJSON_IsObject(o)))
                rc = err_set(e, E_INVAL,
                             "the join token is damaged, perhaps cut short: copy it again, whole");
        if (!rc)
                rc = read_fields(o, &t, e);
        if (!rc)
                *out = t;
        mem_wipe(&t, sizeof t);
        if (raw) {
                mem_wipe(raw, len);
                mem_free(raw);
        }
        tree_wipe(o);
        return rc;
}

int join_token_format(const struct join_token *t, char **out, struct err *e)
{
        char pin[65], json[JOIN_TOKEN_TEXT_MAX];
        char *secret = NULL, *b64 = NULL, *text = NULL;
        int n, rc;

        rc = host_port_split(t->enroll, NULL, NULL, e);
        if (!rc)
                rc = host_port_split(t->agent, NULL, NULL, e);
        if (!rc)
                rc = check_id(t->id, e);
        if (!rc && (t->secret_len < JOIN_TOKEN_SECRET_MIN || t->secret_len > sizeof t->secret))
                rc = err_set(e, E_INVAL, "a join token's secret has %u to %u bytes", JOIN_TOKEN_SECRET_MIN,
                             JOIN_TOKEN_SECRET_MAX);
        if (rc)
                return rc;
        /* Every field was checked to hold nothing that JSON would escape, except quotes and
         * backslashes in a host, which no resolver takes. */
        if (strpbrk(t->enroll, "\"\\") || strpbrk(t->agent, "\"\\"))
                return err_set(e, E_INVAL, "an address for the join token holds a quote or a backslash");
        str_hex(t->ca_pin, sizeof t->ca_pin, pin);
        secret = str_b64url(t->secret, t->secret_len);
        if (!secret)
                return err_set(e, E_NOMEM, "no memory for a join token");
        n = snprintf(json, sizeof json, "{\"e\":\"%s\",\"a\":\"%s\",\"p\":\"%s\",\"i\":\"%s\",\"s\":\"%s\"}",
                     t->enroll, t->agent, pin, t->id, secret);
        if (n < 0 || (size_t)n >= sizeof json)
                rc = err_set(e, E_INVAL, "the addresses are too long for a join token");
        else if (!(b64 = str_b64url(json, (size_t)n)) || !(text = str_printf("%s%s", prefix, b64)))
                rc = err_set(e, E_NOMEM, "no memory for a join token");
        else
                *out = text;
        mem_wipe(json, sizeof json);
        mem_wipe(secret, strlen(secret));
        mem_free(secret);
        if (b64) {
                mem_wipe(b64, strlen(b64));
                mem_free(b64);
        }
        return rc;
}

void join_token_wipe(struct join_token *t)
{
        mem_wipe(t, sizeof *t);
}
