/* Secrets do not leave, in whatever form and however they are cut. */
#include <stdio.h>
#include <stdlib.h>

#include "agent/mask.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "tests/lib/test.h"

#define SECRET "p@ss \"w0rd\"/<&>\\x"

static struct mask *make(const char *secret)
{
        struct mask *m;

        CHECK_INT(mask_create(&m), 0);
        CHECK_INT(mask_add(m, secret, strlen(secret)), 0);
        return m;
}

/* All of it in pieces of `step` bytes; the result is NUL-ended in *out. */
static void masked(const struct mask *m, const void *p, size_t n, size_t step, struct buf *out)
{
        struct mask_stream *s;

        buf_reset(out);
        CHECK_INT(mask_stream_create(m, &s), 0);
        for (size_t at = 0; at < n; at += step)
                CHECK_INT(mask_put(s, (const uint8_t *)p + at, at + step < n ? step : n - at, out), 0);
        CHECK_INT(mask_end(s, out), 0);
        CHECK_INT(buf_putc(out, '\0'), 0);
        mask_stream_free(s);
}

static void expect(const struct mask *m, const char *text, const char *want)
{
        struct buf b;

        buf_init(&b, 0);
        for (size_t step = 1; step <= strlen(text) + 1; step++) {
                masked(m, text, strlen(text), step, &b);
                CHECK_STR((const char *)b.data, want);
        }
        buf_fini(&b);
}

TEST(mask, the_value_itself_at_every_split)
{
        struct mask *m = make("hunter2!");

        expect(m, "hunter2!", "***");
        expect(m, "the password is hunter2!, and again hunter2!", "the password is ***, and again ***");
        expect(m, "hunter2 is no secret, hunterhunter2! is", "hunter2 is no secret, hunter*** is");
        expect(m, "", "");
        expect(m, "hunter2", "hunter2");
        mask_free(m);
}

TEST(mask, overlapping_secrets_leave_nothing_of_either)
{
        struct mask *m = make("abcdef");

        CHECK_INT(mask_add(m, "defghi", 6), 0);
        CHECK_INT(mask_add(m, "abcdefgh", 8), 0);
        expect(m, "-abcdefghi-", "-***-");
        expect(m, "-abcdef-defghi-abcdefg-", "-***-***-***g-");
        expect(m, "abcabcdefghiabcdefdefghi", "abc*********"); /* side by side: a mark each */
        mask_free(m);
}

static void leaks(const struct mask *m, const char *form, const char *what)
{
        char *text = str_printf("key=%s; end", form);

        expect(m, text, "key=***; end");
        mem_free(text);
        (void)what;
}

TEST(mask, forms_in_which_a_secret_leaks)
{
        struct mask *m = make(SECRET);
        char hex[100], *json;
        cJSON *s = cJSON_CreateString(SECRET);

        str_hex(SECRET, strlen(SECRET), hex);
        leaks(m, hex, "hex");
        leaks(m, "p%40ss%20%22w0rd%22%2F%3C%26%3E%5Cx", "percent, upper");
        leaks(m, "p%40ss%20%22w0rd%22%2f%3c%26%3e%5cx", "percent, lower");
        leaks(m, "p%40ss+%22w0rd%22%2F%3C%26%3E%5Cx", "form");
        leaks(m, "p%40ss%20%22w0rd%22/%3C%26%3E%5Cx", "path");
        json = json_text(s);
        json[strlen(json) - 1] = '\0';
        leaks(m, json + 1, "JSON");
        leaks(m, "p@ss \\\"w0rd\\\"\\/<&>\\\\x", "JSON, PHP");
        leaks(m, "p@ss \\u0022w0rd\\u0022/\\u003C\\u0026\\u003E\\\\x", "JSON, .NET");
        leaks(m, "p@ss \\\"w0rd\\\"/\\u003C\\u0026\\u003E\\\\x", "JSON, upper");
        leaks(m, "p@ss &quot;w0rd&quot;/&lt;&amp;&gt;\\x", "HTML");
        leaks(m, "p@ss &#34;w0rd&#34;/&lt;&amp;&gt;\\x", "HTML, Go");
        leaks(m, "p@ss \\\"w0rd\\\"/<&>\\\\x", "export -p");
        leaks(m, "p@ss \"w0rd\"/<&>\\\\x", "repr");
        leaks(m, "p@ss\\ \\\"w0rd\\\"/\\<\\&\\>\\\\x", "printf %q");
        leaks(m, "p@ss \\\"w0rd\\\"/\\u003c\\u0026\\u003e\\\\x", "JSON, Go");
        mem_free(json);
        cJSON_Delete(s);
        mask_free(m);
}

TEST(mask, forms_of_what_shells_and_browsers_quote)
{
        struct mask *m = make("it's ~50% of *all*!");

        leaks(m, "it'\\''s ~50% of *all*!", "bash -x");
        leaks(m, "it'\"'\"'s ~50% of *all*!", "shlex.quote");
        leaks(m, "it\\'s ~50% of *all*!", "repr with '");
        leaks(m, "it&#x27;s ~50% of *all*!", "html.escape");
        leaks(m, "it&#039;s ~50% of *all*!", "htmlspecialchars");
        leaks(m, "it%27s+%7E50%25+of+*all*%21", "URLSearchParams");
        leaks(m, "it%27s%20%7E50%25%20of%20%2Aall%2A%21", "RFC 1738");
        leaks(m, "it's%20~50%25%20of%20*all*!", "encodeURI");
        leaks(m, "it\\u0027s ~50% of *all*!", "JSON, .NET");
        leaks(m,
              "\\u0069\\u0074\\u0027\\u0073\\u0020\\u007e\\u0035\\u0030\\u0025\\u0020\\u006f\\u0066\\u0020\\u"
              "002a\\u0061\\u006c"
              "\\u006c\\u002a\\u0021",
              "JSON, all of it");
        leaks(m, "%69%74%27%73%20%7e%35%30%25%20%6f%66%20%2a%61%6c%6c%2a%21", "percent, all of it");
        mask_free(m);
}

/* A line of one secret may be another: then it has forms of its own. */
TEST(mask, a_form_of_one_secret_can_be_another)
{
        struct mask *m = make("first-line\nsecond-line");
        char *b64 = str_b64("first-line", 10);

        CHECK_INT(mask_add(m, "first-line", 10), 0);
        leaks(m, "66697273742d6c696e65", "hex of the line");
        expect(m, b64, "***Q=="); /* of the last character two bits are its own */
        mem_free(b64);
        mask_free(m);
}

static void whole(const struct mask *m, const char *text, const char *want_begin, const char *want_end)
{
        size_t n = strlen(text), begin = strlen(want_begin), end = strlen(want_end);
        struct buf b;

        buf_init(&b, 0);
        CHECK_INT(mask_whole(m, text, n, &b), 0);
        CHECK(b.len >= begin + end);
        CHECK(memcmp(b.data, want_begin, begin) == 0);
        CHECK(memcmp(b.data + b.len - end, want_end, end) == 0);
        buf_fini(&b);
}

TEST(mask, what_a_cut_left_of_a_secret_goes_too)
{
        static const char secret[] = "correct horse battery";
        struct mask *m = make(secret);
        char text[MASK_CUT_MIN + 1] = "";

        for (size_t cut = 1; cut < 21; cut++) {
                memset(text, '.', MASK_CUT_MIN);
                memcpy(text, &secret[cut], 21 - cut);
                memcpy(text + MASK_CUT_MIN - cut, secret, cut);
                whole(m, text, 21 - cut < 8 ? &secret[cut] : "***...",
                      cut < 8 ? text + MASK_CUT_MIN - cut : "...***");
        }
        whole(m, "horse battery, correct horse", "horse battery", "correct horse"); /* too short to be cut */
        whole(m, "correct horse battery, it is", "***, ", "is");
        mask_free(m);
}

/* Wherever it stands in what is encoded, at most the two characters that it shares with its neighbours stay.
 */
TEST(mask, base64_at_every_alignment)
{
        struct mask *m = make("correct horse battery");
        struct buf b;

        buf_init(&b, 0);
        for (int before = 0; before < 7; before++) {
                char *plain = str_printf("%.*scorrect horse batteryzz", before, "xyzuvwq");
                char *std = str_b64(plain, strlen(plain)), *url = str_b64url(plain, strlen(plain));

                for (int i = 0; i < 2; i++) {
                        const char *text = i ? url : std;
                        uint8_t *back = NULL;
                        size_t n;

                        masked(m, text, strlen(text), 5, &b);
                        CHECK(strstr((const char *)b.data, "***"));
                        CHECK(b.len < strlen(text) - 20);
                        CHECK(str_unb64((const char *)b.data, b.len - 1, &back, &n) != 0);
                }
                mem_free(plain);
                mem_free(std);
                mem_free(url);
        }
        buf_fini(&b);
        mask_free(m);
}

TEST(mask, lines_of_a_key_are_masked_one_by_one)
{
        struct mask *m = make("-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n-----END KEY-----\n");

        expect(m, "1: MIIEvQIBADANBg\r\n2: kqhkiG9w0BAQ\n", "1: ***\r\n2: ***\n");
        expect(m, "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n-----END KEY-----\n", "***\n");
        mask_free(m);
}

TEST(mask, what_cannot_be_masked_is_refused)
{
        struct mask *m;
        char *big = mem_alloc(MASK_SECRET_MAX + 1);

        CHECK_INT(mask_create(&m), 0);
        CHECK_INT(mask_add(m, "12345", 5), -E_INVAL);
        CHECK_INT(mask_add(m, "12345\n\n", 7), -E_INVAL);
        memset(big, 'x', MASK_SECRET_MAX + 1);
        CHECK_INT(mask_add(m, big, MASK_SECRET_MAX + 1), -E_TOOBIG);
        for (int i = 0; i < MASK_SECRETS_MAX; i++) {
                char text[32];

                snprintf(text, sizeof text, "secret-%d", i);
                CHECK_INT(mask_add(m, text, strlen(text)), 0);
        }
        CHECK_INT(mask_add(m, "one more", 8), -E_TOOBIG);
        mem_free(big);
        mask_free(m);
}

/* As many as may be, each of a length at which every form is known. */
TEST(mask, so_many_secrets_of_a_thousand_bytes_are_masked)
{
        unsigned seed = 7;
        char text[1001];
        struct mask *m;
        struct buf b;

        CHECK_INT(mask_create(&m), 0);
        for (int i = 0; i < MASK_SECRETS_MAX; i++) {
                for (size_t k = 0; k + 1 < sizeof text; k++)
                        text[k] = (char)(' ' + rand_r(&seed) % 95);
                text[sizeof text - 1] = '\0';
                CHECK_INT(mask_add(m, text, sizeof text - 1), 0);
        }
        buf_init(&b, 0);
        masked(m, text, sizeof text - 1, 100, &b);
        CHECK_STR((const char *)b.data, "***");
        buf_fini(&b);
        mask_free(m);
}

/* Against the definition: mark what belongs to a match, replace each run. */
TEST(mask, agrees_with_the_plain_definition_on_random_text)
{
        static const char *const secrets[] = {"aabaab", "abaabb", "bbbbbbb", "aaaaaab"};
        struct mask *m = make(secrets[0]);
        unsigned seed = 12345;
        struct buf b;

        for (int i = 1; i < 4; i++)
                CHECK_INT(mask_add(m, secrets[i], strlen(secrets[i])), 0);
        buf_init(&b, 0);
        for (int round = 0; round < 3000; round++) {
                char text[64], want[400];
                bool hit[64] = {0};
                size_t n = (size_t)rand_r(&seed) % sizeof text, w = 0;

                for (size_t i = 0; i < n; i++)
                        text[i] = rand_r(&seed) % 3 ? 'a' : 'b';
                for (int k = 0; k < 4; k++)
                        for (size_t i = 0, l = strlen(secrets[k]); i + l <= n; i++)
                                if (memcmp(text + i, secrets[k], l) == 0)
                                        memset(hit + i, 1, l);
                for (size_t i = 0; i < n; i++)
                        if (!hit[i])
                                want[w++] = text[i];
                masked(m, text, n, 1 + (size_t)rand_r(&seed) % 9, &b);
                want[w] = '\0';
                /* Without the stars: two matches side by side are two marks, which the definition above does
                 * not count. */
                for (size_t i = 0, o = 0; i <= b.len; i++) {
                        if (i == b.len) {
                                b.data[o ? o - 1 : 0] = '\0';
                        } else if (b.data[i] != '*') {
                                b.data[o++] = b.data[i];
                        }
                }
                CHECK_STR((const char *)b.data, want);
        }
        buf_fini(&b);
        mask_free(m);
}
