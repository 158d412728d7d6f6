/* Steps are from the hub, for this session, or are not run: grants and trailers (common/stepsign.h) between
 * hub/auth/stepkey.c and agent/stepguard.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/stepguard.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/file.h"
#include "common/mac.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/secret.h"
#include "common/stepsign.h"
#include "hub/auth/auth.h"
#include "hub/auth/stepkey.h"
#include "tests/lib/test.h"

#define NOW_US ((int64_t)1800000000 * 1000000)

static int64_t mono;

static int64_t fake_now(void *ctx)
{
        (void)ctx;
        return NOW_US + mono * 1000;
}

static int64_t fake_mono(void *ctx)
{
        (void)ctx;
        return mono;
}

static const struct clock fake = {.now_us = fake_now, .mono_ms = fake_mono};

/* A hub's authority, its step key, and one agent's guard. */
struct world {
        char dir[64];
        struct ca ca;
        struct step_key *key;
        struct step_guard *guard;
        struct step_grant grant;
        struct mac *mac;
        uint8_t nonce[STEP_NONCE_LEN];
        uint64_t order;
};

static void world_ca(struct ca *ca)
{
        struct err e = {0};

        CHECK(pki_key_make(&ca->ca_key_pem, &e) == 0);
        CHECK(pki_ca_make(ca->ca_key_pem, "test hub", NOW_US - 1000000, NOW_US + (int64_t)1e15,
                          &ca->ca_cert_pem, &e) == 0);
}

static void world_open(struct world *w)
{
        Photon__V1__HelloRequest m = PHOTON__V1__HELLO_REQUEST__INIT;
        struct err e = {0};

        memset(w, 0, sizeof *w);
        mono = 1000;
        strcpy(w->dir, "/tmp/photon-stepsign-XXXXXX");
        CHECK(mkdtemp(w->dir) != NULL);
        world_ca(&w->ca);
        CHECK(step_key_open(w->dir, &w->ca, NULL, &w->key, &e) == 0);
        CHECK(step_guard_create(&fake, &w->guard) == 0);
        step_guard_ask(w->guard, &m);
        CHECK(m.step_nonce.len == STEP_NONCE_LEN);
        memcpy(w->nonce, m.step_nonce.data, STEP_NONCE_LEN);
        CHECK(step_key_grant(w->key, "agent-1", w->nonce, fake_now(NULL), &w->grant, &e) == 0);
        w->mac = mac_create(w->grant.key);
}

static void world_close(struct world *w)
{
        char path[128];

        snprintf(path, sizeof path, "%s/step.key", w->dir);
        unlink(path);
        rmdir(w->dir);
        step_grant_fini(&w->grant);
        step_key_free(w->key);
        step_guard_free(w->guard);
        mac_free(w->mac);
        pki_free_secret(w->ca.ca_key_pem);
        mem_free(w->ca.ca_cert_pem);
}

static int take(struct world *w, const char *agent, const struct step_grant *g)
{
        Photon__V1__StepGrant m = PHOTON__V1__STEP_GRANT__INIT;
        struct err e = {0};

        m.certificate.data = g->certificate;
        m.certificate.len = g->certificate_len;
        m.key.data = (uint8_t *)(uintptr_t)g->key;
        m.key.len = STEP_KEY_LEN;
        m.signature.data = g->signature;
        m.signature.len = g->signature_len;
        m.at_us = g->at_us;
        return step_guard_take(w->guard, w->ca.ca_cert_pem, agent, &m, &e);
}

struct packed {
        uint8_t bytes[512];
        size_t n;
        Photon__V1__StepStart m;
};

static void pack(struct world *w, struct packed *p, const char *input)
{
        photon__v1__step_start__init(&p->m);
        p->m.attempt_id = 7;
        p->m.tool = (char *)(uintptr_t) "process.exec";
        p->m.input = (char *)(uintptr_t)input;
        p->m.order = ++w->order;
        p->m.sent_us = fake_now(NULL);
        p->n = photon__v1__step_start__pack(&p->m, p->bytes);
        stepsign_trailer(w->mac, p->bytes, p->n, p->bytes + p->n);
        p->n += STEP_TRAILER_LEN;
}

static const char *check(struct world *w, const struct packed *p)
{
        struct err e = {0};

        return step_guard_check(w->guard, &p->m, p->bytes, p->n, &e);
}

TEST(stepsign, a_signed_step_of_this_session_is_taken_once)
{
        struct world w;
        struct packed p;

        world_open(&w);
        CHECK(take(&w, "agent-1", &w.grant) == 0);
        pack(&w, &p, "{}");
        CHECK(check(&w, &p) == NULL);
        CHECK_STR(check(&w, &p), "step_replayed");
        pack(&w, &p, "{\"a\":1}");
        CHECK(check(&w, &p) == NULL);
        world_close(&w);
}

TEST(stepsign, any_changed_byte_is_refused)
{
        struct world w;
        struct packed p;

        world_open(&w);
        CHECK(take(&w, "agent-1", &w.grant) == 0);
        pack(&w, &p, "{\"command\":\"true\"}");
        for (size_t i = 0; i < p.n; i++) {
                p.bytes[i] ^= 1;
                CHECK_STR(check(&w, &p), "step_signature");
                p.bytes[i] ^= 1;
        }
        for (size_t n = 0; n < p.n; n++) {
                struct err e = {0};

                CHECK_STR(step_guard_check(w.guard, &p.m, p.bytes, n, &e), "step_signature");
        }
        CHECK(check(&w, &p) == NULL); /* none of the false ones has used up its number */
        world_close(&w);
}

/* ---- each field ---- */

static void *member(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
        return (char *)m + f->offset;
}

/* Gives the field another value than it had: every kind that the message has is known here, so that a new
 * field is tried without anybody thinking of it. */
static void change(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
        static char one[] = "one", two[] = "two";
        static uint8_t bytes[2] = {1, 2};
        char **text = member(m, f);
        ProtobufCBinaryData *b = member(m, f);

        switch (f->type) {
        case PROTOBUF_C_TYPE_STRING:
                *text = strcmp(*text, one) ? one : two;
                return;
        case PROTOBUF_C_TYPE_BYTES:
                b->data = b->len == 1 ? bytes : bytes + 1;
                b->len = b->len == 1 ? 2 : 1;
                return;
        case PROTOBUF_C_TYPE_BOOL:
                *(protobuf_c_boolean *)member(m, f) ^= 1;
                return;
        case PROTOBUF_C_TYPE_UINT32:
                *(uint32_t *)member(m, f) += 1;
                return;
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_INT64:
                *(uint64_t *)member(m, f) += 1;
                return;
        default:
                test_fail(__FILE__, __LINE__, "the field %s is of a kind that this test does not change",
                          f->name);
        }
}

/* The message as it is now, under the trailer of what it was. */
static const char *check_as(struct world *w, Photon__V1__StepStart *m,
                            const uint8_t trailer[STEP_TRAILER_LEN])
{
        size_t n = photon__v1__step_start__get_packed_size(m);
        uint8_t *bytes = mem_alloc(n + STEP_TRAILER_LEN);
        struct err e = {0};
        const char *code;

        photon__v1__step_start__pack(m, bytes);
        memcpy(bytes + n, trailer, STEP_TRAILER_LEN);
        code = step_guard_check(w->guard, m, bytes, n + STEP_TRAILER_LEN, &e);
        mem_free(bytes);
        return code;
}

static void sign(struct world *w, const Photon__V1__StepStart *m, uint8_t trailer[STEP_TRAILER_LEN])
{
        size_t n = photon__v1__step_start__get_packed_size(m);
        uint8_t *bytes = mem_alloc(n);

        photon__v1__step_start__pack(m, bytes);
        stepsign_trailer(w->mac, bytes, n, trailer);
        mem_free(bytes);
}

TEST(stepsign, no_field_can_be_changed)
{
        const ProtobufCMessageDescriptor *d = &photon__v1__step_start__descriptor;
        Photon__V1__StepStart m = PHOTON__V1__STEP_START__INIT;
        Photon__V1__StepSecret secret = PHOTON__V1__STEP_SECRET__INIT, *secrets[] = {&secret, &secret};
        uint8_t trailer[STEP_TRAILER_LEN];
        struct world w;

        world_open(&w);
        CHECK(take(&w, "agent-1", &w.grant) == 0);
        m.secrets = secrets;
        m.n_secrets = 1;
        m.order = 1;
        m.sent_us = fake_now(NULL);
        sign(&w, &m, trailer);
        for (unsigned i = 0; i < d->n_fields; i++) {
                const ProtobufCFieldDescriptor *f = &d->fields[i];
                Photon__V1__StepStart changed = m;

                if (f->id == 20)
                        continue; /* the trailer itself */
                if (f->label == PROTOBUF_C_LABEL_REPEATED) {
                        CHECK_STR(f->name, "secrets"); /* another list needs a loop of its own below */
                        changed.n_secrets = 2;
                        CHECK_STR(check_as(&w, &changed, trailer), "step_signature");
                        changed.n_secrets = 0;
                } else {
                        change(&changed.base, f);
                }
                if (!check_as(&w, &changed, trailer))
                        test_fail(__FILE__, __LINE__, "%s was changed and the step is taken", f->name);
                CHECK_STR(check_as(&w, &changed, trailer), "step_signature");
        }
        d = &photon__v1__step_secret__descriptor;
        for (unsigned i = 0; i < d->n_fields; i++) {
                Photon__V1__StepSecret was = secret;

                change(&secret.base, &d->fields[i]);
                CHECK_STR(check_as(&w, &m, trailer), "step_signature");
                secret = was;
        }
        CHECK(check_as(&w, &m, trailer) == NULL);
        world_close(&w);
}

/* Numbers only rise: one that was held back is as good as one that was recorded. */
TEST(stepsign, steps_in_another_order_are_refused)
{
        struct world w;
        struct packed a, b, c;

        world_open(&w);
        CHECK(take(&w, "agent-1", &w.grant) == 0);
        pack(&w, &a, "{}");
        pack(&w, &b, "{}");
        w.order = UINT64_MAX - 1;
        pack(&w, &c, "{}");
        CHECK(check(&w, &b) == NULL);
        CHECK_STR(check(&w, &a), "step_replayed");
        CHECK_STR(check(&w, &b), "step_replayed");
        CHECK(check(&w, &c) == NULL);
        pack(&w, &a, "{}"); /* after the last number there is none, and 0 is none */
        CHECK_INT((long long)a.m.order, 0);
        CHECK_STR(check(&w, &a), "step_replayed");
        world_close(&w);
}

TEST(stepsign, a_step_recorded_in_another_session_is_refused)
{
        struct world w, other;
        struct packed p;

        world_open(&w);
        world_open(&other);
        CHECK(take(&w, "agent-1", &w.grant) == 0);
        pack(&other, &p, "{}");
        CHECK_STR(check(&w, &p), "step_signature");
        world_close(&other);
        world_close(&w);
}

TEST(stepsign, without_a_grant_no_step_is_run)
{
        struct world w;
        struct packed p;
        struct err e = {0};

        world_open(&w);
        pack(&w, &p, "{}");
        CHECK_STR(check(&w, &p), "step_signature");
        CHECK(step_guard_take(w.guard, w.ca.ca_cert_pem, "agent-1", NULL, &e) == -E_DENIED);
        CHECK(strstr(e.msg, "does not sign") != NULL);
        CHECK_STR(check(&w, &p), "step_signature");
        world_close(&w);
}

TEST(stepsign, a_grant_for_another_agent_session_or_time_is_refused)
{
        struct world w;
        struct step_grant g;
        struct err e = {0};
        uint8_t nonce[STEP_NONCE_LEN] = {1};

        world_open(&w);
        CHECK(take(&w, "agent-2", &w.grant) == -E_DENIED);
        CHECK(step_key_grant(w.key, "agent-1", nonce, NOW_US, &g, &e) == 0);
        CHECK(take(&w, "agent-1", &g) == -E_DENIED);
        step_grant_fini(&g);
        w.grant.at_us++;
        CHECK(take(&w, "agent-1", &w.grant) == -E_DENIED);
        w.grant.at_us--;
        w.grant.key[3] ^= 1;
        CHECK(take(&w, "agent-1", &w.grant) == -E_DENIED);
        world_close(&w);
}

/* Signs a grant with a key and certificate that are no step key's. */
static int forged(struct world *w, const struct ca *by, enum pki_purpose purpose)
{
        struct pki_issue what = {.purpose = purpose,
                                 .cn = "x",
                                 .not_before_us = NOW_US - 1000000,
                                 .not_after_us = NOW_US + 1000000};
        struct step_grant g = w->grant;
        char *key = NULL, serial[41];
        struct err e = {0};
        struct buf b;
        int rc;

        buf_init(&b, 0);
        CHECK(pki_key_make(&key, &e) == 0);
        CHECK(pki_issue(by->ca_cert_pem, by->ca_key_pem, &what, NULL, 0, key, &g.certificate,
                        &g.certificate_len, serial, &e) == 0);
        CHECK(stepsign_grant("agent-1", w->nonce, g.key, g.at_us, &b) == 0);
        CHECK(pki_sign(key, b.data, b.len, &g.signature, &g.signature_len, &e) == 0);
        rc = take(w, "agent-1", &g);
        mem_free(g.certificate);
        mem_free(g.signature);
        pki_free_secret(key);
        buf_fini(&b);
        return rc;
}

TEST(stepsign, only_a_step_key_of_this_hub_signs)
{
        struct world w;
        struct ca other = {0};

        world_open(&w);
        mono = 1000;
        world_ca(&other);
        CHECK(forged(&w, &other, PKI_SIGNER) == -E_DENIED);
        CHECK(forged(&w, &w.ca, PKI_SERVER) == -E_DENIED); /* the hub's own TLS key does not do */
        CHECK(forged(&w, &w.ca, PKI_CLIENT) == -E_DENIED); /* nor does an agent's */
        CHECK(forged(&w, &w.ca, PKI_SIGNER) == 0);         /* a new step key does, by the authority */
        pki_free_secret(other.ca_key_pem);
        mem_free(other.ca_cert_pem);
        world_close(&w);
}

TEST(stepsign, a_step_that_was_long_on_its_way_is_refused)
{
        struct world w;
        struct packed p, q;

        world_open(&w);
        CHECK(take(&w, "agent-1", &w.grant) == 0);
        pack(&w, &p, "{}");
        pack(&w, &q, "{}");
        mono += STEP_AGE_MAX_MS;
        CHECK(check(&w, &p) == NULL);
        mono += 1;
        CHECK_STR(check(&w, &q), "step_stale");
        world_close(&w);
}

TEST(stepsign, the_key_is_made_once_is_private_and_is_not_made_anew_over_a_damaged_one)
{
        struct world w;
        struct step_key *again = NULL;
        struct err e = {0};
        struct stat st;
        char path[128];
        bool made = true;

        world_open(&w);
        snprintf(path, sizeof path, "%s/step.key", w.dir);
        CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
        CHECK(step_key_open(w.dir, &w.ca, &made, &again, &e) == 0);
        CHECK(!made);
        CHECK(memcmp(step_key_rows(w.key), step_key_rows(again), 32) == 0);
        step_key_free(again);
        CHECK(chmod(path, 0644) == 0);
        CHECK(step_key_open(w.dir, &w.ca, NULL, &again, &e) == -E_DENIED);
        CHECK(file_write_atomic(path, "nonsense", 8, 0600, &e) == 0);
        CHECK(step_key_open(w.dir, &w.ca, NULL, &again, &e) == -E_CORRUPT);
        world_close(&w);
}

TEST(stepsign, starts_are_found_among_the_members_of_a_message)
{
        /* field 5 (varint), start "ab", field 2 "x", start "" */
        static const uint8_t raw[] = {0x28, 0x81, 0x01, 0x0a, 2, 'a', 'b', 0x12, 1, 'x', 0x0a, 0};
        const uint8_t *p = raw, *v = NULL;
        size_t n = sizeof raw, vn = 9;

        CHECK(stepsign_next(&p, &n, &v, &vn) == 1 && vn == 2 && memcmp(v, "ab", 2) == 0);
        CHECK(stepsign_next(&p, &n, &v, &vn) == 1 && vn == 0);
        CHECK(stepsign_next(&p, &n, &v, &vn) == 0);
        for (size_t cut = 0; cut < sizeof raw; cut++) {
                p = raw;
                n = cut;
                while (stepsign_next(&p, &n, &v, &vn) == 1)
                        CHECK(v + vn <= raw + cut);
        }
}

TEST(mac, is_hmac_sha256)
{
        uint8_t key[MAC_KEY_LEN], want[MAC_LEN], got[MAC_LEN];
        char text[300];
        struct mac *m;

        memset(key, 0xa5, sizeof key);
        memset(text, 'x', sizeof text);
        m = mac_create(key);
        for (size_t n = 0; n <= sizeof text; n += 13) {
                const struct mac_part parts[] = {{text, n / 3}, {text, n - n / 3}};

                secret_hmac(key, sizeof key, text, n, want);
                mac_sum(m, parts, 2, got);
                CHECK(memcmp(want, got, MAC_LEN) == 0);
        }
        mac_free(m);
}
