#include "common/err.h"
#include "common/id.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/secret.h"
#include "common/str.h"
#include "common/x509.h"
#include "hub/auth/auth.h"
#include "hub/event/bus.h"
#include "hub/store/store.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define HOUR_MS (INT64_C(3600) * 1000)

static int64_t fake_now_us;

static int64_t now_us(void *ctx)
{
        (void)ctx;
        return fake_now_us;
}

static int64_t mono_ms(void *ctx)
{
        (void)ctx;
        return fake_now_us / 1000;
}

static const struct clock fake_clock = {.now_us = now_us, .mono_ms = mono_ms};

struct world {
        const char *dir;
        struct store *store;
        struct bus *bus;
        struct ca ca;
        struct auth *auth;
        struct err e;
};

static void auth_make(struct world *w)
{
        const struct auth_options o = {.clock = &fake_clock, .store = w->store, .bus = w->bus, .ca = &w->ca};

        CHECK(auth_create(&o, &w->auth, &w->e) == 0);
}

static void world_make(struct world *w)
{
        const char *hosts[] = {"hub.example", "192.0.2.7", NULL};
        struct store_options so = {.create = true};

        memset(w, 0, sizeof *w);
        fake_now_us = clock_system.now_us(NULL);
        w->dir = test_scratch();
        so.dir = w->dir;
        CHECK(store_open(&so, &w->store, &w->e) == 0);
        CHECK(bus_create(0, &w->bus) == 0);
        CHECK(ca_init(w->dir, hosts, fake_now_us, &w->e) == 0);
        CHECK(ca_load(w->dir, NULL, fake_now_us, &w->ca, &w->e) == 0);
        auth_make(w);
}

static void world_end(struct world *w)
{
        auth_free(w->auth);
        bus_free(w->bus);
        store_close(w->store);
        ca_fini(&w->ca);
}

/* The hub starts again on the same data. */
static void world_restart(struct world *w)
{
        struct store_options so = {.dir = w->dir};

        auth_free(w->auth);
        store_close(w->store);
        CHECK(store_open(&so, &w->store, &w->e) == 0);
        auth_make(w);
}

static void commit(struct world *w, struct store_tx *tx)
{
        auth_commit(w->auth, tx, NULL, NULL);
        store_pump(w->store);
}

struct token {
        char id[32];
        uint8_t secret[32];
};

static struct token token_make(struct world *w, struct join_request r)
{
        struct store_tx *tx = store_begin(w->store);
        struct token t;

        r.ttl_ms = r.ttl_ms ? r.ttl_ms : HOUR_MS;
        r.uses = r.uses ? r.uses : 1;
        r.created_by = "test";
        CHECK(auth_join_create(w->auth, tx, &r, t.id, t.secret, &w->e) == 0);
        commit(w, tx);
        return t;
}

struct machine {
        char *key;
        uint8_t *csr;
        size_t csr_len;
        uint8_t spki[32];
};

static struct machine machine_make(void)
{
        struct machine m = {0};

        CHECK(pki_key_make(&m.key, NULL) == 0);
        CHECK(pki_csr_make(m.key, "x", &m.csr, &m.csr_len, NULL) == 0);
        CHECK(pki_key_spki_sha256(m.key, m.spki, NULL) == 0);
        return m;
}

static void machine_free(struct machine *m)
{
        pki_free_secret(m->key);
        mem_free(m->csr);
}

/* Redeems as an agent does; the proof is made from `secret`. */
static int redeem_with(struct world *w, const char *id, const uint8_t *secret, size_t secret_len,
                       const struct machine *m, const char *name, const char *hostname, struct enrolled *out)
{
        uint8_t nonce[32], transcript[64], proof[32];
        struct redeem_request q = {.token_id = id,
                                   .proof = proof,
                                   .proof_len = sizeof proof,
                                   .nonce = nonce,
                                   .csr = m->csr,
                                   .csr_len = m->csr_len,
                                   .name = name,
                                   .hostname = hostname};
        struct store_tx *tx = store_begin(w->store);
        struct enrolled en = {0};
        int rc;

        id_random(nonce, sizeof nonce);
        memcpy(transcript, nonce, 32);
        secret_sha256(m->csr, m->csr_len, transcript + 32);
        secret_proof(secret, secret_len, transcript, sizeof transcript, proof);
        rc = auth_redeem(w->auth, tx, &q, &en, &w->e);
        commit(w, tx);
        if (out) {
                *out = en;
                cJSON_Delete(out->labels);
                out->labels = NULL;
        } else {
                cJSON_Delete(en.labels);
        }
        return rc;
}

static int redeem(struct world *w, const struct token *t, const struct machine *m, const char *name,
                  struct enrolled *out)
{
        return redeem_with(w, t->id, t->secret, 32, m, name, "build-host.example.org", out);
}

#define CHECK_REFUSED(rc, text)                                                                              \
        do {                                                                                                 \
                CHECK_INT(rc, -E_DENIED);                                                                    \
                if (!strstr(w.e.msg, text))                                                                  \
                        test_fail(__FILE__, __LINE__, "refused with \"%s\"", w.e.msg);                       \
        } while (0)

TEST(auth, the_first_host_given_at_init_is_known_later)
{
        struct world w;
        struct ca bare = {0};
        char *dir;
        char host[254] = "", tiny[4];

        world_make(&w);
        CHECK(ca_given_host(&w.ca, host, sizeof host) == 0);
        CHECK_STR(host, "hub.example");
        CHECK(ca_given_host(&w.ca, tiny, sizeof tiny) == -E_NOENT);
        dir = str_printf("%s/bare", w.dir);
        CHECK(ca_init(dir, NULL, fake_now_us, &w.e) == 0);
        CHECK(ca_load(dir, NULL, fake_now_us, &bare, &w.e) == 0);
        CHECK(ca_given_host(&bare, host, sizeof host) == -E_NOENT);
        ca_fini(&bare);
        mem_free(dir);
        world_end(&w);
}

TEST(auth, token_works_once_and_again_for_the_same_key)
{
        struct world w;
        struct token t;
        struct machine a, b;
        struct enrolled one, two;

        world_make(&w);
        t = token_make(&w, (struct join_request){0});
        a = machine_make();
        b = machine_make();
        CHECK(redeem(&w, &t, &a, "", &one) == 0);
        CHECK(!one.again);
        CHECK_STR(one.name, "build-host");
        CHECK(redeem(&w, &t, &a, "", &two) == 0);
        CHECK(two.again);
        CHECK_STR(two.agent_id, one.agent_id);
        CHECK_REFUSED(redeem(&w, &t, &b, "", NULL), "used up");
        world_restart(&w);
        CHECK(redeem(&w, &t, &a, "", &two) == 0);
        CHECK(two.again);
        CHECK_STR(two.agent_id, one.agent_id);
        CHECK_REFUSED(redeem(&w, &t, &b, "", NULL), "used up");
        machine_free(&a);
        machine_free(&b);
        world_end(&w);
}

TEST(auth, unknown_id_and_wrong_secret_read_the_same)
{
        struct world w;
        struct token t;
        struct machine m;
        char first[512];
        uint8_t wrong[32] = {1};

        world_make(&w);
        t = token_make(&w, (struct join_request){0});
        m = machine_make();
        CHECK_INT(redeem_with(&w, "nosuchtoken", t.secret, 32, &m, "", "h", NULL), -E_DENIED);
        snprintf(first, sizeof first, "%s", w.e.msg);
        CHECK_INT(redeem_with(&w, t.id, wrong, 32, &m, "", "h", NULL), -E_DENIED);
        CHECK_STR(w.e.msg, first);
        CHECK(redeem(&w, &t, &m, "", NULL) == 0);
        machine_free(&m);
        world_end(&w);
}

static int on_token(void *arg, const struct row_join_token *t)
{
        snprintf(arg, 65, "%s", t->stored_key_hex);
        return 0;
}

TEST(auth, what_the_database_holds_cannot_be_used_to_join)
{
        struct world w;
        struct token t;
        struct machine m;
        struct store_reader *r;
        char hex[65] = "", secret_hex[65];
        uint8_t stored[32];

        world_make(&w);
        t = token_make(&w, (struct join_request){0});
        CHECK(store_reader_open(w.store, &r, &w.e) == 0);
        CHECK(read_join_tokens(r, on_token, hex) == 0);
        store_reader_close(r);
        CHECK(str_unhex(hex, stored, sizeof stored) == 0);
        str_hex(t.secret, 32, secret_hex);
        CHECK(strcmp(hex, secret_hex) != 0);
        m = machine_make();
        CHECK_INT(redeem_with(&w, t.id, stored, 32, &m, "", "h", NULL), -E_DENIED);
        CHECK_INT(redeem_with(&w, t.id, (const uint8_t *)hex, 64, &m, "", "h", NULL), -E_DENIED);
        machine_free(&m);
        world_end(&w);
}

TEST(auth, expired_and_revoked_tokens_say_so)
{
        struct world w;
        struct token t, u;
        struct machine m;
        struct store_tx *tx;

        world_make(&w);
        t = token_make(&w, (struct join_request){.ttl_ms = 1000});
        u = token_make(&w, (struct join_request){.uses = 5});
        m = machine_make();
        fake_now_us += 1000 * 1000;
        CHECK_REFUSED(redeem(&w, &t, &m, "", NULL), "expired");
        CHECK(redeem(&w, &u, &m, "", NULL) == 0);
        tx = store_begin(w.store);
        CHECK(auth_join_revoke(w.auth, tx, u.id, &w.e) == 0);
        CHECK_INT(auth_join_revoke(w.auth, tx, u.id, &w.e), -E_STATE);
        CHECK_INT(auth_join_revoke(w.auth, tx, "nothere", &w.e), -E_NOENT);
        commit(&w, tx);
        CHECK_REFUSED(redeem(&w, &u, &m, "", NULL), "revoked");
        world_restart(&w);
        CHECK_REFUSED(redeem(&w, &u, &m, "", NULL), "revoked");
        CHECK_REFUSED(redeem(&w, &t, &m, "", NULL), "expired");
        machine_free(&m);
        world_end(&w);
}

TEST(auth, names_follow_pattern_and_are_unique)
{
        struct world w;
        struct token any, ci, one;
        struct machine m[5];
        struct enrolled en;

        world_make(&w);
        any = token_make(&w, (struct join_request){.uses = 10});
        ci = token_make(&w, (struct join_request){.uses = 10, .name_glob = "ci-*"});
        one = token_make(&w, (struct join_request){.uses = 10, .name_glob = "laptop"});
        for (int i = 0; i < 5; i++)
                m[i] = machine_make();
        CHECK(redeem(&w, &any, &m[0], "", &en) == 0);
        CHECK_STR(en.name, "build-host");
        CHECK(redeem(&w, &any, &m[1], "", &en) == 0);
        CHECK_STR(en.name, "build-host-2");
        CHECK_REFUSED(redeem(&w, &any, &m[2], "build-host", NULL), "with another key");
        CHECK_REFUSED(redeem(&w, &any, &m[2], "no spaces", NULL), "no agent name");
        CHECK_REFUSED(redeem(&w, &ci, &m[2], "laptop", NULL), "is for agents named \"ci-*\"");
        CHECK(redeem(&w, &ci, &m[2], "ci-7", &en) == 0);
        CHECK_STR(en.name, "ci-7");
        CHECK(redeem(&w, &ci, &m[3], "", &en) == 0);
        CHECK_STR(en.name, "ci-build-host");
        CHECK(redeem_with(&w, one.id, one.secret, 32, &m[4], "", "\xff\n;drop", &en) == 0);
        CHECK_STR(en.name, "laptop");
        {
                struct machine last = machine_make();

                CHECK_REFUSED(redeem(&w, &one, &last, "", NULL), "no free name");
                CHECK(redeem_with(&w, any.id, any.secret, 32, &last, "", "\xc3\xa4--;", &en) == 0);
                CHECK_STR(en.name, "agent");
                machine_free(&last);
        }
        for (int i = 0; i < 5; i++)
                machine_free(&m[i]);
        world_end(&w);
}

TEST(auth, a_malformed_request_is_refused_after_the_proof)
{
        struct world w;
        struct token t;
        struct machine m = {0};
        uint8_t junk[100];

        world_make(&w);
        t = token_make(&w, (struct join_request){0});
        memset(junk, 0x30, sizeof junk);
        m.csr = junk;
        m.csr_len = sizeof junk;
        CHECK_REFUSED(redeem(&w, &t, &m, "", NULL), "signing request");
        m = machine_make();
        CHECK(redeem(&w, &t, &m, "", NULL) == 0);
        machine_free(&m);
        world_end(&w);
}

static void issue(struct world *w, const struct enrolled *en, const struct machine *m, uint8_t **der,
                  size_t *n)
{
        char serial[41];
        int64_t not_after;

        CHECK(auth_issue(&w->ca, en->agent_id, en->name, fake_now_us, 24 * HOUR_MS, m->csr, m->csr_len, der,
                         n, &not_after, serial, &w->e) == 0);
        CHECK(pki_cert_verify(*der, *n, w->ca.ca_cert_pem, PKI_CLIENT, fake_now_us, &w->e) == 0);
        CHECK(pki_cert_verify(*der, *n, w->ca.ca_cert_pem, PKI_SERVER, fake_now_us, &w->e) != 0);
}

TEST(auth, certificates_lead_to_live_agents_only)
{
        struct world w;
        struct token t;
        struct machine a, b;
        struct enrolled ea, eb;
        uint8_t *ca, *cb, *stolen;
        size_t na, nb, ns;
        char id[32];
        struct store_tx *tx;

        world_make(&w);
        t = token_make(&w, (struct join_request){.uses = 2});
        a = machine_make();
        b = machine_make();
        CHECK(redeem(&w, &t, &a, "a", &ea) == 0);
        CHECK(redeem(&w, &t, &b, "b", &eb) == 0);
        issue(&w, &ea, &a, &ca, &na);
        issue(&w, &eb, &b, &cb, &nb);
        issue(&w, &ea, &b, &stolen, &ns); /* a's name, b's key */
        CHECK(auth_agent_by_cert(w.auth, ca, na, id, &w.e) == 0);
        CHECK_STR(id, ea.agent_id);
        CHECK_REFUSED(auth_agent_by_cert(w.auth, stolen, ns, id, &w.e), "another key");
        tx = store_begin(w.store);
        CHECK(auth_agent_revoke(w.auth, tx, "a", &w.e) == 0);
        CHECK_INT(auth_agent_revoke(w.auth, tx, ea.agent_id, &w.e), -E_STATE);
        CHECK_INT(auth_agent_revoke(w.auth, tx, "zz", &w.e), -E_NOENT);
        commit(&w, tx);
        for (int i = 0; i < 2; i++) {
                struct enrolled again;

                CHECK_REFUSED(auth_agent_by_cert(w.auth, ca, na, id, &w.e), "revoked");
                CHECK_REFUSED(auth_rejoin(w.auth, ea.agent_id, a.spki, &again, &w.e), "revoked");
                CHECK_REFUSED(redeem(&w, &t, &a, "", NULL), "revoked");
                CHECK(auth_agent_by_cert(w.auth, cb, nb, id, &w.e) == 0);
                CHECK_REFUSED(auth_rejoin(w.auth, eb.agent_id, a.spki, &again, &w.e), "this id and key");
                CHECK(auth_rejoin(w.auth, eb.agent_id, b.spki, &again, &w.e) == 0);
                CHECK_STR(again.name, "b");
                enrolled_fini(&again);
                CHECK_STR(auth_agent(w.auth, "a")->state, "revoked");
                world_restart(&w);
        }
        mem_free(ca);
        mem_free(cb);
        mem_free(stolen);
        machine_free(&a);
        machine_free(&b);
        world_end(&w);
}

TEST(auth, a_revoked_name_is_free_and_labels_are_fixed_by_the_hub)
{
        struct world w;
        struct token t;
        struct machine a, b;
        struct enrolled en;
        struct store_tx *tx;
        cJSON *labels = cJSON_Parse("{\"zone\":\"eu\",\"gpu\":\"false\"}"),
              *set = cJSON_Parse("{\"gpu\":\"true\",\"zone\":null,\"rack\":\"7\"}");
        cJSON *bad = cJSON_Parse("{\"os\":\"beos\"}"), *worse = cJSON_Parse("{\"a b\":\"x\"}");
        char *text;

        world_make(&w);
        t = token_make(&w, (struct join_request){.uses = 3, .labels = labels});
        a = machine_make();
        b = machine_make();
        CHECK(redeem(&w, &t, &a, "same", &en) == 0);
        tx = store_begin(w.store);
        CHECK(auth_agent_label(w.auth, tx, "same", set, &w.e) == 0);
        CHECK_INT(auth_agent_label(w.auth, tx, "same", bad, &w.e), -E_INVAL);
        CHECK_INT(auth_agent_label(w.auth, tx, "same", worse, &w.e), -E_INVAL);
        commit(&w, tx);
        world_restart(&w);
        text = json_text(auth_agent(w.auth, "same")->labels);
        CHECK_STR(text, "{\"gpu\":\"true\",\"rack\":\"7\"}");
        mem_free(text);
        tx = store_begin(w.store);
        CHECK(auth_agent_drain(w.auth, tx, "same", true, &w.e) == 0);
        CHECK_STR(auth_agent(w.auth, "same")->state, "draining");
        CHECK(auth_agent_revoke(w.auth, tx, "same", &w.e) == 0);
        commit(&w, tx);
        CHECK(redeem(&w, &t, &b, "same", &en) == 0);
        CHECK_STR(auth_agent(w.auth, "same")->id, en.agent_id);
        CHECK_STR(auth_agent(w.auth, "same")->state, "active");
        cJSON_Delete(labels);
        cJSON_Delete(set);
        cJSON_Delete(bad);
        cJSON_Delete(worse);
        machine_free(&a);
        machine_free(&b);
        world_end(&w);
}

TEST(auth, join_requests_are_checked)
{
        struct world w;
        struct store_tx *tx;
        char id[32];
        uint8_t secret[32];
        const struct join_request bad[] = {
                {.uses = 0, .ttl_ms = 1000},
                {.uses = 1, .ttl_ms = 0},
                {.uses = 1, .ttl_ms = 1000, .name_glob = ""},
                {.uses = 1, .ttl_ms = 1000, .name_glob = "a\"b"},
                {.uses = 2000000, .ttl_ms = 1000},
        };

        world_make(&w);
        tx = store_begin(w.store);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                CHECK_INT(auth_join_create(w.auth, tx, &bad[i], id, secret, &w.e), -E_INVAL);
        CHECK(store_tx_empty(tx));
        store_abandon(tx);
        world_end(&w);
}

static int make_token(struct store_tx *tx, const char *name, enum role role, int64_t expires_us,
                      char token[80], char id[32])
{
        return auth_api_token_create(tx,
                                     &(struct new_api_token){.name = name,
                                                             .project = PROJECT_ALL,
                                                             .role = role,
                                                             .expires_us = expires_us,
                                                             .created_by = "me"},
                                     fake_now_us, token, id);
}

TEST(auth, api_tokens)
{
        struct world w;
        struct store_tx *tx;
        struct store_reader *r;
        struct caller c;
        char admin[80], shortlived[80], id[32], id2[32];

        world_make(&w);
        tx = store_begin(w.store);
        CHECK(make_token(tx, "me", ROLE_ADMIN, 0, admin, id) == 0);
        CHECK(make_token(tx, "ci", ROLE_CLIENT, fake_now_us + 1000, shortlived, id2) == 0);
        CHECK_INT(make_token(tx, "", ROLE_CLIENT, 0, shortlived, id2), -E_INVAL);
        store_commit(tx, NULL, NULL);
        store_pump(w.store);
        CHECK(store_reader_open(w.store, &r, &w.e) == 0);
        CHECK(auth_check_api_token(r, admin, fake_now_us, &c) == 0);
        CHECK_STR(c.name, "me");
        CHECK_STR(c.token_id, id);
        CHECK_INT(roles_in(&c.roles, PROJECT_ALL), ROLE_ADMIN);
        CHECK(auth_check_api_token(r, shortlived, fake_now_us, &c) == 0);
        CHECK_INT(auth_check_api_token(r, shortlived, fake_now_us + 1000, &c), -E_UNAUTH);
        CHECK_INT(auth_check_api_token(r, "pat_", fake_now_us, &c), -E_UNAUTH);
        admin[10] ^= 1;
        CHECK_INT(auth_check_api_token(r, admin, fake_now_us, &c), -E_UNAUTH);
        admin[10] ^= 1;
        tx = store_begin(w.store);
        CHECK(auth_api_token_revoke(r, tx, id, fake_now_us, "me", &w.e) == 0);
        CHECK_INT(auth_api_token_revoke(r, tx, "zz", fake_now_us, "me", &w.e), -E_NOENT);
        store_commit(tx, NULL, NULL);
        store_pump(w.store);
        CHECK_INT(auth_check_api_token(r, admin, fake_now_us, &c), -E_UNAUTH);
        tx = store_begin(w.store);
        CHECK_INT(auth_api_token_revoke(r, tx, id, fake_now_us, "me", &w.e), -E_STATE);
        store_abandon(tx);
        store_reader_close(r);
        world_end(&w);
}

TEST(auth, events_are_announced_when_durable)
{
        struct world w;
        int64_t before;

        world_make(&w);
        before = bus_last(w.bus);
        token_make(&w, (struct join_request){0});
        CHECK(bus_last(w.bus) == before + 1);
        CHECK(bus_last(w.bus) == bus_written(w.bus));
        world_end(&w);
}

static bool covers(const struct ca *c, const char *host)
{
        mbedtls_x509_crt crt;
        bool yes;

        mbedtls_x509_crt_init(&crt);
        CHECK(mbedtls_x509_crt_parse(&crt, (const uint8_t *)c->hub_cert_pem, strlen(c->hub_cert_pem) + 1) ==
              0);
        yes = x509_has_name(&crt, host);
        mbedtls_x509_crt_free(&crt);
        return yes;
}

TEST(ca, init_refuses_to_overwrite_and_load_renews)
{
        struct world w;
        struct ca again = {0}, later = {0};
        const char *more[] = {"other.example", NULL};
        char path[512];
        struct stat st;

        world_make(&w);
        CHECK_INT(ca_init(w.dir, NULL, fake_now_us, &w.e), -E_EXIST);
        snprintf(path, sizeof path, "%s/pki/ca.key", w.dir);
        CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
        CHECK(ca_load(w.dir, NULL, fake_now_us, &again, &w.e) == 0);
        CHECK_STR(again.hub_cert_pem, w.ca.hub_cert_pem);
        CHECK(memcmp(again.ca_sha256, w.ca.ca_sha256, 32) == 0);
        ca_fini(&again);
        CHECK(ca_load(w.dir, more, fake_now_us, &again, &w.e) == 0);
        CHECK(strcmp(again.hub_cert_pem, w.ca.hub_cert_pem) != 0);
        CHECK(covers(&again, "hub.example") && covers(&again, "192.0.2.7") && covers(&again, "::1"));
        CHECK(covers(&again, "other.example") && !covers(&w.ca, "other.example"));
        fake_now_us += INT64_C(600) * 86400 * 1000000;
        CHECK(ca_load(w.dir, NULL, fake_now_us, &later, &w.e) == 0);
        CHECK(strcmp(later.hub_cert_pem, again.hub_cert_pem) != 0);
        ca_fini(&later);
        ca_fini(&again);
        CHECK(chmod(path, 0644) == 0);
        CHECK_INT(ca_load(w.dir, NULL, fake_now_us, &again, &w.e), -E_DENIED);
        world_end(&w);
}
