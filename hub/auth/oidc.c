#include "hub/auth/oidc.h"

#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/auth/oidc_impl.h"

#define INTERVAL_MS 5000 /* RFC 8628 section 3.2, when the provider says nothing */

enum kind { DEVICE_BEGIN, DEVICE_POLL, WEB_BEGIN, WEB_FINISH };

/* One request of ours, and what has to be known first. */
struct op {
        struct list link;
        struct oidc *o;
        enum kind kind;
        oidc_done cb;
        oidc_web_done web_cb;
        void *arg;
        struct login_state *s; /* in o->devices (busy) or o->webs; WEB_FINISH: out of the map, ours */
        char *code;
        char *id_token; /* waits for keys */
        bool refetched;
};

static void step(struct op *p);

static int64_t now_ms(const struct oidc *o)
{
        return clock_mono_ms(o->clock);
}

/* ---- the end of an op ---- */

static void wipe(char *s)
{
        if (s)
                mem_wipe(s, strlen(s));
        mem_free(s);
}

static void op_free(struct op *p)
{
        list_remove(&p->link);
        if (p->kind == DEVICE_POLL && p->s)
                p->s->busy = false;
        if ((p->kind == WEB_FINISH || p->kind == WEB_BEGIN) && p->s)
                logins_drop(&p->o->webs, p->s); /* used up, or nobody was sent anywhere with it */
        wipe(p->code);
        wipe(p->id_token);
        mem_free(p);
}

static void finish(struct op *p, const struct oidc_answer *a, const struct oidc_web *w)
{
        if (p->web_cb)
                p->web_cb(p->arg, a, w);
        else
                p->cb(p->arg, a);
        op_free(p);
}

static void fail(struct op *p, int rc, const char *code, const struct err *e)
{
        if (rc == -E_UNAVAIL)
                log_warn("oidc", "the identity provider is no help", "issuer=%s code=%s why=\"%s\"",
                         p->o->issuer, code, e->msg);
        finish(p, &(struct oidc_answer){.rc = rc, .code = code, .err = e}, NULL);
}

static void unavailable(struct op *p, const char *what, const char *why)
{
        struct err e = {0};

        err_set(&e, E_UNAVAIL, "%s of the identity provider %s: %s", what, p->o->issuer, why);
        fail(p, -E_UNAVAIL, "provider_unavailable", &e);
}

static void no_memory(struct op *p)
{
        struct err e = {0};

        err_set(&e, E_NOMEM, "out of memory");
        fail(p, -E_NOMEM, "unavailable", &e);
}

/* ---- asking the provider ---- */

static int ask(struct op *p, const char *url, struct buf *form, net_done on_done)
{
        static const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded",
                                              "Accept: application/json", NULL};
        const struct oidc *o = p->o;
        struct buf id, secret;
        struct net_request r = {.url = url,
                                .headers = form ? headers : headers + 1,
                                .ca_file = o->ca_file,
                                .answer_max = OIDC_ANSWER_MAX};
        struct err e = {0};
        int rc = 0;

        buf_init(&id, 0);
        buf_init(&secret, 0);
        if (form) {
                r.body = form->data;
                r.body_len = form->len;
        }
        /* RFC 6749 section 2.3.1: both are form-encoded before they become a name and a password. */
        if (form && o->client_secret) {
                rc = form_put(&id, "", o->client_id);
                if (!rc)
                        rc = form_put(&secret, "", o->client_secret);
                if (!rc)
                        rc = buf_putc(&id, '\0');
                if (!rc)
                        rc = buf_putc(&secret, '\0');
                if (!rc) {
                        r.user = (const char *)id.data + 1; /* after the = */
                        r.password = (const char *)secret.data + 1;
                }
        }
        if (!rc)
                rc = net_send(o->net, &r, on_done, p, &e);
        buf_fini(&id);
        if (secret.len)
                mem_wipe(secret.data, secret.len);
        buf_fini(&secret);
        if (rc)
                unavailable(p, "the address", e.msg[0] ? e.msg : err_name(rc));
        return rc;
}

static void on_config(void *arg, const struct net_answer *a)
{
        struct op *p = arg;
        struct oidc *o = p->o;
        struct oidc_config c = {0};
        struct err e = {0};
        char why[64];

        snprintf(why, sizeof why, "status %ld", a->status);
        if (a->rc || a->status != 200) {
                unavailable(p, "the discovery document", a->rc ? a->why : why);
                return;
        }
        if (oidc_config_parse(a->body, a->len, o->issuer, &c, &e)) {
                unavailable(p, "the discovery document", e.msg);
                return;
        }
        oidc_config_fini(&o->config);
        o->config = c;
        o->have_config = true;
        o->config_ms = now_ms(o);
        step(p);
}

static void on_keys(void *arg, const struct net_answer *a)
{
        struct op *p = arg;
        struct oidc *o = p->o;
        struct jwks *keys = NULL;
        struct err e = {0};
        char why[64];

        snprintf(why, sizeof why, "status %ld", a->status);
        if (a->rc || a->status != 200) {
                unavailable(p, "the keys", a->rc ? a->why : why);
                return;
        }
        if (jwks_parse(a->body, a->len, &keys, &e)) {
                unavailable(p, "the keys", e.msg);
                return;
        }
        jwks_free(o->keys);
        o->keys = keys;
        o->keys_ms = now_ms(o);
        step(p);
}

static void get_config(struct op *p)
{
        size_t n = strlen(p->o->issuer);
        char *url = str_printf("%.*s/.well-known/openid-configuration",
                               (int)(p->o->issuer[n - 1] == '/' ? n - 1 : n), p->o->issuer);

        if (!url) {
                no_memory(p);
                return;
        }
        ask(p, url, NULL, on_config);
        mem_free(url);
}

/* ---- device flow ---- */

static int64_t seconds_of(const cJSON *doc, const char *key, int64_t def, int64_t max)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(doc, key);

        if (!cJSON_IsNumber(v) || !(v->valuedouble >= 1))
                return def;
        return v->valuedouble > (double)max ? max : (int64_t)v->valuedouble;
}

static bool copy_text(cJSON *to, const cJSON *from, const char *key, bool needed)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(from, key));

        if (!s || !*s || strlen(s) > 2000)
                return !needed;
        if (strncmp(key, "verification", 12) == 0 && !oidc_url_ok(s))
                return !needed; /* people are told to open it */
        return cJSON_AddStringToObject(to, key, s) != NULL;
}

/* What to show, and what to keep: RFC 8628 section 3.2. */
static void on_device(void *arg, const struct net_answer *a)
{
        struct op *p = arg;
        struct oidc *o = p->o;
        struct login_state *s = NULL;
        cJSON *doc = NULL, *show = NULL;
        const char *code, *word;
        int64_t life_s;
        int rc;

        if (a->rc) {
                unavailable(p, "the device login", a->why);
                return;
        }
        rc = json_parse(a->body, a->len, &doc, NULL);
        code = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, "device_code"));
        word = oidc_error(doc);
        if (rc || a->status != 200 || !code) {
                unavailable(p, "the device login", word ? word : "it gave no device code");
                cJSON_Delete(doc);
                return;
        }
        life_s = seconds_of(doc, "expires_in", 600, OIDC_DEVICE_MS / 1000);
        rc = logins_add(&o->devices, now_ms(o), life_s * 1000, &s);
        show = cJSON_CreateObject();
        if (!rc) {
                s->interval_ms = seconds_of(doc, "interval", INTERVAL_MS / 1000, 60) * 1000;
                s->next_ms = now_ms(o);
                s->device_code = mem_strdup(code);
        }
        if (!rc && (!show || !s->device_code || !copy_text(show, doc, "user_code", true) ||
                    !copy_text(show, doc, "verification_uri", true) ||
                    !copy_text(show, doc, "verification_uri_complete", false) ||
                    !cJSON_AddStringToObject(show, "handle", s->key) ||
                    !cJSON_AddNumberToObject(show, "interval", (double)s->interval_ms / 1000) ||
                    !cJSON_AddNumberToObject(show, "expires_in", (double)life_s))) {
                logins_drop(&o->devices, s);
                rc = -E_UNAVAIL;
        }
        cJSON_Delete(doc);
        if (rc == -E_UNAVAIL)
                unavailable(p, "the device login", "it gave no code to show, or no address to open");
        else if (rc)
                unavailable(p, "the device login", "too many logins are under way; try again later");
        else
                finish(p, &(struct oidc_answer){.device = show}, NULL);
        cJSON_Delete(show);
}

static void ask_device(struct op *p)
{
        struct oidc *o = p->o;
        struct buf b;
        int rc;

        if (!o->config.device) {
                struct err e = {0};

                err_set(&e, E_NOTSUP,
                        "the identity provider %s has no device login: log in with --token, or in a browser",
                        o->issuer);
                fail(p, -E_NOTSUP, "device_flow_unsupported", &e);
                return;
        }
        buf_init(&b, 0);
        rc = form_put(&b, "scope", o->scopes);
        if (!rc)
                rc = form_put(&b, "client_id", o->client_id);
        if (rc)
                no_memory(p);
        else
                ask(p, o->config.device, &b, on_device);
        buf_fini(&b);
}

/* ---- the token, and what it says ---- */

static void believe(struct op *p, const cJSON *claims)
{
        struct oidc *o = p->o;
        struct oidc_expect x = {.issuer = o->issuer,
                                .client_id = o->client_id,
                                .nonce = p->kind == WEB_FINISH ? p->s->nonce : NULL,
                                .now_s = clock_now_us(o->clock) / 1000000};
        struct oidc_person person;
        const char *code = NULL;
        struct err e = {0};
        char *next = NULL;

        if (oidc_check(claims, &x, &code, &e)) {
                fail(p, -E_DENIED, code, &e);
                return;
        }
        oidc_person_read(claims, o, &person);
        if (p->kind == WEB_FINISH) {
                next = p->s->next;
                p->s->next = NULL;
        }
        /* The code is used up: so is the login. */
        if (p->kind == DEVICE_POLL) {
                logins_drop(&o->devices, p->s);
                p->s = NULL;
        }
        finish(p, &(struct oidc_answer){.person = &person, .next = next}, NULL);
        mem_free(next);
}

static void check_token(struct op *p)
{
        struct oidc *o = p->o;
        struct err e = {0};
        cJSON *claims = NULL;
        enum jwt_fault f = jwt_verify(p->id_token, strlen(p->id_token), o->keys, &claims, &e);

        /* Rotated: the new key is fetched, but nobody can make us fetch all day long. */
        if (f == JWT_KEY_UNKNOWN && !p->refetched && now_ms(o) - o->keys_ms >= OIDC_REFETCH_MS) {
                p->refetched = true;
                ask(p, o->config.jwks, NULL, on_keys);
                return;
        }
        if (f != JWT_OK) {
                fail(p, f == JWT_NO_MEMORY ? -E_NOMEM : -E_DENIED, jwt_fault_code(f), &e);
                return;
        }
        believe(p, claims);
        cJSON_Delete(claims);
}

/* RFC 8628 section 3.5: words that mean "not yet" and "no". */
static void refused(struct op *p, const char *word)
{
        struct err e = {0};

        if (p->kind == DEVICE_POLL && strcmp(word, "authorization_pending") == 0) {
                err_set(&e, E_AGAIN, "the login waits for you to open the address and type the code");
                fail(p, -E_AGAIN, "authorization_pending", &e);
                return;
        }
        if (p->kind == DEVICE_POLL && strcmp(word, "slow_down") == 0) {
                p->s->interval_ms += INTERVAL_MS;
                err_set(&e, E_AGAIN, "the identity provider wants to be asked less often");
                fail(p, -E_AGAIN, "slow_down", &e);
                return;
        }
        if (p->kind == DEVICE_POLL) {
                logins_drop(&p->o->devices, p->s);
                p->s = NULL;
        }
        if (strcmp(word, "expired_token") == 0) {
                err_set(&e, E_DENIED, "the code has expired: log in again");
                fail(p, -E_DENIED, "login_expired", &e);
        } else if (strcmp(word, "access_denied") == 0) {
                err_set(&e, E_DENIED, "the login was refused at the identity provider");
                fail(p, -E_DENIED, "access_denied", &e);
        } else {
                err_set(&e, E_DENIED, "the identity provider refused the login: %.64s", word);
                fail(p, -E_DENIED, "login_refused", &e);
        }
}

static void on_token(void *arg, const struct net_answer *a)
{
        struct op *p = arg;
        cJSON *doc = NULL;
        const char *token, *word;

        if (a->rc) {
                unavailable(p, "the token", a->why);
                return;
        }
        if (json_parse(a->body, a->len, &doc, NULL)) {
                unavailable(p, "the token", "the answer is no JSON");
                return;
        }
        token = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, "id_token"));
        word = oidc_error(doc);
        if (a->status == 200 && token && !(p->id_token = mem_strdup(token))) {
                no_memory(p);
        } else if (p->id_token) {
                step(p);
        } else if (word) {
                char kept[64];

                snprintf(kept, sizeof kept, "%s", word);
                refused(p, kept);
        } else {
                unavailable(p, "the token",
                            "the answer holds no identity token; is the scope openid asked for?");
        }
        cJSON_Delete(doc);
}

static void ask_token(struct op *p)
{
        struct oidc *o = p->o;
        bool device = p->kind == DEVICE_POLL;
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = form_put(&b, "grant_type",
                      device ? "urn:ietf:params:oauth:grant-type:device_code" : "authorization_code");
        if (!rc)
                rc = form_put(&b, "client_id", o->client_id);
        if (!rc)
                rc = device ? form_put(&b, "device_code", p->s->device_code) : form_put(&b, "code", p->code);
        if (!rc && !device)
                rc = form_put(&b, "redirect_uri", p->s->redirect_uri);
        if (!rc && !device)
                rc = form_put(&b, "code_verifier", p->s->verifier);
        if (rc)
                no_memory(p);
        else
                ask(p, o->config.token, &b, on_token);
        if (b.len)
                mem_wipe(b.data, b.len);
        buf_fini(&b);
}

/* ---- a browser's way out ---- */

static void send_browser(struct op *p)
{
        struct oidc *o = p->o;
        char *challenge = pkce_challenge(p->s->verifier);
        struct buf b;
        char *url = NULL;
        int rc = challenge ? 0 : -E_NOMEM;

        buf_init(&b, 0);
        if (!rc)
                rc = form_put(&b, "response_type", "code");
        if (!rc)
                rc = form_put(&b, "client_id", o->client_id);
        if (!rc)
                rc = form_put(&b, "redirect_uri", p->s->redirect_uri);
        if (!rc)
                rc = form_put(&b, "scope", o->scopes);
        if (!rc)
                rc = form_put(&b, "state", p->s->key);
        if (!rc)
                rc = form_put(&b, "nonce", p->s->nonce);
        if (!rc)
                rc = form_put(&b, "code_challenge", challenge);
        if (!rc)
                rc = form_put(&b, "code_challenge_method", "S256");
        if (!rc)
                url = str_printf("%s%s%.*s", o->config.authorization,
                                 strchr(o->config.authorization, '?') ? "&" : "?", (int)b.len,
                                 (const char *)b.data);
        if (url) {
                struct login_state *s = p->s;

                s->busy = false;
                p->s = NULL; /* it waits for the browser now */
                finish(p, &(struct oidc_answer){0}, &(struct oidc_web){url, s->key});
        } else {
                no_memory(p);
        }
        mem_free(url);
        mem_free(challenge);
        buf_fini(&b);
}

/* What is missing comes first. */
static void step(struct op *p)
{
        struct oidc *o = p->o;
        int64_t now = now_ms(o);

        if (!o->have_config || now - o->config_ms >= OIDC_CONFIG_MS) {
                o->have_config = false;
                get_config(p);
        } else if (p->kind == DEVICE_BEGIN) {
                ask_device(p);
        } else if (p->kind == WEB_BEGIN) {
                send_browser(p);
        } else if (!o->keys || now - o->keys_ms >= OIDC_KEYS_MS) {
                ask(p, o->config.jwks, NULL, on_keys);
        } else if (!p->id_token) {
                ask_token(p);
        } else {
                check_token(p);
        }
}

/* ---- from outside ---- */

static struct op *op_create(struct oidc *o, enum kind kind, oidc_done cb, oidc_web_done web_cb, void *arg)
{
        struct op *p = mem_calloc(1, sizeof *p);

        if (!p)
                return NULL;
        p->o = o;
        p->kind = kind;
        p->cb = cb;
        p->web_cb = web_cb;
        p->arg = arg;
        list_push_back(&o->ops, &p->link);
        return p;
}

static void answer_now(oidc_done cb, void *arg, int rc, const char *code, const char *text)
{
        struct err e = {0};

        err_set(&e, -rc, "%s", text);
        cb(arg, &(struct oidc_answer){.rc = rc, .code = code, .err = &e});
}

void oidc_device_begin(struct oidc *o, oidc_done cb, void *arg)
{
        struct op *p = op_create(o, DEVICE_BEGIN, cb, NULL, arg);

        if (p)
                step(p);
        else
                answer_now(cb, arg, -E_NOMEM, "unavailable", "out of memory");
}

void oidc_device_poll(struct oidc *o, const char *handle, oidc_done cb, void *arg)
{
        struct login_state *s = logins_find(&o->devices, handle, now_ms(o));
        struct op *p;

        if (!s) {
                answer_now(cb, arg, -E_NOENT, "login_expired",
                           "there is no such login (any more): begin again");
                return;
        }
        if (s->busy || now_ms(o) < s->next_ms) {
                answer_now(cb, arg, -E_AGAIN, "slow_down", "ask less often");
                return;
        }
        p = op_create(o, DEVICE_POLL, cb, NULL, arg);
        if (!p) {
                answer_now(cb, arg, -E_NOMEM, "unavailable", "out of memory");
                return;
        }
        s->busy = true;
        s->next_ms = now_ms(o) + s->interval_ms;
        p->s = s;
        step(p);
}

void oidc_web_begin(struct oidc *o, const char *redirect_uri, const char *next, oidc_web_done cb, void *arg)
{
        struct login_state *s = NULL;
        struct op *p = NULL;
        struct err e = {0};
        int rc = logins_add(&o->webs, now_ms(o), OIDC_LOGIN_MS, &s);

        if (!rc) {
                s->redirect_uri = mem_strdup(redirect_uri);
                s->next = mem_strdup(next);
                p = s->redirect_uri && s->next ? op_create(o, WEB_BEGIN, NULL, cb, arg) : NULL;
                rc = p ? 0 : -E_NOMEM;
        }
        if (rc) {
                if (s)
                        logins_drop(&o->webs, s);
                err_set(&e, -rc, "%s", rc == -E_FULL ? "too many logins are under way" : "out of memory");
                cb(arg, &(struct oidc_answer){.rc = rc, .code = "unavailable", .err = &e}, NULL);
                return;
        }
        s->busy = true;
        p->s = s;
        step(p);
}

void oidc_web_finish(struct oidc *o, const char *state, const char *code, const char *iss, oidc_done cb,
                     void *arg)
{
        struct login_state *s = logins_find(&o->webs, state, now_ms(o));
        struct op *p;

        if (!s) {
                answer_now(cb, arg, -E_DENIED, "login_expired",
                           "there is no such login (any more): it took too long, or was used already");
                return;
        }
        if (iss && strcmp(iss, o->issuer) != 0) {
                logins_drop(&o->webs, s);
                answer_now(cb, arg, -E_DENIED, "token_issuer", "the answer is of another identity provider");
                return;
        }
        p = op_create(o, WEB_FINISH, cb, NULL, arg);
        if (p)
                p->code = mem_strdup(code);
        if (!p || !p->code) {
                if (p)
                        op_free(p);
                logins_drop(&o->webs, s);
                answer_now(cb, arg, -E_NOMEM, "unavailable", "out of memory");
                return;
        }
        map_del(o->webs.by_key, s->key); /* whoever comes with it again finds nothing */
        s->busy = true;
        p->s = s;
        step(p);
}

const char *oidc_issuer(const struct oidc *o)
{
        return o->issuer;
}

int64_t oidc_session_ms(const struct oidc *o)
{
        return o->session_ms;
}

static int copy(char **out, const char *s)
{
        *out = s ? mem_strdup(s) : NULL;
        return s && !*out ? -E_NOMEM : 0;
}

int oidc_create(const struct oidc_options *opt, struct oidc **out, struct err *e)
{
        struct oidc *o;

        if (!oidc_url_ok(opt->issuer))
                return err_set(e, E_INVAL, "the issuer '%.200s' is no https:// URL", opt->issuer);
        o = mem_calloc(1, sizeof *o);
        if (!o)
                return err_set(e, E_NOMEM, "out of memory");
        list_init(&o->ops);
        o->clock = opt->clock;
        o->net = opt->net;
        o->session_ms = opt->session_ms;
        o->rules = mem_calloc(opt->n_rules + 1, sizeof *o->rules);
        if (logins_init(&o->devices) || logins_init(&o->webs) || !o->rules || copy(&o->issuer, opt->issuer) ||
            copy(&o->client_id, opt->client_id) || copy(&o->client_secret, opt->client_secret) ||
            copy(&o->ca_file, opt->ca_file) ||
            copy(&o->scopes, opt->scopes ? opt->scopes : "openid profile email")) {
                oidc_free(o);
                return err_set(e, E_NOMEM, "out of memory");
        }
        if (opt->n_rules)
                memcpy(o->rules, opt->rules, opt->n_rules * sizeof *o->rules);
        o->n_rules = opt->n_rules;
        *out = o;
        return 0;
}

void oidc_free(struct oidc *o)
{
        struct list *it;

        if (!o)
                return;
        while ((it = o->ops.next) && it != &o->ops)
                op_free(container_of(it, struct op, link));
        logins_fini(&o->devices);
        logins_fini(&o->webs);
        oidc_config_fini(&o->config);
        jwks_free(o->keys);
        mem_free(o->rules);
        mem_free(o->issuer);
        mem_free(o->client_id);
        wipe(o->client_secret);
        mem_free(o->ca_file);
        mem_free(o->scopes);
        mem_free(o);
}
